package nitro

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/appraised"
	"github.com/vouchmq/vouchmq/attest/internal/flipped"
	"github.com/vouchmq/vouchmq/attest/internal/links"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// cloud is an AWS of our own: a root, a certificate authority below it, and keys of enclaves.
type cloud struct {
	root, authority []byte // certificates
	leaf            []byte
	key             *ecdsa.PrivateKey
	verified        *links.Memory // of all verifiers that trust it
}

// made is when everything of a cloud was made. Certificates of enclaves live three hours, as AWS's do.
var made = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newCloud(t testing.TB, curve elliptic.Curve) *cloud {
	t.Helper()
	c := &cloud{verified: links.New()}
	year := 365 * 24 * time.Hour
	root, rootKey := issue(t, elliptic.P384(), "root", 20*year, nil, nil)
	authority, authorityKey := issue(t, elliptic.P384(), "authority", year, root, rootKey)
	leaf, key := issue(t, curve, "i-0123456789abcdef0-enc0123456789abcdef", 3*time.Hour, authority, authorityKey)
	c.root, c.authority, c.leaf, c.key = root.Raw, authority.Raw, leaf.Raw, key
	return c
}

func issue(t testing.TB, curve elliptic.Curve, name string, life time.Duration, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: made, NotAfter: made.Add(life),
		BasicConstraintsValid: true, IsCA: name != "i-0123456789abcdef0-enc0123456789abcdef", KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (c *cloud) verifier() Verifier {
	return Verifier{root: sha256.Sum256(c.root), verified: c.verified}
}

// document is one of an enclave that is not in debug mode.
func (c *cloud) document(userData []byte) document {
	d := document{
		ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", Timestamp: uint64(made.Add(time.Minute).UnixMilli()), Digest: digestName,
		PCRs: map[uint8][]byte{}, Certificate: c.leaf, CABundle: [][]byte{c.root, c.authority}, UserData: userData,
	}
	for i := range uint8(16) {
		d.PCRs[i] = slices.Repeat([]byte{i + 1}, 48)
	}
	return d
}

// sign makes a message of a payload, untagged, as the device does.
func (c *cloud) sign(t testing.TB, payload any) []byte {
	t.Helper()
	text, err := cbor.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES384, c.key)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.UntaggedSign1Message{Payload: text}
	m.Headers.Protected = cose.ProtectedHeader{}
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES384)
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	data, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var reportData = slices.Repeat([]byte{7}, attest.ReportDataSize)

func verify(v Verifier, data []byte, now time.Time) (attest.PlatformClaims, error) {
	return v.Verify(context.Background(), attest.Quote{Platform: attest.Nitro, Data: data}, attest.ReportData{}, now)
}

func TestDocument(t *testing.T) {
	c := newCloud(t, elliptic.P384())
	data := c.sign(t, c.document(reportData))
	for name, data := range map[string][]byte{"untagged": data, "tagged": append([]byte{0xd2}, data...)} {
		claims, err := verify(c.verifier(), data, made.Add(time.Hour))
		if err != nil {
			t.Fatal(name, err)
		}
		if !slices.Equal(claims.ReportData, reportData) || claims.Debug || claims.TCB != attest.TCBNotApplicable ||
			claims.HardwareID != "nitro:0123456789abcdef0" || !claims.Expiry.Equal(made.Add(3*time.Hour)) {
			t.Errorf("%s: %+v", name, claims)
		}
		if len(claims.Measurements) != 16 || !slices.Equal(claims.Measurements["pcr15"], slices.Repeat([]byte{16}, 48)) {
			t.Errorf("%s: %x", name, claims.Measurements)
		}
	}
}

// Each of these documents is signed by a key that leads to the root, and must be refused all the same.
func TestFaultyDocuments(t *testing.T) {
	c := newCloud(t, elliptic.P384())
	stranger := newCloud(t, elliptic.P384())
	for name, test := range map[string]struct {
		change func(*document)
		now    time.Duration // after everything was made
		want   attest.Kind
	}{
		"expired":                     {func(*document) {}, 3*time.Hour + time.Second, attest.ErrFreshness},
		"certificates not valid yet":  {func(*document) {}, -time.Second, attest.ErrFreshness},
		"from the future":             {func(d *document) { d.Timestamp += 3600_000 }, time.Minute, attest.ErrFreshness},
		"no timestamp":                {func(d *document) { d.Timestamp = 0 }, time.Minute, attest.ErrFormat},
		"root of somebody else":       {func(d *document) { d.CABundle[0] = stranger.root }, time.Minute, attest.ErrSignature},
		"all of somebody else":        {func(d *document) { d.CABundle = [][]byte{stranger.root, stranger.authority} }, time.Minute, attest.ErrSignature},
		"somebody else below root":    {func(d *document) { d.CABundle[1] = stranger.authority }, time.Minute, attest.ErrSignature},
		"certificate of another key":  {func(d *document) { d.Certificate = stranger.leaf }, time.Minute, attest.ErrSignature},
		"authority signs itself":      {func(d *document) { d.Certificate = c.authority }, time.Minute, attest.ErrSignature},
		"no intermediate":             {func(d *document) { d.CABundle = d.CABundle[:1] }, time.Minute, attest.ErrSignature},
		"no bundle":                   {func(d *document) { d.CABundle = nil }, time.Minute, attest.ErrFormat},
		"garbage in the bundle":       {func(d *document) { d.CABundle[1] = []byte{1, 2, 3} }, time.Minute, attest.ErrFormat},
		"garbage for a certificate":   {func(d *document) { d.Certificate = []byte{1} }, time.Minute, attest.ErrFormat},
		"another digest":              {func(d *document) { d.Digest = "SHA256" }, time.Minute, attest.ErrFormat},
		"a short PCR":                 {func(d *document) { d.PCRs[0] = d.PCRs[0][:32] }, time.Minute, attest.ErrFormat},
		"a PCR that does not exist":   {func(d *document) { d.PCRs[32] = d.PCRs[0] }, time.Minute, attest.ErrFormat},
		"no PCRs":                     {func(d *document) { d.PCRs = nil }, time.Minute, attest.ErrFormat},
		"no module id":                {func(d *document) { d.ModuleID = "" }, time.Minute, attest.ErrFormat},
		"too much of what is to sign": {func(d *document) { d.Nonce = make([]byte, maxFree+1) }, time.Minute, attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			d := c.document(reportData)
			test.change(&d)
			if claims, err := verify(c.verifier(), c.sign(t, d), made.Add(test.now)); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v; %+v", err, test.want, claims)
			}
		})
	}
}

func TestUnknownFieldsAndHeaders(t *testing.T) {
	c := newCloud(t, elliptic.P384())
	now := made.Add(time.Minute)
	if _, err := verify(c.verifier(), c.sign(t, map[string]any{"more": 1}), now); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("unknown field: %v", err)
	}
	if _, err := verify(c.verifier(), make([]byte, maxDocumentSize+1), now); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("too large: %v", err)
	}
	weak := newCloud(t, elliptic.P256()) // what would sign with ES256
	signer, err := cose.NewSigner(cose.AlgorithmES256, weak.key)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := cbor.Marshal(weak.document(reportData))
	if err != nil {
		t.Fatal(err)
	}
	m := cose.UntaggedSign1Message{Payload: payload}
	m.Headers.Protected = cose.ProtectedHeader{}
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	data, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(weak.verifier(), data, now); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("another algorithm: %v", err)
	}
}

// A header that is not signed would let whoever passes a document on change its bytes; a key on another curve is none that AWS has.
func TestHeadersThatAreNotSignedAndOtherCurves(t *testing.T) {
	c, now := newCloud(t, elliptic.P384()), made.Add(time.Minute)
	var m cose.UntaggedSign1Message
	if err := m.UnmarshalCBOR(c.sign(t, c.document(reportData))); err != nil {
		t.Fatal(err)
	}
	m.Headers.RawUnprotected, m.Headers.Unprotected = nil, cose.UnprotectedHeader{cose.HeaderLabelKeyID: []byte{1}}
	data, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(c.verifier(), data, now); !errors.Is(err, attest.ErrFormat) {
		t.Errorf("a header that is not signed: %v", err)
	}
	small := newCloud(t, elliptic.P256())
	if _, err := verify(small.verifier(), small.sign(t, small.document(reportData)), now); !errors.Is(err, attest.ErrSignature) {
		t.Errorf("a key on P-256: %v", err)
	}
}

// A bit that is flipped anywhere must make the document be refused. What is not signed are the certificates' own signatures
// and the message's: they are checked as such.
func TestEachFlippedBit(t *testing.T) {
	c := newCloud(t, elliptic.P384())
	v, now := c.verifier(), made.Add(time.Minute)
	flipped.Each(t, c.sign(t, c.document(reportData)), 17, nil, func(bad []byte) error {
		_, err := verify(v, bad, now)
		return err
	})
}

// enclave attests with documents of a cloud.
type enclave struct {
	*cloud
	t      testing.TB
	change func(*document)
}

func (e enclave) Platform() attest.Platform { return attest.Nitro }

func (e enclave) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	d := e.document(data[:])
	if e.change != nil {
		e.change(&d)
	}
	return attest.Quote{Platform: attest.Nitro, Data: e.sign(e.t, d)}, nil
}

const rules = `
version: 1
identities:
  broker:
    module: ["sha384:` + zeros + `"]
    any_of:
      - nitro: { pcr0: ["010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101"], pcrs: { 15: "101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010" } }
    instances: ["nitro:0123456789abcdef0"]
rules: []
`

const zeros = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

func TestAppraisal(t *testing.T) {
	c := newCloud(t, elliptic.P384())
	p, err := policy.Parse("policy.yaml", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Repeat([]byte{9}, attest.ReportDataSize)
	for name, test := range map[string]struct {
		change func(*document)
		want   error
	}{
		"as it should be":     {nil, nil},
		"another report data": {func(d *document) { d.UserData = other }, attest.ErrBinding},
		"zeros":               {func(d *document) { d.UserData = make([]byte, 64) }, attest.ErrZeroReportData},
		"no report data":      {func(d *document) { d.UserData = nil }, attest.ErrZeroReportData},
		"half of it":          {func(d *document) { d.UserData = d.UserData[:32] }, attest.ErrBinding},
		"in another field":    {func(d *document) { d.Nonce, d.UserData = d.UserData, nil }, attest.ErrZeroReportData},
		"debug mode":          {debugMode, attest.ErrDebug},
		"no image":            {func(d *document) { maps.DeleteFunc(d.PCRs, func(i uint8, _ []byte) bool { return i < 3 }) }, attest.ErrDebug},
		"another image":       {func(d *document) { d.PCRs[0] = d.PCRs[1] }, attest.ErrPlatform},
		"without the PCR":     {func(d *document) { delete(d.PCRs, 15) }, attest.ErrPlatform},
		"another machine":     {func(d *document) { d.ModuleID = "i-0000000000abcdef0-enc0123456789abcdef" }, attest.ErrInstance},
		"unknown machine":     {func(d *document) { d.ModuleID = "somewhere" }, attest.ErrInstance},
	} {
		t.Run(name, func(t *testing.T) {
			appraised.As(t, test.want, p, c.verifier(), enclave{c, t, test.change}, made.Add(time.Minute))
		})
	}
}

func debugMode(d *document) {
	for i := range uint8(3) {
		d.PCRs[i] = make([]byte, 48)
	}
}

// sample returns a real document; the test is skipped where there are none.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	return samples.Read(t, "nitro/evervault/"+name)
}

func TestSamples(t *testing.T) {
	for _, test := range []struct {
		file  string
		at    string
		debug bool
		free  int // bytes of user_data
	}{
		{"valid-attestation-doc-bytes", "2022-10-13T08:58:02Z", false, 0},
		{"debug-mode-attestation-doc-bytes", "2022-10-12T13:50:06Z", true, 13},
		{"valid-attestation-doc-base64", "2023-09-18T15:03:30Z", true, 91},
	} {
		t.Run(test.file, func(t *testing.T) {
			data := sample(t, test.file)
			if filepath.Ext(test.file) == "" && test.free == 91 {
				var err error
				if data, err = base64.StdEncoding.DecodeString(string(data)); err != nil {
					t.Fatal(err)
				}
			}
			at, err := time.Parse(time.RFC3339, test.at)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := verify(NewVerifier(), data, at)
			if err != nil {
				t.Fatal(err)
			}
			if claims.Debug != test.debug || len(claims.ReportData) != test.free || claims.HardwareID == "" {
				t.Errorf("%+v", claims)
			}
			for name, wrong := range map[string]time.Time{"a day later": at.AddDate(0, 0, 1), "a day before": at.AddDate(0, 0, -1)} {
				if _, err := verify(NewVerifier(), data, wrong); !errors.Is(err, attest.ErrFreshness) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestSampleFlipped(t *testing.T) {
	data := sample(t, "valid-attestation-doc-bytes")
	at := time.Date(2022, 10, 13, 8, 58, 2, 0, time.UTC)
	step := 37
	if testing.Short() {
		step = 191
	}
	for i := 0; i < 8*len(data); i += step {
		bad := slices.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := verify(NewVerifier(), bad, at); err == nil {
			t.Errorf("accepted with bit %d of byte %d flipped", i%8, i/8)
		}
	}
}

// FuzzParse reads what a peer may send. What comes after that, certificates and signature, is the standard library's.
func FuzzParse(f *testing.F) {
	c := newCloud(f, elliptic.P384())
	f.Add(c.sign(f, c.document(reportData)))
	f.Add([]byte{0xd2, 0x84})
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		_, d, err := parse(data)
		if err != nil {
			return
		}
		if claims := d.claims(made); len(claims.Measurements) != len(d.PCRs) {
			t.Errorf("%+v", claims)
		}
	}))
}

// FuzzVerify goes on where FuzzParse ends: with the certificates in the document.
func FuzzVerify(f *testing.F) {
	c := newCloud(f, elliptic.P384())
	f.Add(c.sign(f, c.document(reportData)))
	v := c.verifier()
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		if claims, err := verify(v, data, made); err == nil && len(claims.Measurements) == 0 {
			t.Errorf("%+v", claims)
		}
		_, _ = Describe(attest.Quote{Data: data})
	}))
}
