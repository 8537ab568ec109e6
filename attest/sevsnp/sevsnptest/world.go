// Package sevsnptest makes an AMD of its own for tests and measurements: a root, what it has signed, processors with the certificates of their
// keys, and reports of guests on them, all properly signed under that root.
//
// A [Guest] is right in everything. To test a fault, change its fields, or a thing before it is signed, with its functions. The package knows
// the formats by itself, and has nothing of the verifier that is tested with it.
//
// Sources: AMD, SEV Secure Nested Paging Firmware ABI Specification (56860), table "ATTESTATION_REPORT"; Versioned Chip Endorsement Key
// Certificate and KDS Interface Specification (57230).
package sevsnptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Now is when the keys of all chips are certified, which they are for Years.
var Now = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// Years is how long the certificate of a chip's key is valid.
const Years = 7

// Authority is a key and its certificate.
type Authority struct {
	Certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// World is an AMD for tests.
type World struct {
	Root  *Authority // ARK
	VCEKs *Authority // ASK: signs the certificates of chips' keys
	bits  int
}

// New makes a World, whose RSA keys have so many bits: AMD's have 4096, which take seconds to make.
func New(bits int) (*World, error) {
	w := &World{bits: bits}
	var err error
	if w.Root, err = w.authority("ARK-Milan", nil); err != nil {
		return nil, err
	}
	w.VCEKs, err = w.Authority("SEV-Milan")
	return w, err
}

// Authority makes one under the root: "SEV-VLEK-Milan" is what signs the certificates of providers' keys (ASVK).
func (w *World) Authority(name string) (*Authority, error) { return w.authority(name, w.Root) }

func (w *World) authority(name string, parent *Authority) (*Authority, error) {
	key, err := rsa.GenerateKey(rand.Reader, w.bits)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: Now.AddDate(-1, 0, 0), NotAfter: Now.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	if parent == nil {
		parent = &Authority{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Certificate, &key.PublicKey, parent.key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &Authority{c, key}, err
}

// Quote makes a key for the guest's chip, its certificate, and the guest's report.
func (w *World) Quote(g Guest) (q attest.Quote, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return q, err
	}
	q = attest.Quote{Platform: attest.SEVSNP}
	if q.Data, err = g.Report(key); err != nil {
		return q, err
	}
	q.Endorsements, err = w.Certificate(g, key)
	return q, err
}
