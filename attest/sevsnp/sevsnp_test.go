package sevsnp

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/appraised"
	"github.com/vouchmq/vouchmq/attest/internal/flipped"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sevsnp/sevsnptest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// made is when everything that a test makes is valid.
var made = sevsnptest.Now

// amd is an AMD of our own.
type amd struct {
	*sevsnptest.World
	vleks *sevsnptest.Authority
}

// newAMD makes RSA keys, which takes long, only once.
var newAMD = sync.OnceValue(makeAMD)

func makeAMD() *amd {
	w := must(sevsnptest.New(2048))
	return &amd{w, must(w.Authority("SEV-VLEK-Milan"))}
}

// verifier trusts this AMD for all lines.
func (a *amd) verifier() *Verifier {
	v := NewVerifier()
	for _, l := range lines() {
		v = v.WithAuthorities(l.name, a.Root.Certificate, a.VCEKs.Certificate, a.vleks.Certificate)
	}
	return v
}

func (a *amd) quote(g guest) attest.Quote { return must(a.Quote(g)) }

// guest is short for what nearly every test changes something of.
type guest = sevsnptest.Guest

func milan() guest { return sevsnptest.Milan(reportData) }

func turin() guest { return sevsnptest.Turin(reportData) }

// provided is a guest for which the key of a provider signs.
func (a *amd) provided() guest {
	g := milan()
	g.Product, g.Chip, g.Issuer = "Milan", nil, a.vleks
	return g
}

var reportData = slices.Repeat([]byte{7}, attest.ReportDataSize)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func judge(v *Verifier, q attest.Quote, now time.Time) (attest.PlatformClaims, error) {
	return v.Verify(context.Background(), q, attest.ReportData{}, now)
}

func TestReports(t *testing.T) {
	m := newAMD()
	bergamo := sevsnptest.Genoa(reportData)
	bergamo.Product, bergamo.Model = "Genoa", 0xa0
	tagged := milan()
	tagged.ChangeCertificate = func(c *x509.Certificate) {
		for i, e := range c.ExtraExtensions {
			if e.Id.String() == oidChip {
				c.ExtraExtensions[i].Value = must(asn1.Marshal(e.Value))
			}
		}
	}
	for name, g := range map[string]guest{
		"Milan": milan(), "Genoa": sevsnptest.Genoa(reportData), "Bergamo": bergamo, "Turin": turin(),
		"VLEK": m.provided(), "tagged chip id": tagged,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := judge(m.verifier(), m.quote(g), made.AddDate(1, 0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.ReportData, reportData) || c.Debug || len(c.Conditions) > 0 || !c.Expiry.Equal(made.AddDate(sevsnptest.Years, 0, 0)) ||
				hex.EncodeToString(c.Measurements["measurement"]) != strings.Repeat("11", 48) {
				t.Errorf("%+v", c)
			}
			for part, want := range g.Parts {
				if c.Versions[part] != uint64(want) {
					t.Errorf("version of %s is %d, want %d", part, c.Versions[part], want)
				}
			}
			want := "sevsnp:" + hex.EncodeToString(g.Chip)
			if g.Chip == nil {
				want = ""
			}
			if c.HardwareID != want {
				t.Errorf("hardware %q, want %q", c.HardwareID, want)
			}
		})
	}
}

func TestFaultyReports(t *testing.T) {
	m, stranger := newAMD(), makeAMD()
	set := func(at int, value byte) func(*guest) {
		return func(g *guest) { g.ChangeReport = func(b []byte) { b[at] = value } }
	}
	for name, test := range map[string]struct {
		change func(*guest)
		now    time.Time
		want   attest.Kind
	}{
		"expired":                            {func(*guest) {}, made.AddDate(sevsnptest.Years, 0, 1), attest.ErrFreshness},
		"certificate not valid yet":          {func(*guest) {}, made.AddDate(0, 0, -1), attest.ErrFreshness},
		"key of an older firmware":           {set(0x186, 23), made, attest.ErrSignature},
		"key of an older microcode":          {set(0x187, 214), made, attest.ErrSignature},
		"key of a newer firmware":            {set(0x186, 21), made, attest.ErrSignature},
		"key of a newer microcode":           {set(0x187, 212), made, attest.ErrSignature},
		"another chip":                       {set(0x1a0, 0), made, attest.ErrSignature},
		"chip hidden without saying so":      {func(g *guest) { g.ChangeReport = func(b []byte) { clear(b[0x1a0:0x1e0]) } }, made, attest.ErrSignature},
		"says VLEK, certificate of a VCEK":   {set(0x48, 1<<2), made, attest.ErrSignature},
		"VCEK under the signer of VLEKs":     {func(g *guest) { g.Issuer = m.vleks }, made, attest.ErrSignature},
		"another line":                       {func(g *guest) { g.Version, g.Family, g.Model = 3, 0x19, 0x11 }, made, attest.ErrSignature},
		"unknown product":                    {func(g *guest) { g.ChangeCertificate = product("Rome") }, made, attest.ErrFormat},
		"Milan's chip, certificate of Turin": {func(g *guest) { g.ChangeCertificate = product("Turin") }, made, attest.ErrFormat},
		"unknown version":                    {func(g *guest) { g.Version = 6 }, made, attest.ErrFormat},
		"version 1":                          {func(g *guest) { g.Version = 1 }, made, attest.ErrFormat},
		"another signature algorithm":        {set(0x34, 2), made, attest.ErrFormat},
		"no key":                             {set(0x48, 7<<2), made, attest.ErrFormat},
		"impossible policy":                  {func(g *guest) { g.Policy = 0 }, made, attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			g := milan()
			test.change(&g)
			if c, err := judge(m.verifier(), m.quote(g), test.now); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v; %+v", err, test.want, c)
			}
		})
	}
	good := m.quote(milan())
	for name, test := range map[string]struct {
		change func(*attest.Quote)
		want   attest.Kind
	}{
		"root with the right names":  {func(q *attest.Quote) { *q = stranger.quote(milan()) }, attest.ErrSignature},
		"certificate of another key": {func(q *attest.Quote) { q.Endorsements = m.quote(milan()).Endorsements }, attest.ErrSignature},
		"no certificate":             {func(q *attest.Quote) { q.Endorsements = nil }, attest.ErrFormat},
		"garbage for a certificate":  {func(q *attest.Quote) { q.Endorsements = []byte{1} }, attest.ErrFormat},
		"certificate of the signer":  {func(q *attest.Quote) { q.Endorsements = m.VCEKs.Certificate.Raw }, attest.ErrFormat},
		"too short":                  {func(q *attest.Quote) { q.Data = q.Data[:reportSize-1] }, attest.ErrFormat},
		"too long":                   {func(q *attest.Quote) { q.Data = append(slices.Clone(q.Data), 0) }, attest.ErrFormat},
		"something behind signature": {func(q *attest.Quote) { q.Data = slices.Clone(q.Data); q.Data[reportSize-1] = 1 }, attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			q := good
			test.change(&q)
			if _, err := judge(m.verifier(), q, made); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func product(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for i, e := range c.ExtraExtensions {
			if e.Id.String() == oidProduct {
				c.ExtraExtensions[i].Value = sevsnptest.IA5(name)
			}
		}
	}
}

func TestEachFlippedBit(t *testing.T) {
	m := newAMD()
	v := m.verifier()
	for _, g := range []guest{milan(), turin()} {
		q := m.quote(g)
		flipped.Each(t, q.Data, 11, nil, func(bad []byte) error {
			_, err := judge(v, attest.Quote{Platform: q.Platform, Data: bad, Endorsements: q.Endorsements}, made)
			return err
		})
	}
}

// hardware attests with reports of an AMD of our own.
type hardware struct {
	*amd
	guest guest
}

func (h hardware) Platform() attest.Platform { return attest.SEVSNP }

func (h hardware) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	if h.guest.Data == nil {
		h.guest.Data = data[:]
	}
	return h.Quote(h.guest)
}

func TestAppraisal(t *testing.T) {
	m := newAMD()
	requirement := func(allow ...string) policy.Requirement {
		want := map[string][]string{
			"measurement": {strings.Repeat("11", 48)}, "host_data": {strings.Repeat("22", 32)}, "vmpl": {"0"},
			"min_tcb": {"bootloader=4", "microcode=213", "snp=22"},
		}
		if len(allow) > 0 {
			want["allow"] = allow
		}
		return policy.Requirement{Platform: attest.SEVSNP, Want: want}
	}
	for name, test := range map[string]struct {
		change func(*guest)
		allow  []string
		want   error
	}{
		"as it should be":          {func(*guest) {}, nil, nil},
		"another report data":      {func(g *guest) { g.Data = reportData }, nil, attest.ErrBinding},
		"zeros":                    {func(g *guest) { g.Data = make([]byte, 64) }, nil, attest.ErrZeroReportData},
		"debug mode":               {func(g *guest) { g.Policy |= policyDebug }, []string{"smt"}, attest.ErrDebug},
		"another measurement":      {func(g *guest) { g.ChangeReport = func(b []byte) { b[0x90]++ } }, nil, attest.ErrPlatform},
		"another host data":        {func(g *guest) { g.ChangeReport = func(b []byte) { b[0xc0]++ } }, nil, attest.ErrPlatform},
		"VMPL 1":                   {func(g *guest) { g.ChangeReport = func(b []byte) { b[0x30] = 1 } }, nil, attest.ErrPlatform},
		"old microcode":            {func(g *guest) { g.Parts["microcode"] = 212 }, nil, attest.ErrPlatform},
		"SMT":                      {func(g *guest) { g.Policy |= policySMT }, nil, attest.ErrTCB},
		"SMT, allowed":             {func(g *guest) { g.Policy |= policySMT }, []string{"smt"}, nil},
		"migration agent":          {func(g *guest) { g.Policy |= policyMigration }, []string{"smt"}, attest.ErrTCB},
		"provisional firmware":     {func(g *guest) { g.ChangeReport = func(b []byte) { b[0x1e6]-- } }, []string{"smt"}, attest.ErrTCB},
		"provisional, and allowed": {func(g *guest) { g.ChangeReport = func(b []byte) { b[0x1e6]-- } }, []string{"provisional_firmware"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			g := milan()
			g.Data = nil
			test.change(&g)
			appraised.As(t, test.want, appraised.Policy(t, requirement(test.allow...)), m.verifier(), hardware{m, g}, made)
		})
	}
}

// The roots are known by their digests, as AMD's Key Distribution Service gives them.
func TestRoots(t *testing.T) {
	for name, want := range map[string]string{
		"Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
		"Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
		"Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
	} {
		a, err := authoritiesOf(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(a.root.Raw); hex.EncodeToString(got[:]) != want {
			t.Errorf("root of %s is %x", name, got)
		}
		for kind, c := range a.signers {
			if err := c.CheckSignatureFrom(a.root); err != nil {
				t.Errorf("signer of %vs of %s: %v", kind, name, err)
			}
			if prefix := map[signer]string{vcek: "SEV-", vlek: "SEV-VLEK-"}[kind]; c.Subject.CommonName != prefix+name {
				t.Errorf("signer of %vs of %s is %s", kind, name, c.Subject.CommonName)
			}
		}
	}
}

// recorded are a plain report, and those within the reports of Azure's paravisor (from byte 32 on).
func recorded(t *testing.T) map[string]attest.Quote {
	quotes := map[string]attest.Quote{
		"trustee": {Data: samples.Read(t, "sev-snp/trustee/test-report.bin"), Endorsements: samples.Read(t, "sev-snp/trustee/test-vcek.der")},
	}
	block, _ := pem.Decode(samples.Read(t, "azure-vtpm/trustee/snp/vcek.pem"))
	quotes["azure"] = attest.Quote{Data: samples.Read(t, "azure-vtpm/trustee/snp/hcl-report.bin")[32 : 32+reportSize], Endorsements: block.Bytes}
	for _, name := range []string{"evidence-v1.json", "evidence-v2.json"} {
		var e struct {
			Report string `json:"hcl_report"`
			VCEK   string `json:"vcek"`
		}
		if err := json.Unmarshal(samples.Read(t, "azure-vtpm/trustee/snp/"+name), &e); err != nil {
			t.Fatal(err)
		}
		data := must(base64.URLEncoding.DecodeString(e.Report))
		quotes[name] = attest.Quote{Data: data[32 : 32+reportSize], Endorsements: must(base64.URLEncoding.DecodeString(e.VCEK))}
	}
	return quotes
}

var sampled = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestSamples(t *testing.T) {
	v := NewVerifier()
	conditions := map[string]string{
		"trustee": "smt provisional_firmware", "azure": "smt provisional_firmware", "evidence-v1.json": "smt", "evidence-v2.json": "smt",
	}
	for name, q := range recorded(t) {
		c, err := judge(v, q, sampled)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.Debug || strings.Join(c.Conditions, " ") != conditions[name] || c.HardwareID == "" {
			t.Errorf("%s: %+v", name, c)
		}
		if _, err := judge(v, q, sampled.AddDate(7, 0, 0)); !errors.Is(err, attest.ErrFreshness) {
			t.Errorf("%s, seven years later: %v", name, err)
		}
		for i := range 200 { // some bits of the part that is signed
			bad := q
			bad.Data = slices.Clone(q.Data)
			bit := (i*8*signedSize)/200 + i%8
			bad.Data[bit/8] ^= 1 << (bit % 8)
			if _, err := judge(v, bad, sampled); err == nil {
				t.Errorf("%s: accepted with bit %d flipped", name, bit)
			}
		}
	}
}

// google says what go-sev-guest makes of a quote, with AMD's roots given to it.
func google(t *testing.T, q attest.Quote, now time.Time) error {
	report, err := abi.ReportToProto(q.Data)
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(q.Endorsements)
	if err != nil {
		return err
	}
	extensions, err := kds.VcekCertificateExtensions(c)
	if err != nil {
		return err
	}
	name, _, _ := strings.Cut(extensions.ProductName, "-")
	a, err := authoritiesOf(name)
	if err != nil {
		return err
	}
	root := trust.AMDRootCertsProduct(name)
	root.ProductCerts = &trust.ProductCerts{Ask: a.signers[vcek], Ark: a.root}
	options := &verify.Options{DisableCertFetching: true, Now: now, TrustedRoots: map[string][]*trust.AMDRootCerts{name: {root}}}
	attestation := &sevsnp.Attestation{Report: report, CertificateChain: &sevsnp.CertificateChain{VcekCert: q.Endorsements}}
	return verify.SnpAttestation(attestation, options)
}

// What another verifier refuses, this one must not accept.
func TestAgreesWithAnotherVerifier(t *testing.T) {
	v := NewVerifier()
	for name, q := range recorded(t) {
		if err := google(t, q, sampled); err != nil {
			t.Errorf("%s: go-sev-guest: %v", name, err)
		}
		for i := 0; i < 8*reportSize; i += 97 {
			bad := q
			bad.Data = slices.Clone(q.Data)
			bad.Data[i/8] ^= 1 << (i % 8)
			_, ours := judge(v, bad, sampled)
			if theirs := google(t, bad, sampled); ours == nil && theirs != nil {
				t.Errorf("%s with bit %d flipped: go-sev-guest says %v", name, i, theirs)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	m := newAMD()
	for _, g := range []guest{milan(), turin()} {
		q := m.quote(g)
		f.Add(q.Data, q.Endorsements)
	}
	v := m.verifier()
	f.Fuzz(fuzzbound.OfTwo(func(t *testing.T, report, certificate []byte) {
		c, err := judge(v, attest.Quote{Data: report, Endorsements: certificate}, made)
		if err == nil && len(c.ReportData) != attest.ReportDataSize {
			t.Errorf("%+v", c)
		}
	}))
}
