package server

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
)

// FuzzRevocationLists: whatever stands in a file of revocation lists, it is read or refused, and none that the CA has not
// signed is read.
func FuzzRevocationLists(f *testing.F) {
	ca, err := owner.New("CA", time.Now(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("-----BEGIN X509 CRL-----\nMA==\n-----END X509 CRL-----\n"))
	f.Add(ca.CertificatePEM())
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := parseLists(data, []*x509.Certificate{ca.Certificate()})
		if err == nil && len(lists) > 0 {
			t.Fatal("a list was read that the CA has not signed")
		}
	})
}
