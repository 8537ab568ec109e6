package dcap

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"time"
)

// CRL is a revocation list whose issuer and signature have been verified.
type CRL struct {
	CA     CA // "" is the root
	list   *x509.RevocationList
	issuer chain
}

// OpenRootCRL verifies the root's revocation list (DER), which the root's certificate in a chain (PEM, any chain that ends in
// it) has signed. It looks at no clock.
func OpenRootCRL(der []byte, issuers []byte, root Root) (*CRL, error) {
	c, err := readChain(issuers)
	if err != nil {
		return nil, err
	}
	if len(c) == 0 {
		return nil, fail(FaultNoCollateral, "there is no root certificate to verify the root's revocation list with")
	}
	top := c[len(c)-1:]
	if err := checkCertificate(top[0], []string{nameRoot}); err != nil {
		return nil, err
	}
	if err := top.checkSignatures(root); err != nil {
		return nil, err
	}
	return openCRL(der, top, "")
}

// OpenPCKCRL verifies the revocation list (DER) of a PCK authority, whose chain (PEM, two certificates) is issuer. It looks at no
// clock.
func OpenPCKCRL(der []byte, issuer []byte, root Root) (*CRL, error) {
	c, err := verifyChain(issuer, root, []string{nameProcessor, namePlatform}, []string{nameRoot})
	if err != nil {
		return nil, err
	}
	return openCRL(der, c, caOf(c.leaf()))
}

func openCRL(der []byte, issuer chain, ca CA) (*CRL, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fail(FaultFormat, "revocation list: %w", err)
	}
	name := issuer.leaf().Subject.CommonName
	if !bytes.Equal(list.RawIssuer, issuer.leaf().RawSubject) {
		return nil, fail(FaultCollateralMismatch, "revocation list is of %q, not of %q", shorten(list.Issuer.CommonName), name)
	}
	for _, e := range list.Extensions {
		if e.Critical {
			return nil, fail(FaultFormat, "revocation list of %q has the critical extension %v, whose meaning is not known", name, e.Id)
		}
	}
	if err := list.CheckSignatureFrom(issuer.leaf()); err != nil {
		return nil, fail(FaultCollateralSignature, "revocation list is not signed by %q: %w", name, err)
	}
	if list.NextUpdate.IsZero() {
		return nil, fail(FaultFormat, "revocation list of %q never expires", name)
	}
	return &CRL{CA: ca, list: list, issuer: issuer}, nil
}

// Issuer returns the common name of who issued the list.
func (l *CRL) Issuer() string { return l.issuer.leaf().Subject.CommonName }

// ThisUpdate returns when the list was issued.
func (l *CRL) ThisUpdate() time.Time { return l.list.ThisUpdate }

// NextUpdate returns until when the list holds.
func (l *CRL) NextUpdate() time.Time { return l.list.NextUpdate }

// Len returns how many certificates are revoked.
func (l *CRL) Len() int { return len(l.list.RevokedCertificateEntries) }

// CheckTime refuses a list that has expired at the time now, or is from the future, and one of expired issuers.
func (l *CRL) CheckTime(now time.Time) error { return l.checkTime(now) }

// checkTime also looks at the issuer's certificates.
func (l *CRL) checkTime(now time.Time) error {
	w := window{"revocation list of " + l.Issuer(), l.list.ThisUpdate, l.list.NextUpdate}
	if err := w.check(now); err != nil {
		return err
	}
	return l.issuer.checkTime(now)
}

func (l *CRL) expiry() time.Time { return earlier(l.list.NextUpdate, l.issuer.expiry()) }

func (l *CRL) revoked(serial *big.Int) bool {
	for _, e := range l.list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(serial) == 0 {
			return true
		}
	}
	return false
}

// check refuses a certificate that the list names.
func (l *CRL) check(c *x509.Certificate) error {
	if l.revoked(c.SerialNumber) {
		return fail(FaultRevoked, "certificate %q with serial number %x has been revoked by %q", c.Subject.CommonName, c.SerialNumber, l.Issuer())
	}
	return nil
}
