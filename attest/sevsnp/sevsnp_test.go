package sevsnp

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strconv"
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
	"github.com/vouchmq/vouchmq/attest/internal/flipped"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/samples"
)

var made = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// authority is a root or a signer of our own, with the names of AMD's.
type authority struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// maker is an AMD of our own.
type maker struct {
	root    authority
	signers map[signer]authority
}

// newMaker makes RSA keys, which takes long, only once.
var newMaker = sync.OnceValue(makeMaker)

func makeMaker() *maker {
	m := &maker{signers: map[signer]authority{}}
	m.root = m.authority("ARK-Milan", nil)
	m.signers[vcek] = m.authority("SEV-Milan", &m.root)
	m.signers[vlek] = m.authority("SEV-VLEK-Milan", &m.root)
	return m
}

func (m *maker) authority(name string, parent *authority) authority {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: made.AddDate(-1, 0, 0), NotAfter: made.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return authority{c, key}
}

// verifier trusts the maker for all lines.
func (m *maker) verifier() *Verifier {
	all := authorities{m.root.certificate, map[signer]*x509.Certificate{vcek: m.signers[vcek].certificate, vlek: m.signers[vlek].certificate}}
	v := &Verifier{lines: map[string]func() (authorities, error){}}
	for _, l := range lines() {
		v.lines[l.name] = func() (authorities, error) { return all, nil }
	}
	return v
}

// guest is what a test says of a chip and of a guest on it.
type guest struct {
	product  string
	chip     []byte // nil: a VLEK signs
	parts    map[string]uint8
	version  uint32
	family   uint8
	model    uint8
	policy   uint64
	data     []byte
	change   func(report []byte)              // before it is signed
	issue    func(template *x509.Certificate) // before it is issued
	signedBy *signer                          // another authority than the right one
}

func milan() guest {
	return guest{
		product: "Milan-B0", chip: slices.Repeat([]byte{0xc1}, 64), parts: map[string]uint8{"bootloader": 4, "tee": 0, "snp": 22, "microcode": 213},
		version: 2, policy: policyReserved, data: reportData,
	}
}

func turin() guest {
	return guest{
		product: "Turin", chip: slices.Repeat([]byte{0xc2}, 8), parts: map[string]uint8{"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 5},
		version: 5, family: 0x1a, model: 0x02, policy: policyReserved, data: reportData,
	}
}

var reportData = slices.Repeat([]byte{7}, attest.ReportDataSize)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// quote makes the chip's key, its certificate, and the report.
func (m *maker) quote(g guest) attest.Quote {
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	return attest.Quote{Platform: attest.SEVSNP, Data: g.report(key), Endorsements: m.certificate(g, key)}
}

func (g guest) signer() signer {
	if g.chip == nil {
		return vlek
	}
	return vcek
}

func (m *maker) certificate(g guest, key *ecdsa.PrivateKey) []byte {
	extension := func(id string, value []byte) pkix.Extension {
		var oid asn1.ObjectIdentifier
		for _, part := range strings.Split(id, ".") {
			oid = append(oid, must(strconv.Atoi(part)))
		}
		return pkix.Extension{Id: oid, Value: value}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "SEV-VCEK"}, NotBefore: made, NotAfter: made.AddDate(7, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    []pkix.Extension{extension(oidProduct, must(asn1.MarshalWithParams(g.product, "ia5")))},
	}
	for name, id := range partOIDs() {
		if v, ok := g.parts[name]; ok {
			template.ExtraExtensions = append(template.ExtraExtensions, extension(id, must(asn1.Marshal(int(v)))))
		}
	}
	if g.chip != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, extension(oidChip, g.chip))
	} else {
		template.ExtraExtensions = append(template.ExtraExtensions, extension(oidCSP, must(asn1.MarshalWithParams("cloud", "ia5"))))
	}
	if g.issue != nil {
		g.issue(template)
	}
	by := m.signers[g.signer()]
	if g.signedBy != nil {
		by = m.signers[*g.signedBy]
	}
	return must(x509.CreateCertificate(rand.Reader, template, by.certificate, &key.PublicKey, crypto.Signer(by.key)))
}

func (g guest) report(key *ecdsa.PrivateKey) []byte {
	b := make([]byte, reportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], g.version)
	le.PutUint32(b[4:], 9) // guest SVN
	le.PutUint64(b[8:], g.policy)
	le.PutUint32(b[0x34:], scheme)
	le.PutUint32(b[0x48:], uint32(g.signer())<<2)
	copy(b[0x50:], g.data)
	copy(b[0x90:], slices.Repeat([]byte{0x11}, 48))
	copy(b[0xc0:], slices.Repeat([]byte{0x22}, 32))
	tcb := must(lineOf(g.product)).pack(g.parts)
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		le.PutUint64(b[at:], tcb)
	}
	b[0x188], b[0x189] = g.family, g.model
	copy(b[0x1a0:], g.chip)
	if g.change != nil {
		g.change(b)
	}
	digest := sha512.Sum384(b[:signedSize])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		panic(err)
	}
	copy(b[0x2a0:], reversed(r.FillBytes(make([]byte, 72))))
	copy(b[0x2e8:], reversed(s.FillBytes(make([]byte, 72))))
	return b
}

func (l line) pack(parts map[string]uint8) (tcb uint64) {
	for name, at := range l.parts {
		tcb |= uint64(parts[name]) << (8 * at)
	}
	return tcb
}

func judge(v *Verifier, q attest.Quote, now time.Time) (attest.PlatformClaims, error) {
	return v.Verify(context.Background(), q, attest.ReportData{}, now)
}

func TestReports(t *testing.T) {
	m := newMaker()
	genoa := milan()
	genoa.product, genoa.version, genoa.family, genoa.model = "Genoa", 3, 0x19, 0xa0
	provider := milan()
	provider.product, provider.chip = "Milan", nil
	tagged := milan()
	tagged.chip = slices.Repeat([]byte{0xc1}, 64)
	tagged.issue = func(c *x509.Certificate) {
		for i, e := range c.ExtraExtensions {
			if e.Id.String() == oidChip {
				c.ExtraExtensions[i].Value = must(asn1.Marshal(e.Value))
			}
		}
	}
	for name, g := range map[string]guest{"Milan": milan(), "Genoa": genoa, "Turin": turin(), "VLEK": provider, "tagged chip id": tagged} {
		t.Run(name, func(t *testing.T) {
			c, err := judge(m.verifier(), m.quote(g), made.AddDate(1, 0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(c.ReportData, reportData) || c.Debug || len(c.Conditions) > 0 || !c.Expiry.Equal(made.AddDate(7, 0, 0)) ||
				hex.EncodeToString(c.Measurements["measurement"]) != strings.Repeat("11", 48) {
				t.Errorf("%+v", c)
			}
			for part, want := range g.parts {
				if c.Versions[part] != uint64(want) {
					t.Errorf("version of %s is %d, want %d", part, c.Versions[part], want)
				}
			}
			want := "sevsnp:" + hex.EncodeToString(g.chip)
			if g.chip == nil {
				want = ""
			}
			if c.HardwareID != want {
				t.Errorf("hardware %q, want %q", c.HardwareID, want)
			}
		})
	}
}

func TestFaultyReports(t *testing.T) {
	m, stranger := newMaker(), makeMaker()
	set := func(at int, value byte) func(*guest) {
		return func(g *guest) { g.change = func(b []byte) { b[at] = value } }
	}
	ask := vlek
	for name, test := range map[string]struct {
		change func(*guest)
		now    time.Time
		want   attest.Kind
	}{
		"expired":                            {func(*guest) {}, made.AddDate(7, 0, 1), attest.ErrFreshness},
		"certificate not valid yet":          {func(*guest) {}, made.AddDate(0, 0, -1), attest.ErrFreshness},
		"key of an older firmware":           {set(0x186, 23), made, attest.ErrSignature},
		"key of an older microcode":          {set(0x187, 214), made, attest.ErrSignature},
		"key of a newer firmware":            {set(0x186, 21), made, attest.ErrSignature},
		"key of a newer microcode":           {set(0x187, 212), made, attest.ErrSignature},
		"another chip":                       {set(0x1a0, 0), made, attest.ErrSignature},
		"chip hidden without saying so":      {func(g *guest) { g.change = func(b []byte) { clear(b[0x1a0:0x1e0]) } }, made, attest.ErrSignature},
		"says VLEK, certificate of a VCEK":   {set(0x48, 1<<2), made, attest.ErrSignature},
		"VCEK under the signer of VLEKs":     {func(g *guest) { g.signedBy = &ask }, made, attest.ErrSignature},
		"another line":                       {func(g *guest) { g.version, g.family, g.model = 3, 0x19, 0x11 }, made, attest.ErrSignature},
		"unknown product":                    {func(g *guest) { g.issue = product("Rome") }, made, attest.ErrFormat},
		"Milan's chip, certificate of Turin": {func(g *guest) { g.issue = product("Turin") }, made, attest.ErrFormat},
		"unknown version":                    {func(g *guest) { g.version = 6 }, made, attest.ErrFormat},
		"version 1":                          {func(g *guest) { g.version = 1 }, made, attest.ErrFormat},
		"another signature algorithm":        {set(0x34, 2), made, attest.ErrFormat},
		"no key":                             {set(0x48, 7<<2), made, attest.ErrFormat},
		"impossible policy":                  {func(g *guest) { g.policy = 0 }, made, attest.ErrFormat},
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
		"certificate of the signer":  {func(q *attest.Quote) { q.Endorsements = m.signers[vcek].certificate.Raw }, attest.ErrFormat},
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
				c.ExtraExtensions[i].Value = must(asn1.MarshalWithParams(name, "ia5"))
			}
		}
	}
}

func TestEachFlippedBit(t *testing.T) {
	m := newMaker()
	v := m.verifier()
	for _, g := range []guest{milan(), turin()} {
		q := m.quote(g)
		flipped.Each(t, q.Data, 11, nil, func(bad []byte) error {
			_, err := judge(v, attest.Quote{Platform: q.Platform, Data: bad, Endorsements: q.Endorsements}, made)
			return err
		})
	}
}

// hardware attests with reports of a maker.
type hardware struct {
	*maker
	guest
}

func (h hardware) Platform() attest.Platform { return attest.SEVSNP }

func (h hardware) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	if h.data == nil {
		h.data = data[:]
	}
	return h.quote(h.guest), nil
}

func TestAppraisal(t *testing.T) {
	m := newMaker()
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
		"another report data":      {func(g *guest) { g.data = reportData }, nil, attest.ErrBinding},
		"zeros":                    {func(g *guest) { g.data = make([]byte, 64) }, nil, attest.ErrZeroReportData},
		"debug mode":               {func(g *guest) { g.policy |= policyDebug }, []string{"smt"}, attest.ErrDebug},
		"another measurement":      {func(g *guest) { g.change = func(b []byte) { b[0x90]++ } }, nil, attest.ErrPlatform},
		"another host data":        {func(g *guest) { g.change = func(b []byte) { b[0xc0]++ } }, nil, attest.ErrPlatform},
		"VMPL 1":                   {func(g *guest) { g.change = func(b []byte) { b[0x30] = 1 } }, nil, attest.ErrPlatform},
		"old microcode":            {func(g *guest) { g.parts["microcode"] = 212 }, nil, attest.ErrPlatform},
		"SMT":                      {func(g *guest) { g.policy |= policySMT }, nil, attest.ErrTCB},
		"SMT, allowed":             {func(g *guest) { g.policy |= policySMT }, []string{"smt"}, nil},
		"migration agent":          {func(g *guest) { g.policy |= policyMigration }, []string{"smt"}, attest.ErrTCB},
		"provisional firmware":     {func(g *guest) { g.change = func(b []byte) { b[0x1e6]-- } }, []string{"smt"}, attest.ErrTCB},
		"provisional, and allowed": {func(g *guest) { g.change = func(b []byte) { b[0x1e6]-- } }, []string{"provisional_firmware"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.New([]policy.Identity{{Name: "broker", Modules: []attest.Digest{{}}, AnyOf: []policy.Requirement{requirement(test.allow...)}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			g := milan()
			g.data = nil
			test.change(&g)
			claims := &attest.Claims{}
			claims.Role, claims.Phase, claims.Service = attest.RoleServer, attest.PhaseConnect, "mqtt.example"
			evidence, err := attest.Make(t.Context(), hardware{m, g}, attest.PurposeConnection, claims, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			verdict := policy.NewAppraiser(p, attest.NewRegistry(m.verifier())).Appraise(t.Context(), evidence, claims.Binding, made)
			if !errors.Is(verdict.Err, test.want) || verdict.Accepted != (test.want == nil) {
				t.Errorf("%v, want %v", verdict.Err, test.want)
			}
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

// sample returns recorded evidence; the test is skipped where there is none.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	return samples.Read(t, name)
}

// recorded are a plain report, and those within the reports of Azure's paravisor (from byte 32 on).
func recorded(t *testing.T) map[string]attest.Quote {
	quotes := map[string]attest.Quote{
		"trustee": {Data: sample(t, "sev-snp/trustee/test-report.bin"), Endorsements: sample(t, "sev-snp/trustee/test-vcek.der")},
	}
	block, _ := pem.Decode(sample(t, "azure-vtpm/trustee/snp/vcek.pem"))
	quotes["azure"] = attest.Quote{Data: sample(t, "azure-vtpm/trustee/snp/hcl-report.bin")[32 : 32+reportSize], Endorsements: block.Bytes}
	for _, name := range []string{"evidence-v1.json", "evidence-v2.json"} {
		var e struct {
			Report string `json:"hcl_report"`
			VCEK   string `json:"vcek"`
		}
		if err := json.Unmarshal(sample(t, "azure-vtpm/trustee/snp/"+name), &e); err != nil {
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
	m := newMaker()
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
