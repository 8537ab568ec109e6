package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Names of Intel's certificates (Intel SGX PCK Certificate and CRL Profile, section 1.4).
const (
	nameRoot       = "Intel SGX Root CA"
	nameProcessor  = "Intel SGX PCK Processor CA"
	namePlatform   = "Intel SGX PCK Platform CA"
	namePCK        = "Intel SGX PCK Certificate"
	nameTCBSigning = "Intel SGX TCB Signing"
)

// chain is a certificate and those above it, the root last. Only verifyChain makes one.
type chain []*x509.Certificate

// maxChain is the most certificates that a chain has: PCK, CA, root.
const maxChain = 3

// verifyChain reads a chain and checks names, uses and signatures up to the root. It looks at no clock. Of
// the first name any will do.
func verifyChain(text []byte, root Root, names ...[]string) (chain, error) {
	c, err := readChain(text)
	if err != nil {
		return nil, err
	}
	if len(c) != len(names) {
		return nil, fail(FaultChain, "chain has %d certificates, not %d", len(c), len(names))
	}
	for i, certificate := range c {
		if err := checkCertificate(certificate, names[i]); err != nil {
			return nil, err
		}
	}
	return c, c.checkSignatures(root)
}

// readChain reads certificates in PEM. Nothing but white space may stand around them, and one NUL at the end, which
// Intel's quoting library leaves there.
func readChain(text []byte) (c chain, err error) {
	text = bytes.TrimSuffix(text, []byte{0})
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		var block *pem.Block
		if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, fail(FaultFormat, "certificate chain has something else before certificate %d", len(c)+1)
		}
		block, text = pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
			return nil, fail(FaultFormat, "certificate chain: certificate %d is not in PEM", len(c)+1)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fail(FaultFormat, "certificate chain: certificate %d: %w", len(c)+1, err)
		}
		if c = append(c, certificate); len(c) > maxChain {
			return nil, fail(FaultChain, "certificate chain has more than %d certificates", maxChain)
		}
	}
	return c, nil
}

func checkCertificate(c *x509.Certificate, names []string) error {
	name := c.Subject.CommonName
	for _, want := range names {
		if name != want {
			continue
		}
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() || c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
			return fail(FaultChain, "certificate %q is not one of ECDSA with P-256 and SHA-256", want)
		}
		if len(c.UnhandledCriticalExtensions) > 0 {
			return fail(FaultChain, "certificate %q has the critical extension %v, whose meaning is not known", want, c.UnhandledCriticalExtensions[0])
		}
		return nil
	}
	return fail(FaultChain, "certificate of %q stands where one of %q should", shorten(name), names[0])
}

func (c chain) checkSignatures(root Root) error {
	last := c[len(c)-1]
	if !root.is(last.PublicKey) {
		return fail(FaultRoot, "chain ends in a certificate %q with another key than Intel's", shorten(last.Subject.CommonName))
	}
	for i, child := range c {
		parent := c[min(i+1, len(c)-1)]
		if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
			return fail(FaultChain, "certificate %q names another issuer than %q", child.Subject.CommonName, parent.Subject.CommonName)
		}
		check := root.verified.CheckSignatureFrom
		if i == 0 && len(c) > 1 { // that which signs something else than certificates
			check = (*x509.Certificate).CheckSignatureFrom
		}
		if err := check(child, parent); err != nil {
			return fail(FaultChain, "certificate %q is not signed by %q: %w", child.Subject.CommonName, parent.Subject.CommonName, err)
		}
	}
	return nil
}

func (c chain) leaf() *x509.Certificate { return c[0] }

func (c chain) key() *ecdsa.PublicKey {
	key, _ := c[0].PublicKey.(*ecdsa.PublicKey) // checkCertificate has seen it
	return key
}

func (c chain) checkTime(now time.Time) error {
	for _, certificate := range c {
		w := window{fmt.Sprintf("certificate %q", certificate.Subject.CommonName), certificate.NotBefore, certificate.NotAfter}
		if err := w.check(now); err != nil {
			return err
		}
	}
	return nil
}

func (c chain) expiry() time.Time { return attest.FirstExpiry(c) }

// window is the time in which something holds.
type window struct {
	what     string
	from, to time.Time
}

func (w window) check(now time.Time) error {
	if now.Before(w.from) {
		return fail(FaultFuture, "%s is valid from %s; it is %s", w.what, stamp(w.from), stamp(now))
	}
	if !now.Before(w.to) {
		return fail(FaultExpired, "%s expired at %s; it is %s", w.what, stamp(w.to), stamp(now))
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// shorten keeps foreign texts in errors short; where they are put in, %q makes them printable.
func shorten(s string) string {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return s
}
