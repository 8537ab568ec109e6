package attesttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// authority is a key and its certificate.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// issue makes a certificate; by is nil of a root.
func issue(template *x509.Certificate, key crypto.Signer, by *authority) *authority {
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	return &authority{must(x509.ParseCertificate(der)), key}
}

// template is that of a certificate which is valid now and for some years.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(7, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// authorityTemplate is that of an authority.
func authorityTemplate(name string) *x509.Certificate {
	t := template(name)
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	return t
}

func newKey(curve elliptic.Curve) *ecdsa.PrivateKey {
	return must(ecdsa.GenerateKey(curve, rand.Reader))
}
