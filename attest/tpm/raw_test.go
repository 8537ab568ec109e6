package tpm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// serialized is what tpm2_quote --pcrs writes: structures of fixed size, little-endian.
func serialized(values [][]byte) []byte {
	b := make([]byte, selectionsSize)
	b[0] = 1
	lists := slices.Collect(slices.Chunk(values, digestPlaces))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(lists)))
	for _, list := range lists {
		one := make([]byte, digestsSize)
		binary.LittleEndian.PutUint32(one, uint32(len(list)))
		for i, v := range list {
			place := one[4+i*digestSize:]
			binary.LittleEndian.PutUint16(place, uint16(len(v)))
			copy(place[2:], v)
		}
		b = append(b, one...)
	}
	return b
}

func spki(t testing.TB, f *fixture) []byte {
	der, err := x509.MarshalPKIXPublicKey(f.key.Public())
	must(t, err)
	return der
}

// bare is a signature without what a TPM puts before it.
func bare(t testing.TB, f *fixture, signature []byte) []byte {
	r := &reader{rest: signature[4:]}
	first := r.sized()
	if f.scheme != algECDSA {
		return first
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(first), new(big.Int).SetBytes(r.sized())})
	must(t, err)
	return der
}

func withSize(b []byte) []byte { return appendSized(nil, b) }

// What tools write is verified as what our own attester makes is.
func TestRawQuotes(t *testing.T) {
	rsa := func(scheme uint16) *fixture {
		f := good()
		f.key, f.scheme = keys()["RSA 2048"], scheme
		return f
	}
	wide := good()
	wide.key, wide.hash, wide.bitmap = keys()["P-384"], algSHA384, []byte{0xff, 0xff, 0xff}
	wide.pcrs = slices.Repeat([][]byte{bytes.Repeat([]byte{3}, 32)}, 24)
	for name, f := range map[string]*fixture{"ECDSA": good(), "RSASSA": rsa(algRSASSA), "RSAPSS": rsa(algRSAPSS), "P-384": wide} {
		message, values := f.quote(), f.pcrs
		signature := f.signature(t, message)
		for form, c := range map[string]struct{ message, signature, pcrs, key []byte }{
			"as tpm2_quote writes it":    {message, signature, serialized(values), withSize(f.public(t))},
			"values, public area":        {message, signature, bytes.Join(values, nil), f.public(t)},
			"size before, bare":          {withSize(message), bare(t, f, signature), serialized(values), f.public(t)},
			"key alone":                  {message, signature, serialized(values), spki(t, f)},
			"key alone, bare (not PSS)":  {message, bare(t, f, signature), serialized(values), spki(t, f)},
			"another message":            {flip(message, 60), signature, serialized(values), f.public(t)},
			"another message, key alone": {flip(message, 60), signature, serialized(values), spki(t, f)},
			"another PCR":                {message, signature, flip(serialized(values), selectionsSize+4+4+2), f.public(t)},
		} {
			want, bad := KeyDigest(f.public(t)), strings.HasPrefix(form, "another") || f.scheme == algRSAPSS && strings.Contains(form, "not PSS")
			claims, err := raw(c.message, c.signature, c.pcrs, c.key)
			if bad {
				if !errors.Is(err, attest.ErrSignature) {
					t.Errorf("%s, %s: %v", name, form, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(claims.ReportData, f.extra) || !bytes.Equal(claims.Measurements["pcr0"], values[0]) {
				t.Errorf("%s, %s: %v, %+v", name, form, err, claims)
			}
			if ak, alone := claims.Measurements["ak"], strings.HasPrefix(form, "key alone"); alone != (ak == nil) || !alone && !bytes.Equal(ak, want[:]) {
				t.Errorf("%s, %s: ak is %x", name, form, ak)
			}
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// raw does what a tool with these files does.
func raw(message, signature, pcrs, keyFile []byte) (none attest.PlatformClaims, err error) {
	key, err := ParseKey(keyFile)
	if err != nil {
		return none, err
	}
	values, err := ParsePCRs(message, pcrs)
	if err != nil {
		return none, err
	}
	q, err := ReadQuote(message, signature, values, key)
	if err != nil {
		return none, err
	}
	if key.Public == nil {
		return q.Claims(key)
	}
	evidence, err := q.Evidence(key)
	if err != nil {
		return none, err
	}
	return verifyQuote(evidence, now)
}

func TestRawFilesThatAreNone(t *testing.T) {
	f := good()
	message, public := f.quote(), f.public(t)
	signature := f.signature(t, message)
	for name, c := range map[string]struct{ message, signature, pcrs, key []byte }{
		"no quote":                {[]byte("no quote"), signature, serialized(f.pcrs), public},
		"no key":                  {message, signature, serialized(f.pcrs), []byte("no key")},
		"no key, DER":             {message, signature, serialized(f.pcrs), []byte{0x30, 0}},
		"no PCRs":                 {message, signature, nil, public},
		"PCRs cut short":          {message, signature, serialized(f.pcrs)[:500], public},
		"too many lists":          {message, signature, append(serialized(f.pcrs), 1), public},
		"too many values":         {message, signature, func() []byte { b := serialized(f.pcrs); b[selectionsSize+4] = 9; return b }(), public},
		"a value that is too big": {message, signature, func() []byte { b := serialized(f.pcrs); b[selectionsSize+8] = 65; return b }(), public},
		"long signature":          {message, make([]byte, maxPart+1), serialized(f.pcrs), public},
		"PCRs of another quote":   {message, signature, serialized(f.pcrs[:2]), public},
	} {
		if _, err := raw(c.message, c.signature, c.pcrs, c.key); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	f := good()
	f.withCertificates = true
	fields, err := Describe(f.make(t))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, field := range fields {
		said[field.Name] = field.Value
	}
	for name, want := range map[string]string{
		"qualifying data": strings.Repeat("07", 32), "PCR14": strings.Repeat("12", 32), "PCRs of the bank SHA-256": "0 1 14", "attestation key": "P-256, ECDSA with SHA-256",
		"firmware of the TPM": "0102030405060708", "clock": "0s of running, safe",
	} {
		if said[name] != want {
			t.Errorf("%s is %q, want %q; there are %v", name, said[name], want, slices.Sorted(maps.Keys(said)))
		}
	}
	if said["certificate of the key"] == "" || said["ak_ca"] == "" {
		t.Errorf("no certificate: %v", said)
	}
	if _, err := Describe(attest.Quote{}); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

func FuzzRaw(f *testing.F) {
	good := good()
	message := good.quote()
	f.Add(message, good.signature(f, message), serialized(good.pcrs), good.public(f))
	f.Add(withSize(message), good.signature(f, message), bytes.Join(good.pcrs, nil), spki(f, good))
	f.Fuzz(func(t *testing.T, message, signature, pcrs, key []byte) {
		fuzzbound.Check(t, len(message)+len(signature)+len(pcrs)+len(key), func() { tryRaw(t, message, signature, pcrs, key) })
	})
}

// tryRaw reads the files of a quote, as far as they can be read.
func tryRaw(t *testing.T, message, signature, pcrs, key []byte) {
	claims, err := raw(message, signature, pcrs, key)
	if err == nil && (claims.Platform != attest.TPM || len(claims.Measurements) == 0) {
		t.Errorf("%+v", claims)
	}
	if values, err := ParsePCRs(message, pcrs); err == nil {
		if _, err := DescribeQuote(&SignedQuote{Attested: message, PCRs: values}); err != nil {
			t.Error(err)
		}
	}
	if k, err := ParseKey(key); err == nil && (k.hash != crypto.SHA256 && k.hash != crypto.SHA384 || len(k.Describe()) == 0) {
		t.Errorf("%+v", k)
	}
}
