package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// ClientCA says which certificates of clients a listener accepts.
type ClientCA struct {
	Issuers           []*x509.Certificate // trusted as they are
	Lists             []*RevocationList   // with one, each issuer of a client's certificate needs one
	AllowExpiredLists bool                // a list past its next update still counts
	Required          bool                // nobody without a certificate
	User              string              // what of the certificate is the user name: common_name, dns, email or uri
}

// Errors about certificates of clients.
var (
	ErrRevoked    = errors.New("certificate has been revoked")
	ErrNoList     = errors.New("no revocation list of the certificate's issuer is configured")
	ErrListTooOld = errors.New("revocation list is past its next update")
	errNoClient   = errors.New("client gave no certificate, and this listener requires one")
)

// RevocationList is a certificate revocation list (RFC 5280, section 5) whose signature has been checked.
type RevocationList struct {
	Issuer     string
	NextUpdate time.Time // zero is never
	issuer     *x509.Certificate
	serials    map[string]bool // revoked, as big-endian bytes
}

// readLists reads a file of revocation lists: one in DER, or any number in PEM. Each must be signed by one of the issuers.
func readLists(name string, issuers []*x509.Certificate) ([]*RevocationList, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	lists, err := parseLists(data, issuers)
	if err != nil {
		return nil, fmt.Errorf("revocation list %s: %w", name, err)
	}
	return lists, nil
}

func parseLists(data []byte, issuers []*x509.Certificate) ([]*RevocationList, error) {
	block, rest := pem.Decode(data)
	if block == nil {
		list, err := parseList(data, issuers)
		return []*RevocationList{list}, err
	}
	var lists []*RevocationList
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds %q, where only \"X509 CRL\" belongs", block.Type)
		}
		list, err := parseList(block.Bytes, issuers)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}

func parseList(der []byte, issuers []*x509.Certificate) (*RevocationList, error) {
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	for _, e := range crl.Extensions {
		if e.Critical { // RFC 5280, section 5.2: of a list with a part, such as a delta, the whole is not known
			return nil, fmt.Errorf("it has a critical extension %s, which is not supported: only complete lists are", e.Id)
		}
	}
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, crl.RawIssuer) && crl.CheckSignatureFrom(issuer) == nil {
			return newList(crl, issuer), nil
		}
	}
	return nil, fmt.Errorf("it is signed by %s, who is not among the CA certificates, or its signature is wrong", crl.Issuer)
}

func newList(crl *x509.RevocationList, issuer *x509.Certificate) *RevocationList {
	l := &RevocationList{
		Issuer: crl.Issuer.String(), NextUpdate: crl.NextUpdate, issuer: issuer,
		serials: make(map[string]bool, len(crl.RevokedCertificateEntries)),
	}
	for _, e := range crl.RevokedCertificateEntries {
		l.serials[string(e.SerialNumber.Bytes())] = true
	}
	return l
}

func (l *RevocationList) expired(now time.Time) bool {
	return !l.NextUpdate.IsZero() && now.After(l.NextUpdate)
}

// covers reports whether the list speaks of a certificate: the same key has signed both.
func (l *RevocationList) covers(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, l.issuer.RawSubject) && c.CheckSignatureFrom(l.issuer) == nil
}

// Pool returns the trusted issuers.
func (ca *ClientCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range ca.Issuers {
		pool.AddCert(c)
	}
	return pool
}

// auth says what to ask of clients.
func (ca *ClientCA) auth() tls.ClientAuthType {
	if ca.Required {
		return tls.RequireAndVerifyClientCert
	}
	return tls.VerifyClientCertIfGiven
}

// judge says what is against a chain that has been verified, leaf first. The leaf must be covered by a list; another
// certificate of the chain is looked at if a list covers it.
func (ca *ClientCA) judge(chain []*x509.Certificate, now time.Time) error {
	if len(ca.Lists) == 0 {
		return nil
	}
	for i, c := range chain {
		if slices.ContainsFunc(ca.Issuers, c.Equal) {
			break // trusted as it is
		}
		covered, err := ca.revoked(c, now)
		if err != nil {
			return fmt.Errorf("certificate %x of %s: %w", c.SerialNumber, c.Subject, err)
		}
		if !covered && i == 0 {
			return fmt.Errorf("certificate %x of %s, issued by %s: %w", c.SerialNumber, c.Subject, c.Issuer, ErrNoList)
		}
	}
	return nil
}

// revoked asks all lists that cover a certificate. One that is in force is enough.
func (ca *ClientCA) revoked(c *x509.Certificate, now time.Time) (covered bool, err error) {
	var old error
	for _, l := range ca.Lists {
		if !l.covers(c) {
			continue
		}
		if l.serials[string(c.SerialNumber.Bytes())] {
			return true, ErrRevoked
		}
		if l.expired(now) && !ca.AllowExpiredLists {
			old = fmt.Errorf("%w, %s", ErrListTooOld, l.NextUpdate.UTC().Format(time.RFC3339))
			continue
		}
		covered = true
	}
	if !covered && old != nil {
		return true, old
	}
	return covered, nil
}

// verify looks at the certificates of an established connection as a handshake would now.
func (ca *ClientCA) verify(certificates []*x509.Certificate, now time.Time) error {
	if len(certificates) == 0 {
		if ca.Required {
			return errNoClient
		}
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range certificates[1:] {
		intermediates.AddCert(c)
	}
	chains, err := certificates[0].Verify(x509.VerifyOptions{
		Roots: ca.pool(), Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	return ca.judgeAny(chains, now)
}

// judgeAny wants one chain with nothing against it.
func (ca *ClientCA) judgeAny(chains [][]*x509.Certificate, now time.Time) (err error) {
	for _, chain := range chains {
		if err = ca.judge(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// user returns the user name in a certificate, "" if it has none.
func (ca *ClientCA) user(c *x509.Certificate) string {
	switch ca.User {
	case "dns":
		return first(c.DNSNames)
	case "email":
		return first(c.EmailAddresses)
	case "uri":
		if len(c.URIs) > 0 {
			return c.URIs[0].String()
		}
		return ""
	}
	return c.Subject.CommonName
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
