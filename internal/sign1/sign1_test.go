package sign1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/internal/sign1"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

const domain = "vouchmq/test/v1"

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	return testkit.Must(ecdsa.GenerateKey(curve, rand.Reader))(t)
}

// lengths are those around which the head of a byte string changes.
var lengths = []int{0, 1, 23, 24, 255, 256, 65535, 65536, 70000}

// What is written here another implementation of COSE accepts, and the other way round, byte by byte.
func TestIsCOSE(t *testing.T) {
	key := newKey(t, elliptic.P256())
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range lengths {
		payload := bytes.Repeat([]byte{'x'}, n)
		data, err := sign1.Sign(key, domain, payload)
		if err != nil {
			t.Fatal(err)
		}
		var m cose.Sign1Message
		if err := m.UnmarshalCBOR(data); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := m.Verify([]byte(domain), verifier); err != nil || !bytes.Equal(m.Payload, payload) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if again, err := m.MarshalCBOR(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%d bytes: encoded otherwise: %v", n, err)
		}
		check(t, foreign(t, key, payload), key, payload)
	}
}

// foreign is a message by the other implementation.
func foreign(t testing.TB, key *ecdsa.PrivateKey, payload []byte) []byte {
	t.Helper()
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
	m.Payload = payload
	if err := m.Sign(rand.Reader, []byte(domain), signer); err != nil {
		t.Fatal(err)
	}
	data, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func check(t *testing.T, data []byte, key *ecdsa.PrivateKey, payload []byte) {
	t.Helper()
	m, err := sign1.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Verify(&key.PublicKey, domain); err != nil || !bytes.Equal(m.Unverified(), payload) {
		t.Errorf("%d bytes: %v", len(payload), err)
	}
}

// No bit of a message can change, and no byte be missing or added.
func TestRefusesEveryChange(t *testing.T) {
	key := newKey(t, elliptic.P256())
	data, err := sign1.Sign(key, domain, bytes.Repeat([]byte{7}, 30))
	if err != nil {
		t.Fatal(err)
	}
	accepted := func(data []byte) bool {
		m, err := sign1.Parse(data)
		return err == nil && m.Verify(&key.PublicKey, domain) == nil
	}
	if !accepted(data) {
		t.Fatal("the message itself is refused")
	}
	for i := range len(data) * 8 {
		changed := bytes.Clone(data)
		changed[i/8] ^= 1 << (i % 8)
		if accepted(changed) {
			t.Errorf("bit %d can be changed", i)
		}
	}
	for i := range data {
		if accepted(data[:i]) || accepted(append(bytes.Clone(data), make([]byte, i+1)...)) {
			t.Errorf("%d bytes, or %d more, are accepted", i, i+1)
		}
	}
}

func TestRefusesOtherForms(t *testing.T) {
	head := "\xd2\x84\x43\xa1\x01\x26\xa0"
	tail := "\x58\x40" + string(make([]byte, 64))
	for name, data := range map[string]string{
		"a long head of a short payload":   head + "\x58\x01x" + tail,
		"a longer head of a short payload": head + "\x59\x00\x01x" + tail,
		"the longest head":                 head + "\x5b\x00\x00\x00\x00\x00\x00\x00\x01x" + tail,
		"an indefinite length":             head + "\x5f\x41x\xff" + tail,
		"text":                             head + "\x61x" + tail,
		"a payload elsewhere":              head + "\xf6" + tail,
		"a huge length":                    head + "\x5a\xff\xff\xff\xff" + tail,
		"half a length":                    head + "\x5a\xff",
		"no tag":                           head[1:] + "\x41x" + tail,
		"another algorithm":                "\xd2\x84\x44\xa1\x01\x38\x22\xa0\x41x" + tail,
		"a header more":                    "\xd2\x84\x43\xa1\x01\x26\xa1\x04\x41k\x41x" + tail,
		"a short signature":                head + "\x41x\x58\x3f" + string(make([]byte, 63)),
	} {
		if _, err := sign1.Parse([]byte(data)); !errors.Is(err, sign1.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusesOthers(t *testing.T) {
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	if _, err := sign1.Sign(other, domain, nil); err == nil {
		t.Error("a key on P-384 signs")
	}
	data, err := sign1.Sign(key, domain, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := sign1.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"a key on P-384":   m.Verify(&other.PublicKey, domain),
		"another key":      m.Verify(&newKey(t, elliptic.P256()).PublicKey, domain),
		"another domain":   m.Verify(&key.PublicKey, domain+"2"),
		"no domain at all": m.Verify(&key.PublicKey, ""),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// FuzzParse: whatever is accepted has the shape that another implementation writes again byte by byte.
func FuzzParse(f *testing.F) {
	key := newKey(f, elliptic.P256())
	for _, n := range lengths[:6] {
		data, err := sign1.Sign(key, domain, make([]byte, n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := sign1.Parse(data)
		if err != nil {
			return
		}
		var other cose.Sign1Message
		if err := other.UnmarshalCBOR(data); err != nil {
			t.Fatal(err)
		}
		if again, err := other.MarshalCBOR(); err != nil || !bytes.Equal(again, data) || !bytes.Equal(other.Payload, m.Unverified()) {
			t.Fatalf("another implementation reads it otherwise: %v", err)
		}
	})
}
