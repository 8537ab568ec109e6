package owner_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const service = "plant.example"

// rented is a machine with a TEE, and what its owner accepts.
type rented struct {
	tee       *sim.Key
	asked     owner.Asked
	appraiser *policy.Appraiser
}

var (
	module = attest.Sum([]byte("module"))
	now    = time.Unix(1_800_000_000, 0)
)

func rent(t testing.TB) *rented {
	t.Helper()
	tee := Must(sim.NewKey())(t)
	p := Must(policy.New([]policy.Identity{policy.Simulated("broker", module, attest.Digest{}, tee.Digest())}, nil))(t)
	return &rented{
		tee: tee, appraiser: policy.NewAppraiser(p, attest.NewRegistry(sim.NewVerifier())),
		asked: owner.Asked{
			Service: service, Key: Must(owner.NewKey())(t), ECHKey: Must(atls.NewECHKey("mqtt.example", 7))(t),
			Nonce: Must(owner.NewNonce(rand.Reader))(t), Attester: sim.NewAttester(tee, attest.Digest{}), Identity: attest.Identity{Module: module},
		},
	}
}

func (r *rented) request(t testing.TB) *owner.Request {
	t.Helper()
	return Must(owner.NewRequest(context.Background(), r.asked, now))(t)
}

func (r *rented) judge(q *owner.Request, nonce owner.Nonce) error {
	return q.Appraise(context.Background(), r.appraiser, nonce, now).Err
}

func TestRequestIsAccepted(t *testing.T) {
	r := rent(t)
	file := Must(r.request(t).Encode())(t)
	q := Must(owner.ParseRequest(file))(t)
	if err := r.judge(q, r.asked.Nonce); err != nil {
		t.Error(err)
	}
	if again := Must(q.Encode())(t); !bytes.Equal(again, file) {
		t.Error("request changed on its way through a file")
	}
	if q.PublicName() != "mqtt.example" || !r.asked.Key.PublicKey.Equal(q.CSR.PublicKey) {
		t.Error("request is for another key or name")
	}
}

// TestRequestIsRefused: whatever is exchanged or replayed, the owner does not issue.
func TestRequestIsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, r *rented, q *owner.Request)
		kind   attest.Kind
	}{
		"another nonce asked for": {func(_ *testing.T, r *rented, _ *owner.Request) { r.asked.Nonce[0] ^= 1 }, attest.ErrFreshness},
		"nonce rewritten in the replayed request": {func(_ *testing.T, r *rented, q *owner.Request) {
			r.asked.Nonce[0] ^= 1
			q.Nonce = r.asked.Nonce
		}, attest.ErrBinding},
		"key of the sender in place of the TEE's": {func(t *testing.T, _ *rented, q *owner.Request) {
			q.CSR = csr(t, Must(owner.NewKey())(t), x509.CertificateRequest{Subject: pkix.Name{CommonName: service}})
		}, attest.ErrBinding},
		"the TEE's key in another PKCS #10": {func(t *testing.T, r *rented, q *owner.Request) {
			q.CSR = csr(t, r.asked.Key, x509.CertificateRequest{Subject: pkix.Name{CommonName: service}})
		}, attest.ErrBinding},
		"ECH key of the sender": {func(t *testing.T, _ *rented, q *owner.Request) {
			q.ECHConfigList = atls.ECHConfigList(Must(atls.NewECHKey("mqtt.example", 7))(t))
		}, attest.ErrBinding},
		"another service": {func(_ *testing.T, _ *rented, q *owner.Request) { q.Service = "other.example" }, attest.ErrBinding},
		"evidence of another request": {func(t *testing.T, r *rented, q *owner.Request) {
			r.asked.Key = Must(owner.NewKey())(t)
			q.Evidence = r.request(t).Evidence
		}, attest.ErrBinding},
		"another module": {func(t *testing.T, r *rented, q *owner.Request) {
			r.asked.Identity.Module[0] ^= 1
			*q = *r.request(t)
		}, attest.ErrModule},
		"another machine": {func(t *testing.T, r *rented, q *owner.Request) {
			r.asked.Attester = sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{})
			*q = *r.request(t)
		}, attest.ErrPlatform},
		"evidence of a connection": {func(t *testing.T, r *rented, q *owner.Request) {
			claims := decoded(t, q)
			q.Evidence = Must(attest.Make(context.Background(), r.asked.Attester, attest.PurposeConnection, claims, rand.Reader))(t)
		}, attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			r := rent(t)
			q := r.request(t)
			test.change(t, r, q)
			if err := r.judge(q, r.asked.Nonce); !errors.Is(err, test.kind) {
				t.Error(err)
			}
		})
	}
}

func decoded(t testing.TB, q *owner.Request) *attest.Claims {
	e := Must(attest.DecodeEvidence(q.Evidence))(t)
	return Must(attest.DecodeClaims(e.Claims))(t)
}

func csr(t testing.TB, key *ecdsa.PrivateKey, template x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	return Must(x509.ParseCertificateRequest(Must(x509.CreateCertificateRequest(rand.Reader, &template, key))(t)))(t)
}

// TestClaimsOfARequest pins what the evidence says, see docs/provisioning.md.
func TestClaimsOfARequest(t *testing.T) {
	r := rent(t)
	q := r.request(t)
	c := decoded(t, q)
	key := attest.Sum(q.CSR.RawSubjectPublicKeyInfo)
	content := Must(dcbor.Encode([]any{"vouchmq/certificate-request/v1", q.CSR.Raw, q.ECHConfigList}))(t)
	if c.OwnKey == nil || *c.OwnKey != key || c.PeerKey != nil || c.Request != attest.Sum(content) || c.Service != service {
		t.Errorf("%+v", c)
	}
	if c.Nonce != r.asked.Nonce || c.Binder != [attest.BinderSize]byte{} || c.Role != attest.RoleServer || c.Phase != 0 || c.Seq != 0 || c.Identity != r.asked.Identity {
		t.Errorf("%+v", c)
	}
}

func TestRenewalNonce(t *testing.T) {
	ca := Must(owner.New("Owner", now, time.Hour))(t).Certificate()
	if got := owner.RenewalNonce(ca); got != sha256.Sum256(append([]byte("vouchmq/renewal/v1\x00"), ca.Raw...)) {
		t.Error(got)
	}
}

// TestEvidenceOfARequestIsNotThatOfAConnection: with the same claims, the purpose alone tells them apart.
func TestEvidenceOfARequestIsNotThatOfAConnection(t *testing.T) {
	r := rent(t)
	q := r.request(t)
	v := r.appraiser.Appraise(context.Background(), q.Evidence, decoded(t, q).Binding, now)
	if !errors.Is(v.Err, attest.ErrBinding) {
		t.Error(v.Err)
	}
}

func TestMalformedRequests(t *testing.T) {
	r := rent(t)
	good := Must(r.request(t).Encode())(t)
	block, _ := pem.Decode(good)
	var fields map[string]any
	if err := dcbor.DecodeLenient(block.Bytes, &fields); err != nil {
		t.Fatal(err)
	}
	with := func(key string, value any) []byte {
		changed := map[string]any{}
		for k, v := range fields {
			changed[k] = v
		}
		changed[key] = value
		return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: Must(dcbor.Encode(changed))(t)})
	}
	template := func(c x509.CertificateRequest) []byte { return csr(t, r.asked.Key, c).Raw }
	unsigned := bytes.Clone(fields["csr"].([]byte))
	unsigned[len(unsigned)-1] ^= 1
	named := pkix.Name{CommonName: service}
	for name, test := range map[string]struct {
		data []byte
		kind attest.Kind
	}{
		"nothing":            {nil, attest.ErrFormat},
		"two blocks":         {append(bytes.Clone(good), good...), attest.ErrFormat},
		"another type":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes}), attest.ErrFormat},
		"cut short":          {pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes[:100]}), attest.ErrFormat},
		"too large":          {make([]byte, owner.MaxRequestSize+1), attest.ErrFormat},
		"later version":      {with("version", 2), attest.ErrFormat},
		"unknown key":        {with("more", 1), attest.ErrFormat},
		"short nonce":        {with("nonce", []byte{1}), attest.ErrFormat},
		"PKCS #10 damaged":   {with("csr", []byte{1}), attest.ErrFormat},
		"PKCS #10 changed":   {with("csr", unsigned), attest.ErrSignature},
		"names of its own":   {with("csr", template(x509.CertificateRequest{Subject: named, DNSNames: []string{"bank.example"}})), attest.ErrFormat},
		"another subject":    {with("csr", template(x509.CertificateRequest{Subject: pkix.Name{CommonName: service, Organization: []string{"x"}}})), attest.ErrFormat},
		"service is no name": {with("service", "-"), attest.ErrFormat},
		"ECH damaged":        {with("ech", []byte{0, 0}), attest.ErrFormat},
		"public name is the service": {with("ech", atls.ECHConfigList(Must(atls.NewECHKey(service, 1))(t))),
			attest.ErrFormat},
	} {
		if _, err := owner.ParseRequest(test.data); !errors.Is(err, test.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEveryByteOfARequestCounts: a request with any byte changed is malformed or refused.
func TestEveryByteOfARequestCounts(t *testing.T) {
	r := rent(t)
	block, _ := pem.Decode(Must(r.request(t).Encode())(t))
	for i := range block.Bytes {
		bad := pem.Block{Type: block.Type, Bytes: bytes.Clone(block.Bytes)}
		bad.Bytes[i] ^= 1
		q, err := owner.ParseRequest(pem.EncodeToMemory(&bad))
		if err == nil {
			err = r.judge(q, r.asked.Nonce)
		}
		if err == nil {
			t.Fatalf("byte %d does not count", i)
		}
	}
}

func TestNonces(t *testing.T) {
	n := Must(owner.NewNonce(rand.Reader))(t)
	if got := Must(owner.ParseNonce(n.String()))(t); got != n {
		t.Error("nonce changed on its way through text")
	}
	for _, bad := range []string{"", n.String()[1:], n.String() + "00", "G" + n.String()[1:], "AB" + n.String()[2:]} {
		if _, err := owner.ParseNonce(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	if _, err := owner.NewNonce(bytes.NewReader(nil)); err == nil {
		t.Error("made a nonce of nothing")
	}
}

func FuzzParseRequest(f *testing.F) {
	block, _ := pem.Decode(Must(rent(f).request(f).Encode())(f))
	f.Add(block.Bytes)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, content []byte) {
		q, err := owner.ParseRequest(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: content}))
		if err != nil {
			return
		}
		again := Must(q.Encode())(t)
		if b, _ := pem.Decode(again); !bytes.Equal(b.Bytes, content) {
			t.Error("read what it would not write")
		}
	}))
}
