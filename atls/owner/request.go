package owner

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

const (
	requestPEM     = "VOUCHMQ CERTIFICATE REQUEST"
	requestVersion = 1
	requestDomain  = "vouchmq/certificate-request/v1" // begins what -70011 of the claims is the digest of
	renewalDomain  = "vouchmq/renewal/v1\x00"
	// MaxRequestSize is the largest request in bytes, as PEM.
	MaxRequestSize = 128 << 10
	maxCSR         = 4 << 10
)

// Nonce is what a request must answer, so that its evidence is known to be made after the owner asked for it.
type Nonce [attest.NonceSize]byte

// NewNonce returns a nonce from a source of randomness.
func NewNonce(random io.Reader) (n Nonce, err error) {
	if _, err := io.ReadFull(random, n[:]); err != nil {
		return n, fmt.Errorf("make a nonce: %w", err)
	}
	return n, nil
}

// RenewalNonce returns the nonce of a request that renews a certificate, which stands in for one of the owner's: it
// cannot be known before that certificate was issued.
func RenewalNonce(c *x509.Certificate) Nonce {
	return sha256.Sum256(append([]byte(renewalDomain), c.Raw...))
}

// ParseNonce reads what String writes: 64 lower-case hexadecimal digits.
func ParseNonce(s string) (n Nonce, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(n) || hex.EncodeToString(b) != s {
		return n, fmt.Errorf("nonce is not %d lower-case hexadecimal digits: take what `vouchmq ca challenge` prints, whole", 2*len(n))
	}
	return Nonce(b), nil
}

// String returns the nonce in hexadecimal.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Request asks an owner for a certificate. It carries evidence that its keys were made by a program that the owner may
// accept, and answers a nonce. Nothing in it is secret, and nothing in it is to be believed before Appraise accepted it.
type Request struct {
	Service       string
	CSR           *x509.CertificateRequest // whose signature shows that the sender has the key
	ECHConfigList []byte                   // of the ECH key that comes with the certificate
	Nonce         Nonce
	Evidence      []byte // see package attest
}

// requestWire is the content of the PEM block: deterministic CBOR.
type requestWire struct {
	Version  uint64 `cbor:"version"`
	Service  string `cbor:"service"`
	CSR      []byte `cbor:"csr"`
	ECH      []byte `cbor:"ech"`
	Nonce    []byte `cbor:"nonce"`
	Evidence []byte `cbor:"evidence"`
}

// Asked is what a request is made of. Identity is what the evidence claims.
type Asked struct {
	Service  string
	Key      *ecdsa.PrivateKey // of the certificate
	ECHKey   *atls.ECHKey
	Nonce    Nonce
	Attester attest.Attester
	Identity attest.Identity
}

// NewRequest makes a certificate request and has the TEE vouch for its keys. It runs where the keys are: in the TEE.
func NewRequest(ctx context.Context, a Asked, now time.Time) (*Request, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.Service}}, a.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	r := &Request{Service: a.Service, ECHConfigList: atls.ECHConfigList(a.ECHKey), Nonce: a.Nonce}
	if r.CSR, err = x509.ParseCertificateRequest(der); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	binding, err := r.binding(a.Nonce)
	if err != nil {
		return nil, err
	}
	claims := attest.Claims{Binding: binding, Identity: a.Identity, IssuedAt: now.Unix()}
	if r.Evidence, err = attest.Make(ctx, a.Attester, attest.PurposeCertificate, &claims, rand.Reader); err != nil {
		return nil, fmt.Errorf("evidence for the certificate request: %w", err)
	}
	return r, r.check()
}

// binding is what the evidence must be bound to: the key of the request, the service, and all else through its digest.
// There is no connection, hence neither binder nor peer nor phase.
func (r *Request) binding(nonce Nonce) (attest.Binding, error) {
	own := attest.Sum(r.CSR.RawSubjectPublicKeyInfo)
	data, err := dcbor.Encode([]any{requestDomain, r.CSR.Raw, r.ECHConfigList})
	if err != nil {
		return attest.Binding{}, fmt.Errorf("certificate request: %w", err)
	}
	return attest.Binding{
		Nonce: nonce, Role: attest.RoleServer, OwnKey: &own, Service: r.Service, Request: attest.Sum(data),
	}, nil
}

// Encode returns the request as a file: one PEM block.
func (r *Request) Encode() ([]byte, error) {
	data, err := dcbor.Encode(requestWire{
		Version: requestVersion, Service: r.Service, CSR: r.CSR.Raw, ECH: r.ECHConfigList, Nonce: r.Nonce[:], Evidence: r.Evidence,
	})
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: requestPEM, Bytes: data}), nil
}

// IsRequest reports whether a file looks like a request, whole or not.
func IsRequest(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && block.Type == requestPEM
}

// ParseRequest reads what Encode wrote and checks its form: errors are attest.ErrFormat. It also checks that the sender
// has the key, which a changed request shows by attest.ErrSignature.
func ParseRequest(data []byte) (*Request, error) {
	if len(data) > MaxRequestSize {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request of %d bytes is too large (at most %d)", len(data), MaxRequestSize)
	}
	block, rest := pem.Decode(bytes.TrimSpace(data))
	if block == nil || block.Type != requestPEM || len(block.Headers) != 0 || len(rest) != 0 {
		return nil, attest.Errorf(attest.ErrFormat, "this is not one PEM block of type %q, which `vouchmq enroll` writes", requestPEM)
	}
	var w requestWire
	var v struct {
		Version uint64 `cbor:"version"`
	}
	if err := dcbor.DecodeLenient(block.Bytes, &v); err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request: it is cut short or damaged: %w", err)
	}
	if v.Version != requestVersion {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request is of version %d, and this program knows version %d: use the same version of vouchmq on both sides", v.Version, requestVersion)
	}
	if err := dcbor.Decode(block.Bytes, &w); err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request: it is cut short or damaged: %w", err)
	}
	return w.request()
}

func (w *requestWire) request() (*Request, error) {
	r := &Request{Service: w.Service, ECHConfigList: w.ECH, Evidence: w.Evidence}
	if len(w.Nonce) != len(r.Nonce) {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request: nonce of %d bytes, not %d", len(w.Nonce), len(r.Nonce))
	}
	copy(r.Nonce[:], w.Nonce)
	if len(w.CSR) > maxCSR {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request: PKCS #10 of %d bytes is too large (at most %d)", len(w.CSR), maxCSR)
	}
	var err error
	if r.CSR, err = x509.ParseCertificateRequest(w.CSR); err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "certificate request: PKCS #10: %w", err)
	}
	return r, r.check()
}

// check checks the form. The request asks for nothing but a certificate for its key: what stands in that is the owner's.
func (r *Request) check() error {
	if err := atls.CheckServiceName(r.Service); err != nil {
		return attest.Errorf(attest.ErrFormat, "certificate request: service: %w", err)
	}
	if r.CSR.Subject.CommonName != r.Service || len(r.CSR.Subject.Names) != 1 || len(r.CSR.Extensions) != 0 {
		return attest.Errorf(attest.ErrFormat, "certificate request: PKCS #10 must name the service as its common name, and ask for nothing else")
	}
	key, ok := r.CSR.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return attest.Errorf(attest.ErrFormat, "certificate request: key is not ECDSA P-256")
	}
	if err := r.CSR.CheckSignature(); err != nil {
		return attest.Errorf(attest.ErrSignature, "certificate request: it is not signed by the key that it is for, so it was changed: %w", err)
	}
	name, err := atls.CheckECHConfigList(r.ECHConfigList)
	if err != nil {
		return fmt.Errorf("certificate request: %w", err)
	}
	if name == r.Service {
		return attest.Errorf(attest.ErrFormat, "certificate request: the public name of ECH is the service: observers would see which service clients ask for")
	}
	return nil
}

// PublicName returns the name that observers of attested connections see.
func (r *Request) PublicName() string {
	name, _ := atls.CheckECHConfigList(r.ECHConfigList) // was checked
	return name
}

// Appraise judges the request: its evidence must be about exactly this key and this ECH configuration, answer the nonce
// that the owner knows, and hold an identity of the policy, at the time now. The verdict is never nil.
func (r *Request) Appraise(ctx context.Context, a *policy.Appraiser, nonce Nonce, now time.Time) *policy.Verdict {
	if r.Nonce != nonce {
		return policy.Refused(attest.Errorf(attest.ErrFreshness, "the request answers another nonce than yours: it may be an old one that is used again"), now)
	}
	binding, err := r.binding(nonce)
	if err != nil {
		return policy.Refused(err, now)
	}
	v := a.AppraiseFor(ctx, attest.PurposeCertificate, r.Evidence, binding, now)
	if kind := policy.KindOf(v.Err); kind == attest.ErrBinding {
		v.Err = attest.Errorf(kind, "the evidence was not made for this request (its key, ECH configuration, service or nonce): the request was changed, or put together from several: %w", v.Err)
	}
	return v
}
