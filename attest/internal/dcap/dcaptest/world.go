package dcaptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// Now is a time at which everything that a World makes is valid.
var Now = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// Authority is a key and its certificate.
type Authority struct {
	Key         *ecdsa.PrivateKey
	Certificate *x509.Certificate
	Issuer      *Authority // nil: itself
}

// T is what a World needs of a test: a place for what goes wrong. Fatal does not return.
type T interface {
	Helper()
	Fatal(args ...any)
}

// World is an Intel for tests.
type World struct {
	t          T
	Root       *Authority
	CA         *Authority // of the PCK: Platform CA
	PCK        *Authority
	TCBSigning *Authority
	serial     int64
	seed       string // of keys, "" is at random
}

// Names as Intel's.
const (
	RootName       = "Intel SGX Root CA"
	PlatformName   = "Intel SGX PCK Platform CA"
	ProcessorName  = "Intel SGX PCK Processor CA"
	PCKName        = "Intel SGX PCK Certificate"
	TCBSigningName = "Intel SGX TCB Signing"
)

// Platform is the platform whose PCK a World has: of this FMSPC, with these SVNs.
var (
	FMSPC      = dcap.FMSPC{0xB0, 0xC0, 0x6F, 0, 0, 0}
	Components = [16]uint8{3, 3, 2, 2, 4, 1, 0, 5}
	PPID       = [16]byte{0xAA, 1, 2, 3}
	PCESVN     = uint16(13)
)

// New makes a World.
func New(t T) *World {
	t.Helper()
	return (&World{t: t}).found()
}

// Fixed makes a World whose keys are the same in every process, as fuzzing needs it.
func Fixed(t T) *World {
	t.Helper()
	return (&World{t: t, seed: "a world for fuzzing"}).found()
}

func (w *World) found() *World {
	w.Root = w.Issue(nil, RootName, authority)
	w.CA = w.Issue(w.Root, PlatformName, authority)
	w.PCK = w.Issue(w.CA, PCKName, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidSGX, Value: w.SGXExtension(Components, PCESVN)}}
	})
	w.TCBSigning = w.Issue(w.Root, TCBSigningName, nil)
	return w
}

// Trust is the root that makes this World's statements genuine.
func (w *World) Trust() dcap.Root { return dcap.NewRoot(&w.Root.Key.PublicKey) }

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

// Authority makes the template of a certificate one of an authority, for Issue.
func (w *World) Authority(c *x509.Certificate) { authority(c) }

// Issue makes a certificate with a new key. change may change the template.
func (w *World) Issue(issuer *Authority, name string, change func(*x509.Certificate)) *Authority {
	w.t.Helper()
	key, err := w.newKey()
	w.check(err)
	return w.IssueKey(issuer, name, key, change)
}

func (w *World) newKey() (*ecdsa.PrivateKey, error) {
	if w.seed == "" {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	scalar := sha256.Sum256(fmt.Appendf(nil, "%s %d", w.seed, w.serial))
	return ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
}

// IssueKey makes a certificate for a key.
func (w *World) IssueKey(issuer *Authority, name string, key *ecdsa.PrivateKey, change func(*x509.Certificate)) *Authority {
	w.t.Helper()
	w.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(w.serial), SignatureAlgorithm: x509.ECDSAWithSHA256, KeyUsage: x509.KeyUsageDigitalSignature,
		Subject:   pkix.Name{CommonName: name, Organization: []string{"Intel Corporation"}, Country: []string{"US"}},
		NotBefore: Now.AddDate(-5, 0, 0), NotAfter: Now.AddDate(20, 0, 0),
	}
	if change != nil {
		change(template)
	}
	a := &Authority{Key: key, Issuer: issuer}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	w.check(err)
	a.Certificate, err = x509.ParseCertificate(der)
	w.check(err)
	return a
}

// Chain returns the certificates from a up to the root, as PEM.
func (w *World) Chain(a *Authority) (text []byte) {
	for ; a != nil; a = a.Issuer {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})...)
	}
	return text
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// OIDSGX is the identifier of the extension that SGXExtension makes.
func OIDSGX() asn1.ObjectIdentifier { return append(asn1.ObjectIdentifier{}, oidSGX...) }

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value any
}

func below(id asn1.ObjectIdentifier, n int) asn1.ObjectIdentifier {
	return append(id[:len(id):len(id)], n)
}

// SGXExtension returns the extension of a PCK certificate for a platform with those SVNs.
func (w *World) SGXExtension(components [16]uint8, pceSVN uint16) []byte {
	w.t.Helper()
	tcb := below(oidSGX, 2)
	var svns []attribute
	for i, c := range components {
		svns = append(svns, attribute{below(tcb, i+1), int(c)})
	}
	svns = append(svns, attribute{below(tcb, 17), int(pceSVN)}, attribute{below(tcb, 18), make([]byte, 16)})
	der, err := asn1.Marshal([]attribute{
		{below(oidSGX, 1), PPID[:]}, {tcb, svns}, {below(oidSGX, 3), []byte{0, 0}}, {below(oidSGX, 4), FMSPC[:]},
		{below(oidSGX, 5), asn1.Enumerated(0)}, {below(oidSGX, 6), make([]byte, 16)},
	})
	w.check(err)
	return der
}

// sign returns r and s, 32 bytes each, over the SHA-256 digest.
func (w *World) sign(key *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	w.check(err)
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

func (w *World) check(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}
