// Package owner is the certificate authority of a service's owner: it issues the broker's certificate.
//
// The owner CA is the only root that a client with a bundle trusts. Keys are ECDSA P-256, and serial numbers
// have a fixed length, so that certificates of one kind have nearly the same size: a certificate is a TLS
// record of its own, and its size shows.
package owner

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/attest"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	serialSize     = 16
	// backdate allows for clocks of clients that are behind.
	backdate = time.Hour
)

// CA is an owner CA with its key.
type CA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an owner CA that is valid from now on for the given time.
func New(name string, now time.Time, validity time.Duration) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make owner CA: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make owner CA: %w", err)
	}
	return &CA{certificate: certificate, key: key}, nil
}

// NewKey makes a key for a CA or a leaf: ECDSA P-256.
func NewKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make ECDSA key: %w", err)
	}
	return key, nil
}

// newSerial returns a random serial number of exactly 16 bytes in DER: the first byte is from 0x40 to 0x7f.
func newSerial() (*big.Int, error) {
	var b [serialSize]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

// Certificate returns the CA's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.certificate }

// Key returns the CA's key, for signing bundles.
func (ca *CA) Key() *ecdsa.PrivateKey { return ca.key }

// Pool returns a pool with this CA as its only root.
func (ca *CA) Pool() *x509.CertPool { return Pool(ca.certificate) }

// Pool returns a pool with one root.
func Pool(certificate *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return pool
}

// CertificatePEM returns the CA's certificate as PEM, for ordinary clients (--cafile).
func (ca *CA) CertificatePEM() []byte { return EncodeCertificate(ca.certificate.Raw) }

// KeyPEM returns the CA's private key as PEM (PKCS #8). Keep it away from the broker's machine where you can.
func (ca *CA) KeyPEM() ([]byte, error) { return EncodeKey(ca.key) }

// Parse reads a CA from the PEM that CertificatePEM and KeyPEM return.
func Parse(certificatePEM, keyPEM []byte) (*CA, error) {
	certificate, err := ParseCertificate(certificatePEM)
	if err != nil {
		return nil, fmt.Errorf("owner CA: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("owner CA: %w", err)
	}
	if err := CheckCA(certificate); err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, errors.New("owner CA: key and certificate do not belong together")
	}
	return &CA{certificate: certificate, key: key}, nil
}

// CheckCA checks that a certificate can be that of an owner CA: a CA certificate with a P-256 key, signed by itself.
func CheckCA(c *x509.Certificate) error {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return errors.New("owner CA: key is not ECDSA P-256")
	}
	if !c.IsCA {
		return errors.New("owner CA: certificate is not that of a CA")
	}
	if err := c.CheckSignatureFrom(c); err != nil {
		return fmt.Errorf("owner CA: certificate is not signed by itself: %w", err)
	}
	return nil
}

// Fingerprint returns the digest of a certificate's public key, for a person to compare.
func Fingerprint(c *x509.Certificate) attest.Digest { return attest.Sum(c.RawSubjectPublicKeyInfo) }

// Server describes the certificate of a broker.
type Server struct {
	Service    string // name of the service
	PublicName string // of the ECH configuration
	// Names and IPs are further names by which ordinary TLS clients know the broker.
	Names []string
	IPs   []net.IP
}

// IssueServer issues a certificate for a broker's key. The broker's key should be made in its TEE, and the
// owner should have verified the evidence of that before: issuing is how the owner says "this is mine".
func (ca *CA) IssueServer(public crypto.PublicKey, s Server, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	names := []string{s.Service, "*.n1." + s.Service, "*.p1." + s.Service, "*.x1." + s.Service}
	if s.PublicName != "" && s.PublicName != s.Service {
		names = append(names, s.PublicName)
	}
	return ca.issue(public, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "VouchMQ broker"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    append(names, s.Names...),
		IPAddresses: s.IPs,
	}, now, validity)
}

// issue issues a certificate for one end of TLS. The template says whose it is and what for; the rest is added to it here.
func (ca *CA) issue(public crypto.PublicKey, template *x509.Certificate, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = now.Add(-backdate), now.Add(validity)
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// MaxClientName is the length in characters of the longest name of a client: that of a common name (RFC 5280, appendix A.1).
const MaxClientName = 64

// CheckClientName returns an error unless a name can be that of a client.
func CheckClientName(name string) error {
	switch n := utf8.RuneCountInString(name); {
	case n == 0 || n > MaxClientName:
		return fmt.Errorf("name of a client: it has %d characters, and may have 1 to %d", n, MaxClientName)
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("name of a client: %q has characters that cannot be shown", name)
	}
	return nil
}

// IssueClient issues a certificate by which a client is known, as the user of that name. It cannot pass for a broker: it is for
// TLS clients only.
func (ca *CA) IssueClient(public crypto.PublicKey, name string, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	if err := CheckClientName(name); err != nil {
		return nil, err
	}
	return ca.issue(public, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, now, validity)
}

// Revoked is a certificate that is not good any more.
type Revoked struct {
	Serial *big.Int
	At     time.Time
}

// RevocationList returns a list (RFC 5280, 5; DER) of certificates of this CA. number grows with each list.
func (ca *CA) RevocationList(revoked []Revoked, number uint64, now, until time.Time) ([]byte, error) {
	template := &x509.RevocationList{Number: new(big.Int).SetUint64(number), ThisUpdate: now, NextUpdate: until}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: r.At})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.certificate, ca.key)
	if err != nil {
		return nil, fmt.Errorf("make revocation list: %w", err)
	}
	return der, nil
}

// TLSCertificate puts leaf and key together for crypto/tls. The CA's certificate is not sent: whoever needs
// it has it.
func TLSCertificate(leaf *x509.Certificate, key *ecdsa.PrivateKey) tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// EncodeCertificate returns a DER certificate as PEM.
func EncodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})
}

// ParseCertificate reads one PEM certificate and nothing else.
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemCertificate || len(rest) != 0 {
		return nil, errors.New("not one PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// EncodeKey returns a private key as PEM (PKCS #8).
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// ParseKey reads one PEM private key (PKCS #8, ECDSA P-256) and nothing else.
func ParseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemKey || len(rest) != 0 {
		return nil, errors.New("not one PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("private key is not ECDSA P-256")
	}
	return key, nil
}
