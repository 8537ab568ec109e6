package tpm

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Extended key usages of the TCG (EK Credential Profile 2.5, 3.5.10 and AK certificates of the PC Client profile).
var (
	ekUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	akUsage = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
)

// certificates are that of an AK and that of the CA that has issued it.
type certificates struct {
	ak, ca *x509.Certificate
}

const maxCertificates = 8 << 10 // bytes of both

// parseCertificates reads two certificates, one after the other in DER.
func parseCertificates(der []byte) (*certificates, error) {
	if len(der) > maxCertificates {
		return nil, fmt.Errorf("it has %d bytes with that of its CA, at most %d are read", len(der), maxCertificates)
	}
	list, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if len(list) != 2 {
		return nil, fmt.Errorf("there are %d certificates, not 2: of the key, and of its CA", len(list))
	}
	return &certificates{ak: list[0], ca: list[1]}, nil
}

// check verifies that the certificate is for this key, for attestation, issued by the CA, and that both are valid now.
func (c *certificates) check(public []byte, key crypto.PublicKey, now time.Time) error {
	own, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !own.Equal(c.ak.PublicKey) || c.ak.Subject.CommonName != commonName(public):
		return attest.Errorf(attest.ErrSignature, "TPM evidence: the certificate is of another attestation key")
	case !hasUsage(c.ak, akUsage) || c.ak.IsCA:
		return attest.Errorf(attest.ErrSignature, "TPM evidence: the certificate is not one of an attestation key")
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.ca)
	_, err := c.ak.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return attest.Errorf(attest.ErrFreshness, "TPM evidence: the certificate of the attestation key is not valid now: %w", err)
	}
	if err != nil {
		return attest.Errorf(attest.ErrSignature, "TPM evidence: the certificate of the attestation key: %w", err)
	}
	return nil
}

func (c *certificates) expiry() time.Time {
	return attest.FirstExpiry([]*x509.Certificate{c.ak, c.ca})
}

var hardwareID = regexp.MustCompile(`^tpm:[0-9a-f]{64}$`)

// hardware is the machine as the CA has named it, "" if it has not.
func (c *certificates) hardware() string {
	if !hardwareID.MatchString(c.ak.Subject.SerialNumber) {
		return ""
	}
	return c.ak.Subject.SerialNumber
}

// commonName binds a certificate to the whole public area, attributes included, and not to the key alone.
func commonName(public []byte) string {
	digest := KeyDigest(public)
	return "AK " + hex.EncodeToString(digest[:24]) // a common name has 64 characters at most
}

func hasUsage(c *x509.Certificate, usage asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(c.UnknownExtKeyUsage, usage.Equal)
}

// issue makes the certificate of an AK.
func issue(random io.Reader, ca *x509.Certificate, signer crypto.Signer, r *Request, now time.Time, validity time.Duration) ([]byte, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of this length (RFC 5280, section 4.1.2.2)
	return x509.CreateCertificate(random, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: commonName(r.AK), SerialNumber: r.HardwareID()},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{akUsage}, BasicConstraintsValid: true,
	}, ca, r.akPublic.key, signer)
}

const pemCertificate = "CERTIFICATE"

// DecodeCertificates reads the file that [Pending.Certify] makes: the certificate of an AK and that of its CA (PEM). It returns both in DER,
// as they travel with evidence.
func DecodeCertificates(text []byte) (der []byte, err error) {
	for len(text) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != pemCertificate {
			return nil, errors.New("it is not a file of certificates (PEM)")
		}
		der, text = append(der, block.Bytes...), rest
	}
	_, err = parseCertificates(der)
	return der, err
}
