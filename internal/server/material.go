package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// loadPair reads a certificate with its intermediates, and its key, which must belong together.
func loadPair(certificate, key string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s with key %s: %w", certificate, key, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return tls.Certificate{}, fmt.Errorf("certificate %s: %w", certificate, err)
		}
	}
	return pair, nil
}

// pair reads a certificate of the operator's own. path is of the section that names it.
func (o *opener) pair(path string, t *settings.TLS) *tls.Certificate {
	certificate, key := o.path(t.Certificate), o.path(t.Key)
	o.watch(certificate, key)
	pair, err := loadPair(certificate, key)
	if err != nil {
		o.wrong(path+".certificate", err)
		return nil
	}
	if o.strict && o.opening.Now.After(pair.Leaf.NotAfter) {
		o.wrong(path+".certificate", fmt.Errorf("certificate %s expired on %s", certificate, pair.Leaf.NotAfter.Format(time.DateTime)))
	}
	return &pair
}

func tlsVersion(text string) uint16 {
	if text == "1.2" {
		return tls.VersionTLS12
	}
	return tls.VersionTLS13
}

// clientCA reads which certificates of clients are accepted.
func (o *opener) clientCA(path string, f *settings.ClientCertificates) *ClientCA {
	ca := &ClientCA{Required: f.Required, User: f.User, AllowExpiredLists: f.CRLExpired == "allow"}
	o.watch(o.path(f.CA))
	certificates, err := readCertificates(o.path(f.CA))
	if err != nil {
		o.wrong(path+".ca", err)
		return ca
	}
	ca.Issuers = certificates
	for i, name := range f.CRL {
		o.watch(o.path(name))
		lists, err := readLists(o.path(name), certificates)
		if err != nil {
			o.wrong(fmt.Sprintf("%s.crl[%d]", path, i), err)
			continue
		}
		ca.Lists = append(ca.Lists, lists...)
		o.checkLists(fmt.Sprintf("%s.crl[%d]", path, i), name, ca, lists)
	}
	return ca
}

// checkLists is for a person who asks what is wrong: at a start it is logged.
func (o *opener) checkLists(path, name string, ca *ClientCA, lists []*RevocationList) {
	for _, l := range lists {
		if o.strict && !ca.AllowExpiredLists && l.expired(o.opening.Now) {
			o.wrong(path, fmt.Errorf("revocation list %s has been out of date since %s: clients of %s would be refused",
				name, l.NextUpdate.Format(time.DateTime), l.Issuer))
		}
	}
}

// readCertificates reads a file of PEM certificates, at least one, and nothing else.
func readCertificates(name string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s holds %q, where only certificates belong", name, block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", name, len(list)+1, err)
		}
		list = append(list, certificate)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", name, errors.New("no PEM certificate is in it"))
	}
	return list, nil
}

// describe returns what the log says of a certificate.
func describe(c *x509.Certificate) slog.Attr {
	names := strings.Join(c.DNSNames, " ")
	sum := sha256.Sum256(c.Raw)
	return slog.Group("certificate", "subject", c.Subject.String(), "names", names, "serial", fmt.Sprintf("%x", c.SerialNumber),
		"expires", c.NotAfter.UTC().Format(time.RFC3339), "sha256", hex.EncodeToString(sum[:8]))
}
