package signed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
)

// TestOpen: a document is what was signed, by this key, as this kind.
func TestOpen(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		kind, other := Kind{"list", "application/list"}, Kind{"bill", "application/bill"}
		data, err := kind.Sign([]byte("document"), key, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if document, err := kind.Open(data, &key.PublicKey); err != nil || string(document) != "document" {
			t.Errorf("%q, error %v", document, err)
		}
		if _, err := other.Open(data, &key.PublicKey); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("a list passes for a bill: %v", err)
		}
		if _, err := kind.Open(data[:len(data)-1], &key.PublicKey); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("a message without its end: %v", err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Kind{Name: "list"}).Sign(nil, key, rand.Reader); err == nil {
		t.Error("signed with P-521")
	}
}
