package server_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
)

// pki is a folder with certificates for a test.
type pki struct {
	t       testing.TB
	dir     string
	ca      *owner.CA
	revoked []x509.RevocationListEntry
	number  int64
}

func newPKI(t testing.TB, dir string) *pki {
	t.Helper()
	ca, err := owner.New("CA of a test", time.Now(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{t: t, dir: dir, ca: ca}
	p.write("ca.pem", ca.CertificatePEM())
	return p
}

func (p *pki) write(name string, b []byte) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// server issues a certificate for a server on this machine and returns it with its key, as PEM.
func (p *pki) server(validity time.Duration) (certificate, key []byte, leaf *x509.Certificate) {
	p.t.Helper()
	private, err := owner.NewKey()
	if err != nil {
		p.t.Fatal(err)
	}
	leaf, err = p.ca.IssueServer(&private.PublicKey, owner.Server{Service: "mqtt.other.example", IPs: []net.IP{net.IPv4(127, 0, 0, 1).To4()}}, time.Now(), validity)
	if err != nil {
		p.t.Fatal(err)
	}
	if key, err = owner.EncodeKey(private); err != nil {
		p.t.Fatal(err)
	}
	return owner.EncodeCertificate(leaf.Raw), key, leaf
}

// writeServer writes a fresh pair and returns the certificate.
func (p *pki) writeServer(validity time.Duration) *x509.Certificate {
	p.t.Helper()
	certificate, key, leaf := p.server(validity)
	p.write("server.pem", certificate)
	p.write("server.key", key)
	return leaf
}

// client issues a certificate to a client.
func (p *pki) client(name string, ca *owner.CA) tls.Certificate {
	p.t.Helper()
	key, err := owner.NewKey()
	if err != nil {
		p.t.Fatal(err)
	}
	p.number++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + p.number), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name + ".example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return p.sign(template, &key.PublicKey, key, ca)
}

func (p *pki) sign(template *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey, ca *owner.CA) tls.Certificate {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate(), public, ca.Key())
	if err != nil {
		p.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		p.t.Fatal(err)
	}
	return owner.TLSCertificate(leaf, key)
}

// revoke adds certificates to the list.
func (p *pki) revoke(certificates ...tls.Certificate) {
	for _, c := range certificates {
		p.revoked = append(p.revoked, x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
}

// list returns the revocation list of a CA in DER.
func (p *pki) list(ca *owner.CA, next time.Time, extensions ...pkix.Extension) []byte {
	p.t.Helper()
	p.number++
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(p.number), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: next, RevokedCertificateEntries: p.revoked,
		ExtraExtensions: extensions,
	}, ca.Certificate(), ca.Key())
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

// writeList writes the list as PEM.
func (p *pki) writeList(next time.Time) {
	p.t.Helper()
	p.write("clients.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: p.list(p.ca, next)}))
}
