package owner_test

import (
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestIssueServer(t *testing.T) {
	now := time.Now()
	ca := Must(owner.New("Owner", now, time.Hour))(t)
	key := Must(owner.NewKey())(t)
	leaf := Must(ca.IssueServer(&key.PublicKey, owner.Server{
		Service: "plant.example", PublicName: "public.example", Names: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, now, time.Hour))(t)
	for name, valid := range map[string]bool{
		"plant.example": true, "nonce.n1.plant.example": true, "nonce.p1.plant.example": true, "nonce.x1.plant.example": true,
		"public.example": true, "localhost": true, "127.0.0.1": true, "nonce.z1.plant.example": false, "other.example": false,
	} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: name})
		if (err == nil) != valid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSizes: certificates of one kind differ in size by no more than their signatures, since the size shows.
func TestSizes(t *testing.T) {
	now := time.Now()
	ca := Must(owner.New("Owner", now, time.Hour))(t)
	least, most := 1<<20, 0
	for range 64 {
		key := Must(owner.NewKey())(t)
		leaf := Must(ca.IssueServer(&key.PublicKey, owner.Server{Service: "plant.example"}, now, time.Hour))(t)
		least, most = min(least, len(leaf.Raw)), max(most, len(leaf.Raw))
	}
	if most-least > 4 {
		t.Errorf("sizes from %d to %d bytes", least, most)
	}
}

func TestParse(t *testing.T) {
	ca := Must(owner.New("Owner", time.Now(), time.Hour))(t)
	other := Must(owner.New("Other", time.Now(), time.Hour))(t)
	key := Must(ca.KeyPEM())(t)
	again := Must(owner.Parse(ca.CertificatePEM(), key))(t)
	if owner.Fingerprint(again.Certificate()) != owner.Fingerprint(ca.Certificate()) {
		t.Error("CA changed on its way through files")
	}
	leafKey := Must(owner.NewKey())(t)
	leaf := Must(ca.IssueServer(&leafKey.PublicKey, owner.Server{Service: "plant.example"}, time.Now(), time.Hour))(t)
	for name, pair := range map[string][2][]byte{
		"key of another":   {other.CertificatePEM(), key},
		"no key":           {ca.CertificatePEM(), nil},
		"no certificate":   {nil, key},
		"swapped":          {key, ca.CertificatePEM()},
		"two certificates": {append(ca.CertificatePEM(), ca.CertificatePEM()...), key},
		"not a CA":         {owner.EncodeCertificate(leaf.Raw), Must(owner.EncodeKey(leafKey))(t)},
	} {
		if _, err := owner.Parse(pair[0], pair[1]); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestClientNames: a name is what rules and people know a client by, so that no two look alike for what cannot be seen in them.
func TestClientNames(t *testing.T) {
	for name, good := range map[string]bool{
		"pump-7": true, "Pumpe 7, Süd": true, strings.Repeat("ü", owner.MaxClientName): true,
		"": false, strings.Repeat("x", owner.MaxClientName+1): false, "a\x00b": false, "a\nb": false, "a\xff": false,
		"pump\u202e7": false, "pump\u200b7": false, "pump\u00a07": false,
	} {
		if err := owner.CheckClientName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
