package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

// softEK is an endorsement key in software, with the public area that a TPM would have.
func softEK(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := key.PublicKey.Bytes()
	must(t, err)
	public := tpm2.Marshal(tpm2.ECCEKTemplate)
	public = public[:len(public)-68]
	return key, appendSized(appendSized(public, point[1:33]), point[33:])
}

// maker is a maker of TPMs.
type maker struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newMaker(t testing.TB) *maker {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return &maker{c, key}
}

// ekCertificate has the critical subjectAltName of the TCG, with a directoryName, unless change takes it out.
func (m *maker) ekCertificate(t testing.TB, key any, change func(*x509.Certificate)) []byte {
	name, err := asn1.Marshal(pkix.Name{CommonName: "model"}.ToRDNSequence())
	must(t, err)
	directory, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name})
	must(t, err)
	names, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: directory})
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), UnknownExtKeyUsage: []asn1.ObjectIdentifier{ekUsage},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: names}}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, m.certificate, key, m.key)
	must(t, err)
	return der
}

func (m *maker) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(m.certificate)
	return pool
}

func TestVerifyEK(t *testing.T) {
	m := newMaker(t)
	key, ek := softEK(t)
	other, _ := softEK(t)
	for name, test := range map[string]struct {
		certificate []byte
		roots       *x509.CertPool
		want        error
	}{
		"good":           {m.ekCertificate(t, key.Public(), nil), m.pool(), nil},
		"none":           {nil, m.pool(), ErrNoCertificate},
		"another key":    {m.ekCertificate(t, other.Public(), nil), m.pool(), attest.ErrSignature},
		"another maker":  {m.ekCertificate(t, key.Public(), nil), newMaker(t).pool(), attest.ErrSignature},
		"of a CA":        {m.ekCertificate(t, key.Public(), func(c *x509.Certificate) { c.IsCA = true }), m.pool(), attest.ErrSignature},
		"something else": {m.ekCertificate(t, key.Public(), func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{akUsage} }), m.pool(), attest.ErrSignature},
		"expired":        {m.ekCertificate(t, key.Public(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), m.pool(), attest.ErrSignature},
		"garbage":        {[]byte{1}, m.pool(), attest.ErrFormat},
		"critical extension of another kind": {m.ekCertificate(t, key.Public(), func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), m.pool(), attest.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{EK: ek, EKCertificate: test.certificate, AK: good().public(t)}
			must(t, r.check())
			if err := r.VerifyEK(test.roots, now); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	_, ek := softEK(t)
	for name, test := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"good": {func(*Request) {}, ""},
		"AK that anybody has": {func(r *Request) {
			f := good()
			f.attributes &^= attrFixedTPM
			r.AK = f.public(t)
		}, "not the key of a TPM for attestation"},
		"EK that can sign":    {func(r *Request) { r.EK[5] ^= 4 }, "endorsement key"},
		"EK without a policy": {func(r *Request) { r.EK[12] ^= 1 }, "endorsement key"},
		"EK that is an AK":    {func(r *Request) { r.EK = r.AK }, "endorsement key"},
		"no EK":               {func(r *Request) { r.EK = nil }, "endorsement key"},
		"no AK":               {func(r *Request) { r.AK = nil }, "attestation key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Request{EK: bytes.Clone(ek), AK: good().public(t)}
			test.change(r)
			text, err := r.Encode()
			must(t, err)
			_, err = ParseRequest(text)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	for name, text := range map[string]string{
		"empty": "", "another file": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "garbage": strings.Repeat("x", maxFileSize+1),
	} {
		if _, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCertify(t *testing.T) {
	m := newMaker(t)
	_, ek := softEK(t)
	r := &Request{EK: ek, AK: good().public(t)}
	must(t, r.check())
	challenge, pending, err := r.Challenge(rand.Reader)
	must(t, err)
	if bytes.Contains(challenge.Object, pending.Secret) {
		t.Error("the challenge shows the secret")
	}
	text, err := pending.Encode()
	must(t, err)
	pending, err = ParsePending(text)
	must(t, err)
	for name, answer := range map[string]*Response{
		"no secret":      {AK: challenge.AK},
		"another secret": {AK: challenge.AK, Secret: make([]byte, secretSize)},
		"another key":    {AK: make([]byte, 32), Secret: pending.Secret},
	} {
		if _, _, err := pending.Certify(answer, m.certificate, m.key, now, time.Hour); !errors.Is(err, ErrWrongAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty := &Pending{Request: pending.Request}
	if _, _, err := empty.Certify(&Response{AK: challenge.AK}, m.certificate, m.key, now, time.Hour); !errors.Is(err, ErrWrongAnswer) {
		t.Errorf("without a secret: %v", err)
	}
	text, _, err = pending.Certify(&Response{AK: challenge.AK, Secret: pending.Secret}, m.certificate, m.key, now, time.Hour)
	must(t, err)
	f := good()
	f.endorsements, err = DecodeCertificates(text)
	must(t, err)
	claims, err := verifyQuote(f.make(t), now)
	must(t, err)
	if claims.HardwareID != r.HardwareID() || claims.Measurements["ak_ca"] == nil {
		t.Errorf("%+v", claims)
	}
	for name, bad := range map[string][]byte{"one certificate": text[:bytes.LastIndex(text, []byte("-----BEGIN"))], "garbage": []byte("x"), "empty": nil} {
		if _, err := DecodeCertificates(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	_, ek := softEK(f)
	r := &Request{EK: ek, EKCertificate: []byte{0x30, 0}, AK: good().public(f)}
	text, err := r.Encode()
	must(f, err)
	block, _ := pem.Decode(text)
	f.Add(block.Bytes)
	rsaEK := tpm2.Marshal(tpm2.RSAEKTemplate)
	key := keys()["RSA 2048"].(*rsa.PrivateKey)
	copy(rsaEK[len(rsaEK)-256:], key.N.Bytes())
	r = &Request{EK: rsaEK, AK: good().public(f)}
	text, err = r.Encode()
	must(f, err)
	block, _ = pem.Decode(text)
	f.Add(block.Bytes)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		r, err := ParseRequest(pem.EncodeToMemory(&pem.Block{Type: titleRequest, Bytes: data}))
		if err != nil {
			return
		}
		_ = r.VerifyEK(x509.NewCertPool(), now)
		if c, p, err := r.Challenge(rand.Reader); err == nil && (len(p.Secret) != secretSize || len(c.AK) != sha256.Size) {
			t.Errorf("%+v", c)
		}
	}))
}

// FuzzEnrolment reads arbitrary bytes as each of the other files that go between machine and owner.
func FuzzEnrolment(f *testing.F) {
	_, ek := softEK(f)
	r := &Request{EK: ek, AK: good().public(f)}
	must(f, r.check())
	challenge, pending, err := r.Challenge(rand.Reader)
	must(f, err)
	answer := &Response{AK: challenge.AK, Secret: pending.Secret}
	for _, encoded := range []func() ([]byte, error){challenge.Encode, pending.Encode, answer.Encode} {
		text, err := encoded()
		must(f, err)
		block, _ := pem.Decode(text)
		f.Add(block.Bytes)
	}
	certificates := good().certificates(f)
	f.Add(certificates)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		as := func(title string) []byte { return pem.EncodeToMemory(&pem.Block{Type: title, Bytes: data}) }
		if p, err := ParsePending(as(titlePending)); err == nil {
			if _, _, err := p.Certify(&Response{AK: challenge.AK}, nil, nil, now, time.Hour); err == nil {
				t.Error("certified without the secret")
			}
		}
		_, _ = ParseChallenge(as(titleChallenge))
		_, _ = ParseResponse(as(titleResponse))
		if der, err := DecodeCertificates(as(pemCertificate)); err == nil && len(der) == 0 {
			t.Error("no certificates, and no error")
		}
	}))
}
