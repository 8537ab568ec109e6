package corim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// Decode reads an unsigned CoRIM as a policy of identities without rules. It accepts what Encode writes; everything else is
// attest.ErrFormat. Nobody vouches for it: see [Open] for one that is signed.
func Decode(data []byte) (id string, p *policy.Policy, err error) {
	if len(data) > MaxSize {
		return "", nil, malformed(fmt.Errorf("%d bytes are too many (at most %d)", len(data), MaxSize))
	}
	m, err := coding()
	if err != nil {
		return "", nil, err
	}
	var w corimWire
	if err := m.untag(data, tagCoRIM, &w); err != nil {
		return "", nil, malformed(err)
	}
	var identities []policy.Identity
	for i, tag := range w.Tags {
		identity, err := m.identity(tag)
		if err != nil {
			return "", nil, malformed(fmt.Errorf("tag %d: %w", i, err))
		}
		identities = append(identities, identity)
	}
	if p, err = policy.New(identities, nil); err != nil {
		return "", nil, malformed(err)
	}
	return w.ID, p, nil
}

func (m modes) identity(tag []byte) (id policy.Identity, err error) {
	var inner []byte
	if err := m.untag(tag, tagCoMID, &inner); err != nil {
		return id, err
	}
	var w comidWire
	if err := m.dec.Unmarshal(inner, &w); err != nil {
		return id, err
	}
	if again, err := m.enc.Marshal(w); err != nil || !slices.Equal(again, inner) {
		return id, errors.New("CBOR is not in its deterministic encoding")
	}
	id.Name = w.Identity.ID
	for i, t := range w.Triples.References {
		if err := m.reference(&id, i, &t); err != nil {
			return id, err
		}
	}
	for _, t := range w.Triples.Keys {
		if err := m.keys(&id, &t); err != nil {
			return id, err
		}
	}
	return id, nil
}

// reference reads the triple with that index: the first is the program's, the others are those of any_of in order.
func (m modes) reference(id *policy.Identity, index int, t *referenceWire) error {
	c := t.Environment.Class
	if c.Vendor != vendor {
		return fmt.Errorf("environment of vendor %.30q, not %q", c.Vendor, vendor)
	}
	if index == 0 {
		if c.Model != modelOfProgram || c.Layer != nil {
			return errors.New("the first triple is not that of the program")
		}
		return program(id, t.Measurements)
	}
	if c.Layer == nil || *c.Layer != uint64(index-1) {
		return errors.New("triples of platforms are not numbered in order")
	}
	r := policy.Requirement{Platform: attest.Platform(c.Model), Want: map[string][]string{}}
	for _, w := range t.Measurements {
		key, value, err := m.value(&r, &w)
		if err != nil {
			return fmt.Errorf("measurement %.30q: %w", w.Key, err)
		}
		r.Want[key] = append(r.Want[key], value)
	}
	id.AnyOf = append(id.AnyOf, r)
	return nil
}

func program(id *policy.Identity, measurements []measurementWire) error {
	to := map[string]*[]attest.Digest{"module": &id.Modules, "config": &id.Configs, "runtime": &id.Runtimes}
	for _, w := range measurements {
		list, isDigest := to[w.Key]
		switch {
		case isDigest && w.Value.only(kindDigest) && len(w.Value.Digests[0].Value) == attest.DigestSize:
			if err := w.Value.Digests[0].check(); err != nil {
				return err
			}
			*list = append(*list, attest.Digest(w.Value.Digests[0].Value))
		case w.Key == "instances" && w.Value.only(kindName):
			id.Instances = append(id.Instances, w.Value.Name)
		case w.Key == "simulated" && w.Value.only(kindName) && w.Value.Name == "allow":
			id.Simulated = true
		default:
			return fmt.Errorf("measurement %.30q of the program is not known, or has another kind of value", w.Key)
		}
	}
	return nil
}

// kinds of values
const (
	kindSVN = 1 << iota
	kindDigest
	kindName
	kindRegister
)

// only says whether there is one value, of that kind.
func (v *valuesWire) only(kind int) bool {
	have := 0
	if v.SVN != nil {
		have |= kindSVN
	}
	if len(v.Digests) == 1 {
		have |= kindDigest
	}
	if v.Name != "" {
		have |= kindName
	}
	if len(v.Registers) == 1 {
		have |= kindRegister
	}
	return have == kind && len(v.Digests) <= 1 && len(v.Registers) <= 1
}

// value reads one measurement of a platform as key and value of the policy.
func (m modes) value(r *policy.Requirement, w *measurementWire) (key, value string, err error) {
	if w.Key == keyNames[r.Platform] {
		return "", "", errors.New("an attestation key is no reference value")
	}
	v := &w.Value
	switch {
	case v.only(kindName) && slices.Contains(wordNames, w.Key):
		return w.Key, v.Name, nil
	case v.only(kindRegister) && w.Key == pcrsName:
		return registerValue(v.Registers)
	case v.only(kindDigest):
		value, err = digestText(r.Platform, &v.Digests[0])
		return w.Key, value, err
	case v.only(kindSVN):
		return m.versionValue(w)
	}
	return "", "", errors.New("it has not one value of a kind that fits its key")
}

func registerValue(registers map[uint64][]digestWire) (key, value string, err error) {
	for index, digests := range registers {
		if len(digests) != 1 {
			return "", "", errors.New("a register has not one digest")
		}
		if err := digests[0].check(); err != nil {
			return "", "", err
		}
		return pcrsName, strconv.FormatUint(index, 10) + "=" + hex.EncodeToString(digests[0].Value), nil
	}
	return "", "", errors.New("no register")
}

func digestText(p attest.Platform, d *digestWire) (string, error) {
	if err := d.check(); err != nil {
		return "", err
	}
	text := hex.EncodeToString(d.Value)
	if p.Simulated() {
		text = "sha384:" + text
	}
	return text, nil
}

func (m modes) versionValue(w *measurementWire) (key, value string, err error) {
	var n uint64
	if err := m.dec.Unmarshal(w.Value.SVN.Content, &n); err != nil {
		return "", "", err
	}
	want := uint64(tagExactSVN)
	if strings.HasPrefix(w.Key, leastMark) {
		want = tagLeastSVN
	}
	if w.Value.SVN.Number != want {
		return "", "", fmt.Errorf("security version has tag %d, not %d", w.Value.SVN.Number, want)
	}
	value = strconv.FormatUint(n, 10)
	if part, ok := strings.CutPrefix(w.Key, leastTCB+"."); ok {
		return leastTCB, part + "=" + value, nil
	}
	return w.Key, value, nil
}

func (m modes) keys(id *policy.Identity, t *keysWire) error {
	c := t.Environment.Class
	name := keyNames[attest.Platform(c.Model)]
	if c.Vendor != vendor || name == "" || c.Layer == nil || *c.Layer >= uint64(len(id.AnyOf)) || string(id.AnyOf[*c.Layer].Platform) != c.Model {
		return errors.New("attestation keys of an environment that has no reference values, or needs no keys")
	}
	r := &id.AnyOf[*c.Layer]
	for _, tag := range t.Keys {
		var d digestWire
		if tag.Number != tagThumbprint {
			return fmt.Errorf("attestation key has tag %d, not %d", tag.Number, tagThumbprint)
		}
		if err := m.dec.Unmarshal(tag.Content, &d); err != nil {
			return err
		}
		text, err := digestText(r.Platform, &d)
		if err != nil {
			return err
		}
		r.Want[name] = append(r.Want[name], text)
	}
	return nil
}
