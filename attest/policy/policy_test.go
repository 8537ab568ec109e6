package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
)

var (
	digestA = "sha384:" + strings.Repeat("a1", 48)
	digestB = "sha384:" + strings.Repeat("00", 47) + "01"
	digestC = "sha384:" + strings.Repeat("1e", 47) + "05" // looks like a number
)

// example uses every key there is.
var example = `
version: 1
identities:
  broker:
    module:  [` + digestA + `]          # accepted
    config:  [` + digestB + `, ` + digestC + `]
    runtime: ` + digestB + `
    simulated: allow
    any_of:
      - sim: { key: [` + digestC + `], measurement: [` + digestA + `, ` + digestB + `] }
      - sgx:    { mrsigner: ` + strings.Repeat("11", 32) + `, isv_prod_id: 1, min_isv_svn: 2, tcb: [UpToDate, SWHardeningNeeded], advisories: [INTEL-SA-00615] }
      - sgx:    { mrenclave: [` + strings.Repeat("1e", 32) + `] }
      - tdx:    { mrtd: [` + strings.Repeat("22", 48) + `], rtmr1: [` + strings.Repeat("23", 48) + `] }
      - sevsnp: { measurement: [` + strings.Repeat("33", 48) + `], min_tcb: { bootloader: 4, snp: 22, microcode: 213 } }
      - tpm:    { ak: [` + strings.Repeat("44", 32) + `], ak_ca: ` + strings.Repeat("45", 48) + `, pcrs: { 0: ` + strings.Repeat("55", 32) + `, 4: ` + strings.Repeat("56", 32) + ` } }
      - nitro:  { pcr0: ` + strings.Repeat("66", 48) + ` }
      - cca:    { cpak: ` + strings.Repeat("88", 48) + `, rim: [` + strings.Repeat("77", 32) + `] }
    instances: [sim:00, "ppid:1"]
  sensor: { module: [` + digestB + `], simulated: allow, any_of: [ { sim: {} } ] }
rules:
  - who: sensor
    publish: ["sensors/%c/#"]
    provenance: true
  - who: [broker, { user: alice }]
    subscribe: ["sensors/#", "a/+/b"]
  - who: { anonymous: true, listener: plain }
    publish: ["public/#"]
    subscribe: ["public/#"]
`

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParse(t *testing.T) {
	p := parse(t, example)
	want := []Rule{
		{Who: []Who{{Identity: "sensor"}}, Publish: []string{"sensors/%c/#"}, Provenance: true},
		{Who: []Who{{Identity: "broker"}, {User: "alice"}}, Subscribe: []string{"a/+/b", "sensors/#"}},
		{Who: []Who{{Anonymous: true, Listener: "plain"}}, Publish: []string{"public/#"}, Subscribe: []string{"public/#"}},
	}
	if diff := cmp.Diff(want, p.Rules()); diff != "" {
		t.Error(diff)
	}
	ids := p.Identities()
	if len(ids) != 2 || ids[0].Name != "broker" || len(ids[0].AnyOf) != 8 || len(ids[0].Configs) != 2 || ids[0].Configs[1].String() != digestC {
		t.Errorf("%+v", ids)
	}
	for _, r := range ids[0].AnyOf {
		if r.Platform == attest.TPM && len(r.Want["pcrs"]) != 2 {
			t.Errorf("%+v", r)
		}
	}
}

func TestRoundTrips(t *testing.T) {
	p := parse(t, example)
	if again := parse(t, string(p.YAML())); again.Digest() != p.Digest() {
		t.Errorf("policy changed on its way through YAML:\n%s", p.YAML())
	}
	again, err := ParseCanonical(p.Canonical())
	if err != nil || again.Digest() != p.Digest() {
		t.Error("policy changed on its way through its canonical form:", err)
	}
	rebuilt, err := New(p.Identities(), p.Rules())
	if err != nil || rebuilt.Digest() != p.Digest() {
		t.Error("policy changed when built again:", err)
	}
	empty := parse(t, "version: 1\n")
	if again := parse(t, string(empty.YAML())); again.Digest() != empty.Digest() {
		t.Error("empty policy changed")
	}
}

// TestCanonical: layout, comments and orders without meaning do not change the digest; all else does.
func TestCanonical(t *testing.T) {
	base := `
version: 1
identities:
  a: { module: [` + digestA + `, ` + digestB + `], simulated: allow, any_of: [ { sim: { key: [` + digestA + `] } }, { ` + anyNitro + ` } ], instances: [x, y] }
  b: { module: ` + digestC + `, any_of: [ { ` + anyTDX + ` } ] }
rules:
  - { who: [a, b], publish: [x, y] }
  - { who: a, subscribe: z }
`
	want := parse(t, base).Digest()
	same := `# the same
rules:
- publish:
    - 'y'
    - "x"
    - x
  who:
    - b
    - identity: a
- who: [ { identity: a } ]
  subscribe: [z]
version: 1
identities:
    b:
        any_of:
            - ` + anyTDX + `
        module: "` + digestC + `"
    a:
        instances: [y, x, x]
        any_of:
            - ` + anyNitro + `
            - sim:
                key:
                    - ` + digestA + `
        simulated: allow
        module: [` + digestB + `, ` + digestA + `, ` + digestB + `]
`
	if got := parse(t, same).Digest(); got != want {
		t.Error("layout changed the digest")
	}
	for _, change := range [][2]string{
		{"[x, y] }\n  -", "[x] }\n  -"}, {"who: a, subscribe: z", "who: b, subscribe: z"}, {anyNitro, anyTDX},
		{"instances: [x, y]", "instances: [x]"}, {digestB, digestC}, {"subscribe: z", "publish: z"}, {"publish: [x, y] }", "publish: [x, y], provenance: true }"},
	} {
		changed := strings.Replace(base, change[0], change[1], 1)
		if changed == base || parse(t, changed).Digest() == want {
			t.Errorf("%q to %q did not change the digest", change[0], change[1])
		}
	}
	order := strings.Replace(base, "  - { who: [a, b], publish: [x, y] }\n  - { who: a, subscribe: z }\n", "  - { who: a, subscribe: z }\n  - { who: [a, b], publish: [x, y] }\n", 1)
	if parse(t, order).Digest() == want {
		t.Error("the order of rules has a meaning, and did not change the digest")
	}
}

func TestSyntaxErrors(t *testing.T) {
	head := "version: 1\nidentities:\n  a:\n    module: [" + digestA + "]\n"
	full := head + "    any_of: [ { " + anyTDX + " } ]\n"
	tests := []struct {
		name, text   string
		line, column int
		want         string
	}{
		{"unknown key", "version: 1\nrulez: []\n", 2, 1, `unknown key "rulez"`},
		{"unknown key of identity", head + "    modul: x\n", 5, 5, `unknown key "modul" in identity a`},
		{"unknown platform", head + "    any_of: [ { intel: {} } ]\n", 5, 17, `unknown platform "intel"`},
		{"unknown key of platform", head + "    any_of:\n      - tdx: { mrenclave: x }\n", 6, 16, `unknown key "mrenclave"; known are`},
		{"unknown name in map", head + "    any_of:\n      - sevsnp: { min_tcb: { kernel: 1 } }\n", 6, 19, `unknown name "kernel"`},
		{"bad digest", "version: 1\nidentities:\n  a:\n    module: [sha384:00]\n", 4, 14, "96 lower-case"},
		{"bad hex", head + "    any_of:\n      - tdx: { mrtd: 00 }\n", 6, 16, "48 bytes"},
		{"version", "version: 2\n", 1, 10, "version must be 1"},
		{"no version", "rules: []\n", 1, 6, "version is missing"},
		{"duplicate key", "version: 1\nversion: 1\n", 2, 1, "already"},
		{"no module", "version: 1\nidentities:\n  a: { any_of: [ { " + anyTDX + " } ] }\n", 3, 3, "module is missing"},
		{"no platform", head, 3, 3, "any_of is missing"},
		{"sim without permission", head + "    any_of: [ { sim: {} } ]\n", 3, 3, "simulated: allow"},
		{"permission without sim", full + "    simulated: allow\n", 3, 3, "no effect"},
		{"simulated: maybe", full + "    simulated: maybe\n", 6, 16, "one value: allow"},
		{"name", strings.Replace(full, "  a:", "  a/b:", 1), 3, 3, "a name has"},
		{"undefined identity", full + "rules:\n  - who: b\n", 7, 8, "not defined"},
		{"who empty", full + "rules:\n  - who: {}\n", 7, 8, "who is empty"},
		{"no who", full + "rules:\n  - publish: x\n", 7, 12, "who is missing"},
		{"anonymous identity", full + "rules:\n  - who: { anonymous: true, identity: a }\n", 7, 8, "no peer is both"},
		{"empty user", full + "rules:\n  - who: { user: '', listener: plain }\n", 7, 18, "user is empty"},
		{"empty listener", full + "rules:\n  - who: { user: alice, listener: '' }\n", 7, 35, "listener is empty"},
		{"empty identity", full + "rules:\n  - who: { identity: '', user: alice }\n", 7, 22, "identity is empty"},
		{"no configuration in the list", full + "    config: []\n", 6, 13, "the list is empty"},
		{"no runtime in the list", full + "    runtime: []\n", 6, 14, "the list is empty"},
		{"no hardware in the list", full + "    instances: []\n", 6, 16, "the list is empty"},
		{"anonymous false", full + "rules:\n  - who: { anonymous: false }\n", 7, 23, "one value: true"},
		{"hash inside", full + "rules:\n  - who: a\n    publish: [\"a/#/b\"]\n", 7, 8, "'#' must be"},
		{"plus inside", full + "rules:\n  - who: a\n    publish: [\"a/b+\"]\n", 7, 8, "'+' must be"},
		{"placeholder", full + "rules:\n  - who: a\n    publish: [\"a/%x\"]\n", 7, 8, "after '%'"},
		{"control character", full + "rules:\n  - who: a\n    publish: [\"a\\u0007\"]\n", 7, 8, "printable"},
		{"provenance of nothing", full + "rules:\n  - who: a\n    provenance: true\n", 7, 8, "publish is missing"},
		{"provenance: maybe", full + "rules:\n  - who: a\n    publish: [a]\n    provenance: maybe\n", 9, 17, "true or false"},
		{"anchor", "version: &v 1\n", 1, 10, "version must be 1"},
		{"tag", full + "    instances: [!!str x]\n", 6, 17, "plain value"},
		{"two platforms in one entry", head + "    any_of: [ { " + anyTDX + ", sgx: {} } ]\n", 5, 15, "names one platform"},
		{"not YAML", "version: [1\n", 0, 0, "not valid YAML"},
		{"two documents", "version: 1\n---\nversion: 1\n", 0, 0, "exactly one"},
		{"empty", "", 0, 0, "exactly one"},
		{"deep", "version: " + strings.Repeat("[", 100), 1, 26, "nested deeper"},
		{"deep on one line", strings.Repeat("- ", 100000), 1, 33, "nested deeper"}, // the YAML library is quadratic here
		{"large", "#" + strings.Repeat("x", MaxFileSize), 0, 0, "too large"},
		{"PCR", head + "    any_of: [ { tpm: { pcrs: { 24: " + strings.Repeat("00", 32) + " } } } ]\n", 5, 24, "not the number of a PCR"},
		{"PCR in another form", head + "    any_of: [ { tpm: { pcrs: { 07: " + strings.Repeat("00", 32) + " } } } ]\n", 5, 24, "not the number of a PCR"},
		{"upper-case digits", head + "    any_of: [ { tdx: { mrtd: " + strings.Repeat("AB", 48) + " } } ]\n", 5, 24, "lower-case hexadecimal"},
		{"status that cannot be allowed", head + "    any_of: [ { sgx: { tcb: [Revoked] } } ]\n", 5, 24, "TCB status"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse("policy.yaml", []byte(test.text))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
			if test.line != 0 && (syntax.Line != test.line || syntax.Column != test.column) {
				t.Errorf("%v: place is not %d:%d", err, test.line, test.column)
			}
		})
	}
}

// Entries that name nothing but the program that facts speak of.
var (
	anySGX   = "sgx: { mrsigner: " + strings.Repeat("00", 32) + " }"
	anyTDX   = "tdx: { mrtd: " + strings.Repeat("00", 48) + " }"
	anyNitro = "nitro: { pcr0: " + strings.Repeat("00", 48) + " }"
)

// withProgram is an entry that also names the program that facts speak of, if it names none.
func withProgram(p attest.Platform, want map[string][]string) Requirement {
	r := Requirement{Platform: p, Want: map[string][]string{}}
	maps.Copy(r.Want, want)
	if r.check() != nil {
		key, size := required[p][len(required[p])-1], 48
		if p == attest.SGX {
			size = 32
		}
		r.Want[key] = []string{strings.Repeat("00", size)}
	}
	return r
}

func anyProgramOfSGX() Requirement { return withProgram(attest.SGX, nil) }

// facts are those of a platform as it should be.
func facts(p attest.Platform) *attest.Facts {
	f := &attest.Facts{Identity: attest.Identity{Module: attest.Digest{1}, Config: attest.Digest{2}, Runtime: attest.Digest{3}}}
	f.Platform, f.TCB, f.HardwareID = p, attest.TCBUpToDate, string(p)+":01"
	f.Measurements = map[string][]byte{"mrsigner": make([]byte, 32), "pcr0": make([]byte, 32), "pcr4": make([]byte, 32), "measurement": make([]byte, 48), "id_key_digest": make([]byte, 48), "mrtd": make([]byte, 48), "pcr8": make([]byte, 48), "ak_ca": make([]byte, 48), "pcr9_sha384": make([]byte, 48)}
	f.Versions = map[string]uint64{"isv_prod_id": 1, "isv_svn": 5, "bootloader": 4, "snp": 22}
	return f
}

func TestJudge(t *testing.T) {
	zero32, zero48 := strings.Repeat("00", 32), strings.Repeat("00", 48)
	tests := []struct {
		name     string
		platform attest.Platform
		want     map[string][]string
		change   func(*attest.Facts)
		kind     attest.Kind
	}{
		{"any", attest.SGX, nil, nil, 0},
		{"measurement", attest.SGX, map[string][]string{"mrsigner": {strings.Repeat("11", 32), zero32}}, nil, 0},
		{"other measurement", attest.SGX, map[string][]string{"mrsigner": {strings.Repeat("11", 32)}}, nil, attest.ErrPlatform},
		{"measurement that is not there", attest.SGX, map[string][]string{"mrenclave": {zero32}}, nil, attest.ErrPlatform},
		{"exact version", attest.SGX, map[string][]string{"isv_prod_id": {"1"}}, nil, 0},
		{"other version", attest.SGX, map[string][]string{"isv_prod_id": {"2"}}, nil, attest.ErrPlatform},
		{"least version", attest.SGX, map[string][]string{"min_isv_svn": {"5"}}, nil, 0},
		{"version too low", attest.SGX, map[string][]string{"min_isv_svn": {"6"}}, nil, attest.ErrPlatform},
		{"all keys must hold", attest.SGX, map[string][]string{"mrsigner": {zero32}, "isv_prod_id": {"2"}}, nil, attest.ErrPlatform},
		{"registers", attest.TPM, map[string][]string{"ak_ca": {zero48}, "pcrs": {"0=" + zero32, "4=" + zero32}}, nil, 0},
		{"one register differs", attest.TPM, map[string][]string{"ak_ca": {zero48}, "pcrs": {"0=" + zero32, "4=" + strings.Repeat("11", 32)}}, nil, attest.ErrPlatform},
		{"register that is not there", attest.TPM, map[string][]string{"ak_ca": {zero48}, "pcrs": {"7=" + zero32}}, nil, attest.ErrPlatform},
		{"register of the other bank", attest.TPM, map[string][]string{"ak_ca": {zero48}, "pcrs": {"0=" + zero48}}, nil, attest.ErrPlatform},
		{"registers of both banks", attest.TPM, map[string][]string{"ak_ca": {zero48}, "pcrs": {"0=" + zero32, "9=" + zero48}}, nil, 0},
		{"key of another CA", attest.TPM, map[string][]string{"ak_ca": {strings.Repeat("11", 48)}}, nil, attest.ErrPlatform},
		{"least versions", attest.SEVSNP, map[string][]string{"measurement": {zero48}, "min_tcb": {"bootloader=4", "snp=21"}}, nil, 0},
		{"a version too low", attest.SEVSNP, map[string][]string{"min_tcb": {"bootloader=4", "snp=23"}}, nil, attest.ErrPlatform},
		{"a version that is not there", attest.SEVSNP, map[string][]string{"min_tcb": {"microcode=0"}}, nil, attest.ErrPlatform},

		{"debug", attest.SGX, nil, func(f *attest.Facts) { f.Debug = true }, attest.ErrDebug},
		{"revoked", attest.SGX, nil, func(f *attest.Facts) { f.TCB = attest.TCBRevoked }, attest.ErrTCB},
		{"unknown status", attest.SGX, nil, func(f *attest.Facts) { f.TCB = "Shiny" }, attest.ErrTCB},
		{"no status", attest.SGX, nil, func(f *attest.Facts) { f.TCB = "" }, attest.ErrTCB},
		{"hardening by default", attest.SGX, nil, func(f *attest.Facts) { f.TCB = attest.TCBSWHardeningNeeded }, attest.ErrTCB},
		{"hardening, advisory named", attest.SGX, map[string][]string{"advisories": {"SA-1"}}, func(f *attest.Facts) {
			f.TCB, f.Advisories = attest.TCBSWHardeningNeeded, []string{"SA-1"}
		}, 0},
		{"hardening, another advisory", attest.SGX, map[string][]string{"advisories": {"SA-1"}, "tcb": {"SWHardeningNeeded"}}, func(f *attest.Facts) {
			f.TCB, f.Advisories = attest.TCBSWHardeningNeeded, []string{"SA-1", "SA-2"}
		}, attest.ErrTCB},
		{"out of date, only hardening allowed", attest.SGX, map[string][]string{"advisories": {"SA-1"}}, func(f *attest.Facts) { f.TCB = attest.TCBOutOfDate }, attest.ErrTCB},
		{"out of date, allowed", attest.SGX, map[string][]string{"tcb": {"OutOfDate"}}, func(f *attest.Facts) { f.TCB = attest.TCBOutOfDate }, 0},
		{"no notion of status", attest.Nitro, nil, func(f *attest.Facts) { f.TCB = attest.TCBNotApplicable }, 0},
		{"no notion of status where there is one", attest.SGX, nil, func(f *attest.Facts) { f.TCB = attest.TCBNotApplicable }, attest.ErrTCB},
		{"simulated status of real hardware", attest.SGX, nil, func(f *attest.Facts) { f.TCB = attest.TCBSimulated }, attest.ErrTCB},

		{"module", attest.SGX, nil, func(f *attest.Facts) { f.Module[0]++ }, attest.ErrModule},
		{"config", attest.SGX, nil, func(f *attest.Facts) { f.Config[0]++ }, attest.ErrConfig},
		{"runtime", attest.SGX, nil, func(f *attest.Facts) { f.Runtime[0]++ }, attest.ErrRuntime},
		{"hardware", attest.SGX, nil, func(f *attest.Facts) { f.HardwareID = "sgx:02" }, attest.ErrInstance},
		{"hardware unknown", attest.SGX, nil, func(f *attest.Facts) { f.HardwareID = "" }, attest.ErrInstance},
		{"platform", attest.SGX, nil, func(f *attest.Facts) { f.Platform = attest.TDX }, attest.ErrPlatform},
		{"simulated", attest.SGX, nil, func(f *attest.Facts) { f.Platform = attest.Sim }, attest.ErrSimulated},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, err := New([]Identity{{
				Name: "it", Modules: []attest.Digest{{1}}, Configs: []attest.Digest{{2}}, Runtimes: []attest.Digest{{3}},
				AnyOf: []Requirement{withProgram(test.platform, test.want)}, Instances: []string{string(test.platform) + ":01"},
			}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			f := facts(test.platform)
			if test.change != nil {
				test.change(f)
			}
			v := p.Judge(f)
			if v.Accepted != (test.kind == 0) || v.Accepted != (v.Err == nil) || v.Accepted != (len(v.Identities) == 1) || KindOf(v.Err) != test.kind {
				t.Errorf("%+v", v)
			}
			if text := v.Explain(); (test.kind == 0) != strings.HasPrefix(text, "ACCEPTED as it") || !strings.Contains(text, string(f.Platform)) {
				t.Error(text)
			}
		})
	}
}

// TestSeveralIdentities: all that hold are named, and the reasons of the others.
// TestNoPolicyAllowsRevoked: not even one that says so, which cannot be written.
func TestNoPolicyAllowsRevoked(t *testing.T) {
	r := withProgram(attest.SGX, nil)
	r.Want["tcb"] = []string{string(attest.TCBRevoked)}
	p := &Policy{identities: []Identity{{Name: "it", AnyOf: []Requirement{r}}}}
	f := facts(attest.SGX)
	f.TCB = attest.TCBRevoked
	if v := p.Judge(f); v.Accepted || KindOf(v.Err) != attest.ErrTCB {
		t.Errorf("%+v", v)
	}
}

// TestConditions: each that a platform is in must be allowed by its name.
func TestConditions(t *testing.T) {
	td := strings.Repeat("01", 48)
	for _, test := range []struct {
		allow, tds []string
		in         []string
		accepted   bool
	}{
		{nil, nil, nil, true},
		{nil, nil, []string{"smt"}, false},
		{[]string{"smt"}, nil, []string{"smt"}, true},
		{[]string{"smt"}, nil, []string{"smt", "migration_agent"}, false},
		{[]string{attest.ConditionServiceTD}, nil, []string{attest.ConditionServiceTD}, false},
		{nil, []string{strings.Repeat("02", 48)}, []string{attest.ConditionServiceTD}, false},
		{nil, []string{td}, []string{attest.ConditionServiceTD}, true},
	} {
		r := Requirement{Platform: attest.Azure, Want: map[string][]string{"allow": test.allow, "service_tds": test.tds}}
		c := &attest.PlatformClaims{TCB: attest.TCBUpToDate, Conditions: test.in, Measurements: map[string][]byte{"mrservicetd": bytes.Repeat([]byte{1}, 48)}}
		if err := r.judge("it", c); (err == nil) != test.accepted || err != nil && err.Kind != attest.ErrTCB {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// unasked is a driver that nobody may ask.
type unasked struct{ t *testing.T }

func (unasked) Platform() attest.Platform { return attest.TDX }

func (u unasked) Verify(context.Context, attest.Quote, attest.ReportData, time.Time) (attest.PlatformClaims, error) {
	u.t.Error("the driver of a platform that no identity names has seen evidence")
	return attest.PlatformClaims{}, errors.New("no")
}

// TestUnnamedPlatformIsNotConsulted: a flaw in a driver harms only who names its platform.
func TestUnnamedPlatformIsNotConsulted(t *testing.T) {
	p, err := New([]Identity{{Name: "it", Modules: []attest.Digest{{1}}, AnyOf: []Requirement{anyProgramOfSGX()}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := &attest.Claims{}
	encoded, err := claims.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := attest.Evidence{Claims: encoded, Quote: attest.Quote{Platform: attest.TDX, Data: []byte{1}}, Proof: attest.Proof{N: 1}}
	evidence, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	v := NewAppraiser(p, attest.NewRegistry(unasked{t})).Appraise(t.Context(), evidence, claims.Binding, time.Now())
	if KindOf(v.Err) != attest.ErrPlatform {
		t.Error(v.Err)
	}
}

// TestRefusalNamesRegisters: which of many PCRs is not what it should be.
func TestRefusalNamesRegisters(t *testing.T) {
	hex := func(digits string) string { return strings.Repeat(digits, 32) }
	r := Requirement{Platform: attest.TPM, Want: map[string][]string{"pcrs": {"0=" + hex("00"), "4=" + hex("11"), "7=" + hex("22"), "14=" + hex("33")}}}
	c := &attest.PlatformClaims{Platform: attest.TPM, TCB: attest.TCBNotApplicable, Measurements: map[string][]byte{
		"pcr0": make([]byte, 32), "pcr4": make([]byte, 32), "pcr7": bytes.Repeat([]byte{0x22}, 32),
	}}
	if err := r.judge("broker", c); err == nil || err.Error() != `tpm pcrs 4, 14 is not what identity "broker" accepts` {
		t.Error(err)
	}
}

func TestSeveralIdentities(t *testing.T) {
	any := []Requirement{anyProgramOfSGX()}
	p, err := New([]Identity{
		{Name: "c", Modules: []attest.Digest{{1}}, AnyOf: any},
		{Name: "a", Modules: []attest.Digest{{1}, {2}}, AnyOf: any},
		{Name: "b", Modules: []attest.Digest{{2}}, AnyOf: any},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	v := p.Judge(facts(attest.SGX))
	if diff := cmp.Diff([]string{"a", "c"}, v.Identities); diff != "" || len(v.Refusals) != 1 || v.Refusals[0].Identity != "b" {
		t.Errorf("%+v", v)
	}
	f := facts(attest.SGX)
	f.Module = attest.Digest{3}
	v = p.Judge(f)
	want := `module sha384:030000000000… is not one of the 1 accepted by identity "b"`
	if !errors.Is(v.Err, attest.ErrModule) || !strings.Contains(v.Err.Error(), want) || len(v.Refusals) != 3 {
		t.Errorf("%v", v.Err)
	}
}

// TestMixedReasons: if identities refuse for different reasons, the kind is the wider one.
func TestMixedReasons(t *testing.T) {
	p, err := New([]Identity{
		{Name: "a", Modules: []attest.Digest{{2}}, AnyOf: []Requirement{anyProgramOfSGX()}},
		{Name: "b", Modules: []attest.Digest{{1}}, AnyOf: []Requirement{{Platform: attest.TDX, Want: map[string][]string{"mrtd": {strings.Repeat("00", 48)}}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v := p.Judge(facts(attest.SGX)); KindOf(v.Err) != attest.ErrPolicy {
		t.Errorf("%v", v.Err)
	}
}

func TestSimulated(t *testing.T) {
	key := attest.Digest{7}
	p, err := New([]Identity{Simulated("broker", attest.Digest{1}, attest.Digest{2}, key)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := facts(attest.Sim)
	f.TCB, f.Measurements = attest.TCBSimulated, map[string][]byte{"key": key[:]}
	if v := p.Judge(f); !v.Accepted || !strings.Contains(v.Explain(), "SIMULATED") {
		t.Error(v.Explain())
	}
	f.Measurements["key"] = make([]byte, 48)
	if v := p.Judge(f); v.Accepted {
		t.Error("accepted another key")
	}
	if again := parse(t, string(p.YAML())); again.Digest() != p.Digest() {
		t.Error("policy changed on its way through YAML")
	}
}

func TestExplain(t *testing.T) {
	text := parse(t, example).Explain()
	for _, want := range []string{digestA, "SIMULATED", "min_tcb bootloader=4 and microcode=213 and snp=22", "rule 3: whoever is anonymous, through listener plain", "may publish sensors/%c/#", "subscribers are told the attested identity"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

// What an entry leaves open is said by policy check, and nothing is of one that leaves nothing open.
func TestExplainSaysWhatIsLeftOpen(t *testing.T) {
	hex := func(n int) string { return strings.Repeat("11", n) }
	for entry, want := range map[string][]string{
		"sgx: { mrenclave: " + hex(32) + " }": nil,
		"sgx: { mrsigner: " + hex(32) + " }":  {"isv_prod_id", "min_isv_svn"},
		"sgx: { mrsigner: " + hex(32) + ", isv_prod_id: 1, min_isv_svn: 1, tcb: [UpToDate, OutOfDate] }": {"see tcb"},
		"sgx: { mrenclave: " + hex(32) + ", tcb: [UpToDate, SWHardeningNeeded] }":                        nil,
		"tdx: { mrtd: " + hex(48) + ", rtmr1: " + hex(48) + " }":                                         {"rtmr1 and rtmr2"},
		"tdx: { mrtd: " + hex(48) + ", rtmr1: " + hex(48) + ", rtmr2: " + hex(48) + " }":                 nil,
		"sevsnp: { measurement: " + hex(48) + " }":                                                       {"min_tcb"},
		"sevsnp: { measurement: " + hex(48) + ", min_tcb: { snp: 8 } }":                                  nil,
		"tpm: { ak: " + hex(32) + " }":                                                                   {"pcrs"},
		"azure: { measurement: " + hex(48) + " }":                                                        {"pcrs"},
		"tpm: { ak: " + hex(32) + ", pcrs: { 4: " + hex(32) + " } }":                                     nil,
		"nitro: { pcr0: " + hex(48) + " }":                                                               nil,
	} {
		text := parse(t, "version: 1\nidentities:\n  a:\n    module: "+digestA+"\n    any_of:\n      - "+entry+"\n").Explain()
		if got := strings.Count(text, "note: "); got != len(want) {
			t.Errorf("%s: %d notes instead of %d:\n%s", entry, got, len(want), text)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: nothing is said of %q:\n%s", entry, w, text)
			}
		}
	}
}

func TestParseCanonicalRefuses(t *testing.T) {
	data := parse(t, example).Canonical()
	for i := range data {
		if _, err := ParseCanonical(data[:i]); err == nil {
			t.Fatalf("accepted the first %d bytes", i)
		}
	}
	// The same policy with identities out of order is not canonical.
	unsorted := &Policy{identities: []Identity{
		{Name: "b", Modules: []attest.Digest{{1}}, AnyOf: []Requirement{anyProgramOfSGX()}},
		{Name: "a", Modules: []attest.Digest{{1}}, AnyOf: []Requirement{anyProgramOfSGX()}},
	}}
	encoded, err := encodeCanonical(unsorted)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCanonical(encoded); err == nil || !strings.Contains(err.Error(), "canonical") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("version: 1\n"))
	f.Add([]byte("version: 1\nrules:\n  - who: { user: 'a:b' }\n    publish: [x]\n"))
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		p, err := Parse("fuzz.yaml", data)
		if err != nil {
			return
		}
		again, err := Parse("again.yaml", p.YAML())
		if err != nil || again.Digest() != p.Digest() {
			t.Errorf("policy changed on its way through YAML: %v\n%s", err, p.YAML())
		}
		if _, err := ParseCanonical(p.Canonical()); err != nil {
			t.Error(err)
		}
	}))
}

func FuzzCanonical(f *testing.F) {
	f.Add(parse(f, example).Canonical())
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		if p, err := ParseCanonical(data); err == nil && string(p.Canonical()) != string(data) {
			t.Error("a second canonical form")
		}
	}))
}

func ExamplePolicy_Judge() {
	p, err := New([]Identity{Simulated("broker", attest.Sum([]byte("module")), attest.Digest{}, attest.Digest{1})}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	facts := &attest.Facts{Identity: attest.Identity{Module: attest.Sum([]byte("another module"))}}
	facts.Platform, facts.TCB = attest.Sim, attest.TCBSimulated
	facts.Measurements = map[string][]byte{"key": append([]byte{1}, make([]byte, 47)...)}
	fmt.Println(p.Judge(facts).Err)
	// Output: module sha384:e881584651bf… is not one of the 1 accepted by identity "broker"
}

func TestPatience(t *testing.T) {
	for entry, want := range map[string]time.Duration{
		anySGX: 5 * time.Second, "tpm: { ak: " + strings.Repeat("11", 32) + " }": 30 * time.Second,
	} {
		p, err := Parse("p.yaml", []byte("version: 1\nidentities:\n  a:\n    module: "+digestA+"\n    any_of:\n      - "+anySGX+"\n      - "+entry+"\nrules: []\n"))
		if err != nil || p.Patience() != want {
			t.Errorf("%s: %v, %v", entry, p.Patience(), err)
		}
	}
}

// An identity that does not say which program it is would be anybody's who has such hardware; that of CCA or a TPM, whose evidence leads to no root, that of
// anybody at all. What hardware a TPM is in, only the CA of its key knows.
func TestRequiredKeys(t *testing.T) {
	ak := "ak: " + strings.Repeat("11", 32)
	for _, test := range []struct{ entry, rest, want string }{
		{"cca: { rim: " + strings.Repeat("77", 32) + " }", "", `"cpak" is missing`},
		{"tpm: { pcrs: { 14: " + strings.Repeat("77", 32) + " } }", "", `"ak" or "ak_ca" is missing`},
		{"tpm: { " + ak + " }", "", ""},
		{"sgx: { isv_prod_id: 1 }", "", `"mrenclave" or "mrsigner" is missing`},
		{"tdx: { rtmr1: " + strings.Repeat("11", 48) + " }", "", `"mrtd" is missing`},
		{"sevsnp: { vmpl: 0 }", "", `"measurement" or "id_key_digest" is missing`},
		{"sevsnp: { id_key_digest: " + strings.Repeat("11", 48) + " }", "", ""},
		{"nitro: { pcr4: " + strings.Repeat("11", 48) + " }", "", `"pcr0" or "pcr2" or "pcr8" is missing`},
		{"tpm: { ak_ca: " + strings.Repeat("11", 48) + " }", "    instances: [tpm:00]\n", ""},
		{"tpm: { " + ak + " }", "    instances: [tpm:00]\n", `instances: tpm needs "ak_ca"`},
	} {
		_, err := Parse("p.yaml", []byte("version: 1\nidentities:\n  a:\n    module: "+digestA+"\n    any_of:\n      - "+test.entry+"\n"+test.rest+"rules: []\n"))
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.entry, err)
			}
			continue
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(syntax.Text, test.want) || test.rest == "" && syntax.Line != 6 {
			t.Errorf("%s: %v", test.entry, err)
		}
	}
}
