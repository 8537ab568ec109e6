package corim

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// keyNames are the keys of each platform that name an attestation key.
var keyNames = map[attest.Platform]string{attest.TPM: "ak", attest.CCA: "cpak", attest.Sim: "key"}

// wordNames are the keys whose values are words.
var wordNames = []string{"tcb", "advisories", "allow"}

const (
	pcrsName  = "pcrs"
	leastTCB  = "min_tcb"
	leastMark = "min_"
)

// Encode writes identities as an unsigned CoRIM.
func Encode(id string, identities []policy.Identity) ([]byte, error) {
	m, err := coding()
	if err != nil {
		return nil, err
	}
	w := corimWire{ID: id, Tags: []cbor.RawMessage{}}
	for i := range identities {
		comid, err := m.comid(&identities[i])
		if err != nil {
			return nil, fmt.Errorf("CoRIM of identity %q: %w", identities[i].Name, err)
		}
		w.Tags = append(w.Tags, comid)
	}
	return m.tagged(tagCoRIM, w)
}

func (m modes) comid(id *policy.Identity) ([]byte, error) {
	program, err := programMeasurements(id)
	if err != nil {
		return nil, err
	}
	w := comidWire{Identity: tagIdentityWire{id.Name}}
	w.Triples.References = append(w.Triples.References, referenceWire{Environment: environment(modelOfProgram, nil), Measurements: program})
	for i, r := range id.AnyOf {
		n := uint64(i)
		env := environment(string(r.Platform), &n)
		measurements, keys, err := m.requirement(&r)
		if err != nil {
			return nil, err
		}
		w.Triples.References = append(w.Triples.References, referenceWire{Environment: env, Measurements: measurements})
		if len(keys) > 0 {
			w.Triples.Keys = append(w.Triples.Keys, keysWire{Environment: env, Keys: keys})
		}
	}
	inner, err := m.enc.Marshal(w)
	if err != nil {
		return nil, err
	}
	return m.tagged(tagCoMID, inner)
}

func environment(model string, layer *uint64) environmentWire {
	return environmentWire{classWire{Vendor: vendor, Model: model, Layer: layer}}
}

// programMeasurements are those that do not depend on the platform.
func programMeasurements(id *policy.Identity) (all []measurementWire, err error) {
	for _, part := range []struct {
		key     string
		digests []attest.Digest
	}{{"module", id.Modules}, {"config", id.Configs}, {"runtime", id.Runtimes}} {
		for _, d := range part.digests {
			w, err := digestOf(d[:])
			if err != nil {
				return nil, err
			}
			all = append(all, measurementWire{part.key, valuesWire{Digests: []digestWire{w}}})
		}
	}
	for _, instance := range id.Instances {
		all = append(all, measurementWire{"instances", valuesWire{Name: instance}})
	}
	if id.Simulated {
		all = append(all, measurementWire{"simulated", valuesWire{Name: "allow"}})
	}
	return all, nil
}

func (m modes) requirement(r *policy.Requirement) (all []measurementWire, keys []cbor.RawTag, err error) {
	all = []measurementWire{}
	for _, key := range slices.Sorted(maps.Keys(r.Want)) {
		for _, value := range r.Want[key] {
			if key == keyNames[r.Platform] {
				thumbprint, err := m.thumbprint(value)
				if err != nil {
					return nil, nil, err
				}
				keys = append(keys, thumbprint)
				continue
			}
			w, err := m.measurement(key, value)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", key, err)
			}
			all = append(all, w)
		}
	}
	return all, keys, nil
}

func (m modes) thumbprint(value string) (cbor.RawTag, error) {
	d, err := parseDigest(value)
	if err != nil {
		return cbor.RawTag{}, err
	}
	content, err := m.enc.Marshal(d)
	return cbor.RawTag{Number: tagThumbprint, Content: content}, err
}

// parseDigest reads hexadecimal digits, with sha384: before them or not.
func parseDigest(value string) (digestWire, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(value, "sha384:"))
	if err != nil {
		return digestWire{}, err
	}
	return digestOf(b)
}

func (m modes) measurement(key, value string) (measurementWire, error) {
	switch {
	case slices.Contains(wordNames, key):
		return measurementWire{key, valuesWire{Name: value}}, nil
	case key == pcrsName:
		return register(value)
	case key == leastTCB:
		part, number, _ := strings.Cut(value, "=")
		return m.version(key+"."+part, number, tagLeastSVN)
	case strings.HasPrefix(key, leastMark):
		return m.version(key, value, tagLeastSVN)
	}
	if d, err := parseDigest(value); err == nil {
		return measurementWire{key, valuesWire{Digests: []digestWire{d}}}, nil
	}
	return m.version(key, value, tagExactSVN)
}

func register(value string) (measurementWire, error) {
	index, digits, _ := strings.Cut(value, "=")
	n, err := strconv.ParseUint(index, 10, 8)
	if err != nil {
		return measurementWire{}, err
	}
	d, err := parseDigest(digits)
	return measurementWire{pcrsName, valuesWire{Registers: map[uint64][]digestWire{n: {d}}}}, err
}

func (m modes) version(key, value string, tag uint64) (measurementWire, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return measurementWire{}, fmt.Errorf("%q is neither a digest nor a version", value)
	}
	content, err := m.enc.Marshal(n)
	return measurementWire{key, valuesWire{SVN: &cbor.RawTag{Number: tag, Content: content}}}, err
}
