package sign1

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestDomain(t *testing.T) {
	key := newKey(t)
	signed, err := Sign(key, "one purpose", []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(signed)
	if err != nil || string(m.Unverified()) != "payload" {
		t.Fatalf("%v, %v", m, err)
	}
	if err := m.Verify(&key.PublicKey, "one purpose"); err != nil {
		t.Error(err)
	}
	if m.Verify(&key.PublicKey, "another purpose") == nil {
		t.Error("valid for another purpose")
	}
	if m.Verify(&newKey(t).PublicKey, "one purpose") == nil {
		t.Error("valid by another key")
	}
}

func FuzzParse(f *testing.F) {
	key := newKey(f)
	signed, err := Sign(key, "purpose", []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		if len(m.Unverified()) > len(data) {
			t.Error("more payload than message")
		}
		_ = m.Verify(&key.PublicKey, "purpose")
	}))
}
