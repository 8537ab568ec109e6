package cafolder_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// TestIssueClient: a certificate is for a TLS client and for nothing else, and the folder remembers it.
func TestIssueClient(t *testing.T) {
	r := newRig(t)
	ca := Must(r.Unlock(nil))(t)
	key := Must(owner.NewKey())(t)
	leaf := Must(r.IssueClient(ca, &key.PublicKey, "pump-7", time.Hour, now))(t)
	for usage, good := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageClientAuth: true, x509.ExtKeyUsageServerAuth: false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: owner.Pool(r.Certificate), KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: now})
		if (err == nil) != good {
			t.Errorf("usage %d: %v", usage, err)
		}
	}
	if leaf.IsCA || leaf.Subject.CommonName != "pump-7" || len(leaf.DNSNames) != 0 {
		t.Errorf("%+v", leaf.Subject)
	}
	for name, validity := range map[string]time.Duration{"": time.Hour, "a\nb": time.Hour, strings.Repeat("é", 65): time.Hour, "\xff": time.Hour, "long": 2000 * time.Hour} {
		if _, err := r.IssueClient(ca, &key.PublicKey, name, validity, now); err == nil {
			t.Errorf("%q for %v: no error", name, validity)
		}
	}
	again := Must(cafolder.Open(r.Dir))(t)
	if got := again.Ledger.Clients; len(got) != 1 || got[0].Name != "pump-7" || got[0].Serial != leaf.SerialNumber.Text(16) {
		t.Errorf("%+v", got)
	}
}

// TestRevokeClient: all certificates of a name, or one by its number, once; lists have what is revoked and would still be good.
func TestRevokeClient(t *testing.T) {
	r := newRig(t)
	ca := Must(r.Unlock(nil))(t)
	key := Must(owner.NewKey())(t)
	issue := func(name string, validity time.Duration) string {
		return Must(r.IssueClient(ca, &key.PublicKey, name, validity, now))(t).SerialNumber.Text(16)
	}
	issue("a", time.Hour)
	issue("a", 3*time.Hour)
	single := issue("b", 3*time.Hour)
	issue("b", 3*time.Hour)
	for _, step := range []struct {
		name string
		want int
	}{{"a", 2}, {"a", 0}, {single, 1}, {"c", 0}} {
		if n := r.RevokeClient(step.name, now); n != step.want {
			t.Errorf("%s: %d, want %d", step.name, n, step.want)
		}
	}
	for number, left := range []int{3, 2} { // later, one has expired
		at := now.Add(time.Duration(2*number) * time.Hour)
		block, _ := pem.Decode(Must(r.RevocationList(ca, at, at.Add(time.Hour)))(t))
		list := Must(x509.ParseRevocationList(block.Bytes))(t)
		if err := list.CheckSignatureFrom(r.Certificate); err != nil {
			t.Error(err)
		}
		if len(list.RevokedCertificateEntries) != left || list.Number.Int64() != int64(number+1) {
			t.Errorf("list %v has %d entries, want %d", list.Number, len(list.RevokedCertificateEntries), left)
		}
	}
	if again := Must(cafolder.Open(r.Dir))(t); again.Ledger.Clients[0].Revoked == nil || again.Ledger.Revocations != 2 {
		t.Errorf("%+v", again.Ledger)
	}
}

func clientRequest(t testing.TB, name string, key crypto.Signer) []byte {
	der := Must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestParseClientRequest(t *testing.T) {
	ec := Must(owner.NewKey())(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := clientRequest(t, "pump-7", ec)
	changed := append([]byte{}, good...)
	block, _ := pem.Decode(changed)
	block.Bytes[len(block.Bytes)-1] ^= 1
	for name, test := range map[string]struct {
		file []byte
		says string
	}{
		"ECDSA":                 {good, ""},
		"Ed25519, without name": {clientRequest(t, "", ed), ""},
		"another name":          {clientRequest(t, "pump-8", ec), `it is for "pump-8"`},
		"weak RSA":              {clientRequest(t, "pump-7", Must(rsa.GenerateKey(rand.Reader, 1024))(t)), "1024 bits"},
		"signature":             {pem.EncodeToMemory(block), "not signed by its own key"},
		"nothing":               {nil, "no certificate request"},
	} {
		_, err := cafolder.ParseClientRequest(test.file, "pump-7")
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseClientRequest: what is taken has a key that a certificate can be issued for.
func FuzzParseClientRequest(f *testing.F) {
	block, _ := pem.Decode(clientRequest(f, "pump-7", Must(owner.NewKey())(f)))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, content []byte) {
		key, err := cafolder.ParseClientRequest(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: content}), "pump-7")
		if err == nil && key == nil {
			t.Error("no key, and no error")
		}
	})
}
