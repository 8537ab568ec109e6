package azure

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/appraised"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	"github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/attest/internal/flipped"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

func judge(v *Verifier, q attest.Quote, at time.Time) (attest.PlatformClaims, error) {
	return v.Verify(context.Background(), q, attest.ReportData{}, at)
}

func TestVerify(t *testing.T) {
	for name, test := range map[string]struct {
		intel       *dcaptest.World
		hardware    string
		tcb         attest.TCBStatus
		measurement string
	}{
		"SEV-SNP": {nil, "sevsnp:c1c1", attest.TCBNotApplicable, "measurement"},
		"TDX":     {dcaptest.New(t), "tdx:", attest.TCBUpToDate, "mrtd"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(test.intel)
			c, err := judge(m.verifier(), m.quote(t), now)
			if err != nil {
				t.Fatal(err)
			}
			if c.Platform != attest.Azure || !bytes.Equal(c.ReportData, m.extra) || c.TCB != test.tcb || !strings.HasPrefix(c.HardwareID, test.hardware) || c.Expiry.IsZero() {
				t.Errorf("%+v", c)
			}
			if len(c.Measurements[test.measurement]) != 48 || c.Measurements["pcr0"][0] != 0x10 || c.Measurements["pcr14"][0] != 0x14 {
				t.Errorf("%x", c.Measurements)
			}
		})
	}
}

// put changes the number at an offset of the HCL report.
func put(at int, value uint32) func(*machine) {
	return func(m *machine) {
		m.shown = func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], value); return b }
	}
}

// swap replaces some of the runtime data after it has been signed.
func swap(from, to string) func(*machine) {
	return func(m *machine) {
		m.shown = func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
}

// edit changes the runtime data before it is signed.
func edit(change func(keys []any) []any) func(*machine) {
	return func(m *machine) {
		m.text = func(data map[string]any) { data["keys"] = change(data["keys"].([]any)) }
	}
}

func field(name string, value any) func(*machine) {
	return edit(func(keys []any) []any { keys[0].(map[string]any)[name] = value; return keys })
}

func change(f func(*evidence)) func(*machine) { return func(m *machine) { m.changed = f } }

func TestFaults(t *testing.T) {
	intel := dcaptest.New(t)
	for name, test := range map[string]struct {
		change func(*machine)
		want   error
		says   string
	}{
		"runtime data swapped":       {swap(`"secure-boot":true`, `"secure-boot":1234`), attest.ErrSignature, "another runtime data"},
		"key swapped":                {swap(`AQAB","key_ops":["sign"],"kid":"HCLAkPub"`, `AQAB","key_ops":["sign"],"kid":"hCLAkPub"`), attest.ErrFormat, "no HCLAkPub"},
		"second half of report data": {func(m *machine) { m.bound = func(b *[64]byte) { b[63] = 1 } }, attest.ErrSignature, "another runtime data"},
		"other attestation key":      {func(m *machine) { m.key = m.amd.otherAK }, attest.ErrSignature, "signature of the quote"},
		"PCR forged":                 {change(func(e *evidence) { e.PCRs[1][0]++ }), attest.ErrSignature, "not those that were signed"},
		"a PCR less":                 {change(func(e *evidence) { e.PCRs = e.PCRs[:1] }), attest.ErrFormat, "PCR 14"},
		"a PCR more":                 {change(func(e *evidence) { e.PCRs = append(e.PCRs, e.PCRs[0]) }), attest.ErrFormat, "that the quote is not over"},
		"nonce changed":              {change(func(e *evidence) { e.Attested[26]++ }), attest.ErrSignature, "signature of the quote"},
		"no quote":                   {change(func(e *evidence) { e.Attested = nil }), attest.ErrFormat, "cut short"},
		"long quote":                 {change(func(e *evidence) { e.Attested = make([]byte, 4000) }), attest.ErrFormat, "too long"},
		"no signature":               {change(func(e *evidence) { e.Signature = nil }), attest.ErrSignature, "signature of the quote"},
		"SHA-1":                      {change(func(e *evidence) { e.Signature[3] = 4 }), attest.ErrSignature, "scheme"},
		"not by a TPM":               {func(m *machine) { m.quoted = func(b []byte) []byte { b[0] = 0; return b } }, attest.ErrFormat, "not made by a TPM"},
		"VCEK expired":               {func(m *machine) { m.notAfter = now.AddDate(0, 0, -1) }, attest.ErrFreshness, "expired"},
		"VCEK of other firmware":     {func(m *machine) { m.report = func(b []byte) { b[0x180]++ } }, attest.ErrSignature, "version 4 of bootloader"},
		"no VCEK":                    {func(m *machine) { m.endorsed = func([]byte) []byte { return nil } }, attest.ErrFormat, "without the certificate"},
		"report not signed so":       {func(m *machine) { m.shown = func(b []byte) []byte { b[reportAt+0x90]++; return b } }, attest.ErrSignature, "SEV-SNP report"},
		"report at VMPL 2":           {func(m *machine) { m.report = func(b []byte) { b[0x30] = 2 } }, attest.ErrSignature, "VMPL 2"},
		"TD quote with SEV-SNP":      {change(func(e *evidence) { e.TDQuote = []byte{1} }), attest.ErrFormat, "TD quote"},
		"version of evidence":        {change(func(e *evidence) { e.Version = 2 }), attest.ErrFormat, "version 2"},
		"magic":                      {put(0, 0), attest.ErrFormat, "begins"},
		"version of the report":      {put(4, 3), attest.ErrFormat, "version 3"},
		"size":                       {put(8, 1), attest.ErrFormat, "contradict"},
		"request":                    {put(12, 1), attest.ErrFormat, "no answer"},
		"status":                     {put(16, 1), attest.ErrFormat, "no answer"},
		"reserved":                   {put(28, 1), attest.ErrFormat, "no answer"},
		"size of runtime data":       {put(runtimeAt, 1), attest.ErrFormat, "contradict"},
		"version of runtime data":    {put(runtimeAt+4, 2), attest.ErrFormat, "version 2"},
		"type of report":             {put(runtimeAt+8, 3), attest.ErrFormat, "type 3"},
		"another type of report":     {put(runtimeAt+8, uint32(tdx)), attest.ErrFormat, "TD quote"},
		"hash":                       {put(runtimeAt+12, 2), attest.ErrFormat, "hash 2"},
		"size of the text":           {put(runtimeAt+16, 1<<31), attest.ErrFormat, "cut short"},
		"something behind it":        {func(m *machine) { m.shown = func(b []byte) []byte { b[len(b)-1] = 1; return b } }, attest.ErrFormat, "behind its end"},
		"cut short":                  {func(m *machine) { m.shown = func(b []byte) []byte { return b[:textAt-1] } }, attest.ErrFormat, "bytes"},
		"too long":                   {func(m *machine) { m.shown = func(b []byte) []byte { return append(b, make([]byte, maxReport)...) } }, attest.ErrFormat, "bytes"},
		"no JSON":                    {func(m *machine) { m.shown = func(b []byte) []byte { b[textAt] = '['; return b } }, attest.ErrFormat, "runtime data"},
		"no key":                     {edit(func(keys []any) []any { return keys[1:] }), attest.ErrFormat, "no HCLAkPub"},
		"two keys":                   {edit(func(keys []any) []any { return append(keys, keys[0]) }), attest.ErrFormat, "twice"},
		"key of elliptic curves":     {field("kty", "EC"), attest.ErrFormat, "RSA"},
		"exponent 3":                 {field("e", "Aw"), attest.ErrFormat, "RSA"},
		"weak key":                   {field("n", strings.Repeat("A", 20)), attest.ErrFormat, "RSA"},
		"no base64":                  {field("n", "="), attest.ErrFormat, "RSA"},
		"TDX: runtime data swapped":  {func(m *machine) { m.intel = intel; swap(`"secure-boot":true`, `"secure-boot":1234`)(m) }, attest.ErrSignature, "another runtime data"},
		"TDX: quote of another VM": {func(m *machine) {
			m.intel, m.changed = intel, func(e *evidence) { e.TDQuote = intel.Quote(dcaptest.Quote{Version: 4, ReportData: [64]byte{1}}) }
		}, attest.ErrSignature, "another runtime data"},
		"TDX: no quote":      {func(m *machine) { m.intel, m.changed = intel, func(e *evidence) { e.TDQuote = nil } }, attest.ErrFormat, "TD quote"},
		"TDX: no collateral": {func(m *machine) { m.intel, m.endorsed = intel, func([]byte) []byte { return nil } }, dcap.FaultNoCollateral, "collateral"},
		"TDX: stale collateral": {func(m *machine) {
			m.intel, m.endorsed = intel, func([]byte) []byte {
				return intel.Endorsements(dcaptest.Collateral{TCBInfo: func(info map[string]any) { info["nextUpdate"] = dcaptest.Stamp(-1) }})
			}
		}, dcap.FaultExpired, "TCB info"},
		"TDX: collateral of SGX": {func(m *machine) {
			m.intel, m.endorsed = intel, func([]byte) []byte { return intel.Endorsements(dcaptest.Collateral{SGX: true}) }
		}, dcap.FaultCollateralMismatch, ""},
		"TDX: quote cut short": {func(m *machine) { m.intel, m.changed = intel, func(e *evidence) { e.TDQuote = e.TDQuote[:700] } }, attest.ErrFormat, ""},
		"TDX: quote changed":   {func(m *machine) { m.intel, m.changed = intel, func(e *evidence) { e.TDQuote[200]++ } }, attest.ErrSignature, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(nil)
			test.change(m)
			c, err := judge(m.verifier(), m.quote(t), now)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %v: %s; %+v", err, test.want, test.says, c)
			}
		})
	}
}

// The hardware's roots are those of AMD and Intel.
func TestStrangers(t *testing.T) {
	for _, intel := range []*dcaptest.World{nil, dcaptest.New(t)} {
		m := newMachine(intel)
		if _, err := judge(NewVerifier(nil), m.quote(t), now); !errors.Is(err, attest.ErrSignature) {
			t.Error(err)
		}
	}
}

func TestEachFlippedBit(t *testing.T) {
	for _, intel := range []*dcaptest.World{nil, dcaptest.New(t)} {
		m := newMachine(intel)
		v, q := m.verifier(), m.quote(t)
		// With TDX nothing vouches for the report within: the quote does. Nor does it matter how its certificates are encoded.
		at, certificates := bytes.Index(q.Data, []byte(magic)), bytes.Index(q.Data, []byte("-----BEGIN"))
		free := func(i int) bool {
			return intel != nil && (i >= certificates && i < at || i >= at+reportAt && i < at+runtimeAt)
		}
		flipped.Each(t, q.Data, 31, free, func(bad []byte) error {
			_, err := judge(v, attest.Quote{Platform: q.Platform, Data: bad, Endorsements: q.Endorsements}, now)
			return err
		})
	}
}

// Attest makes a machine an attester.
func (m *machine) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	if short := data.Short(); m.extra == nil {
		m.extra = short[:]
	}
	return m.quote(nilTB{}), nil
}

func (m *machine) Platform() attest.Platform { return attest.Azure }

// nilTB is for making quotes outside of a test's goroutine.
type nilTB struct{ testing.TB }

func (nilTB) Helper() {}

func TestAppraisal(t *testing.T) {
	intel := dcaptest.New(t)
	launched := strings.Repeat("11", 48)
	for name, test := range map[string]struct {
		change func(*machine)
		ask    map[string][]string
		want   error
	}{
		"SEV-SNP":           {nil, map[string][]string{"measurement": {launched}, "pcrs": {"14=" + strings.Repeat("14", 32)}, "min_tcb": {"snp=22"}}, nil},
		"another nonce":     {func(m *machine) { m.extra = bytes.Repeat([]byte{7}, 32) }, map[string][]string{"measurement": {launched}}, attest.ErrBinding},
		"no nonce":          {func(m *machine) { m.extra = []byte{} }, map[string][]string{"measurement": {launched}}, attest.ErrBinding},
		"zeros":             {func(m *machine) { m.extra = make([]byte, 32) }, map[string][]string{"measurement": {launched}}, attest.ErrZeroReportData},
		"debug":             {func(m *machine) { m.report = func(b []byte) { b[10] |= 1 << 3 } }, map[string][]string{"measurement": {launched}}, attest.ErrDebug},
		"another paravisor": {nil, map[string][]string{"measurement": {strings.Repeat("12", 48)}}, attest.ErrPlatform},
		"another PCR":       {nil, map[string][]string{"measurement": {launched}, "pcrs": {"0=" + strings.Repeat("14", 32)}}, attest.ErrPlatform},
		"SMT":               {func(m *machine) { m.report = func(b []byte) { b[10] |= 1 } }, map[string][]string{"measurement": {launched}}, attest.ErrTCB},
		"SMT, allowed":      {func(m *machine) { m.report = func(b []byte) { b[10] |= 1 } }, map[string][]string{"measurement": {launched}, "allow": {"smt"}}, nil},
		"TDX for SEV-SNP":   {func(m *machine) { m.intel = intel }, map[string][]string{"measurement": {launched}}, attest.ErrPlatform},
		"TDX, debug":        {func(m *machine) { m.intel, m.td = intel, func(b []byte) { b[120] |= 1 } }, map[string][]string{"mrtd": {launched}}, attest.ErrDebug},
		"TDX, another MRTD": {func(m *machine) { m.intel = intel }, map[string][]string{"mrtd": {launched}}, attest.ErrPlatform},
		"TDX": {func(m *machine) {
			m.intel, m.td = intel, func(b []byte) { copy(b[136:184], bytes.Repeat([]byte{0x11}, 48)) }
		}, map[string][]string{"mrtd": {launched}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := appraised.Policy(t, policy.Requirement{Platform: attest.Azure, Want: test.ask})
			m := newMachine(nil)
			m.extra = nil
			if test.change != nil {
				test.change(m)
			}
			appraised.As(t, test.want, p, m.verifier(), m, now)
		})
	}
	_, err := policy.New([]policy.Identity{{Name: "broker", Modules: []attest.Digest{{}}, AnyOf: []policy.Requirement{
		{Platform: attest.Azure, Want: map[string][]string{"pcrs": {"0=" + strings.Repeat("00", 32)}}}}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "mrtd") {
		t.Errorf("a policy without a measurement of the paravisor: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	for _, intel := range []*dcaptest.World{nil, dcaptest.Fixed(f)} {
		q := newMachine(intel).quote(f)
		f.Add(q.Data, q.Endorsements)
	}
	m := newMachine(dcaptest.Fixed(f))
	v := m.verifier()
	f.Fuzz(fuzzbound.OfTwo(func(t *testing.T, data, endorsements []byte) {
		c, err := judge(v, attest.Quote{Data: data, Endorsements: endorsements}, now)
		if err == nil && c.Platform != attest.Azure {
			t.Errorf("%+v", c)
		}
	}))
}

func FuzzReport(f *testing.F) {
	n := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 256))
	f.Add(frame(snp, make([]byte, reportSize), []byte(`{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"`+n+`"}]}`)))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, b []byte) {
		r, err := parseReport(b)
		if err == nil && (len(r.hardware) != reportSize || len(r.text) > len(b) || r.key == nil) {
			t.Errorf("%+v", r)
		}
		if _, describe := DescribeHCL(b, nil); err != nil && describe == nil {
			t.Error("described what cannot be read")
		}
	}))
}
