package dcap_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// attester makes quotes of a World.
type attester struct {
	w       *World
	version int
	body    func([]byte)
	replay  *attest.ReportData
}

func (a attester) Platform() attest.Platform { return tee(a.version).Platform() }

func (a attester) Attest(_ context.Context, data attest.ReportData) (attest.Quote, error) {
	if a.replay != nil {
		data = *a.replay
	}
	return attest.Quote{
		Platform:     a.Platform(),
		Data:         a.w.Quote(Quote{Version: a.version, ReportData: data, Body: a.body}),
		Endorsements: a.w.Endorsements(Collateral{SGX: a.version == 3}),
	}, nil
}

// zeros is a source of blinds.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// judge has a policy judge evidence of an attester.
func judge(t *testing.T, a attester, requirement string) *policy.Verdict {
	t.Helper()
	module := attest.Sum([]byte("module"))
	// Which program it is must be said; where it does not matter it is that of the quote.
	for platform, program := range map[string]string{"sgx: { ": "mrsigner: " + hex.EncodeToString(MRSigner[:]), "tdx: { ": "mrtd: " + hex.EncodeToString(MRTD[:])} {
		requirement = strings.Replace(requirement, "{}", "{ }", 1)
		if rest, ok := strings.CutPrefix(requirement, platform); ok && !strings.Contains(rest, program[:5]) {
			requirement = platform + program + ", " + rest
		}
	}
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, "version: 1\nidentities:\n  broker:\n    module: [%s]\n    any_of:\n      - %s\n", module, requirement))
	if err != nil {
		t.Fatal(err)
	}
	claims := &attest.Claims{IssuedAt: Now.Unix(), Identity: attest.Identity{Module: module}}
	claims.Role, claims.Phase, claims.Service = attest.RoleServer, attest.PhaseConnect, "plant.example"
	evidence, err := attest.Make(context.Background(), a, attest.PurposeConnection, claims, zeros{})
	if err != nil {
		t.Fatal(err)
	}
	registry := attest.NewRegistry(&dcap.Verifier{TEE: dcap.SGX, Root: a.w.Trust()}, &dcap.Verifier{TEE: dcap.TDX, Root: a.w.Trust()})
	return policy.NewAppraiser(p, registry).Appraise(context.Background(), evidence, claims.Binding, Now.Add(time.Minute))
}

// TestPolicy: each key that a policy has for SGX and TDX is delivered, and decides.
func TestPolicy(t *testing.T) {
	w := New(t)
	zero, some := hex.EncodeToString(make([]byte, 48)), hex.EncodeToString(append(make([]byte, 47), 1))
	some32 := hex.EncodeToString(append(make([]byte, 31), 1))
	debug := map[int]int{3: EnclaveAttributes, 4: TDAttributes, 5: TDAttributes}
	sgx := func(more string) string { return "sgx: { advisories: [INTEL-SA-00615]" + more + " }" }
	for _, c := range []struct {
		version     int
		requirement string
		kind        attest.Kind // 0: accepted
	}{
		{3, sgx(""), 0},
		{3, sgx(", mrenclave: [" + hex.EncodeToString(MREnclave[:]) + "]"), 0}, {3, sgx(", mrenclave: [" + some32 + "]"), attest.ErrPlatform},
		{3, sgx(", mrsigner: [" + hex.EncodeToString(MRSigner[:]) + "]"), 0}, {3, sgx(", mrsigner: [" + some32 + "]"), attest.ErrPlatform},
		{3, sgx(", isv_prod_id: 1"), 0}, {3, sgx(", isv_prod_id: 2"), attest.ErrPlatform},
		{3, sgx(", min_isv_svn: 2"), 0}, {3, sgx(", min_isv_svn: 3"), attest.ErrPlatform},
		{3, sgx(", tcb: [SWHardeningNeeded]"), 0}, {3, sgx(", tcb: [UpToDate]"), attest.ErrTCB},
		{3, "sgx: {}", attest.ErrTCB}, {3, "sgx: { tcb: [SWHardeningNeeded], advisories: [INTEL-SA-00001] }", attest.ErrTCB},
		{3, "tdx: {}", attest.ErrPlatform}, {4, "sgx: {}", attest.ErrPlatform},
		{4, "tdx: { tcb: [UpToDate] }", 0}, {5, "tdx: {}", 0},
		{4, "tdx: { mrtd: [" + hex.EncodeToString(MRTD[:]) + "] }", 0}, {5, "tdx: { mrtd: [" + some + "] }", attest.ErrPlatform},
		{4, "tdx: { mrconfigid: [" + zero + "] }", 0}, {4, "tdx: { mrconfigid: [" + some + "] }", attest.ErrPlatform},
		{4, "tdx: { mrowner: [" + zero + "] }", 0}, {4, "tdx: { mrowner: [" + some + "] }", attest.ErrPlatform},
		{4, "tdx: { mrownerconfig: [" + zero + "] }", 0}, {4, "tdx: { mrownerconfig: [" + some + "] }", attest.ErrPlatform},
		{4, "tdx: { rtmr0: [" + zero + "], rtmr1: [" + zero + "], rtmr2: [" + zero + "] }", 0}, {4, "tdx: { rtmr0: [" + some + "] }", attest.ErrPlatform},
		{4, "tdx: { rtmr1: [" + some + "] }", attest.ErrPlatform}, {4, "tdx: { rtmr2: [" + some + "] }", attest.ErrPlatform},
		{5, "tdx: { rtmr3: [" + zero + "] }", 0}, {5, "tdx: { rtmr3: [" + some + "] }", attest.ErrPlatform},
	} {
		a := attester{w: w, version: c.version}
		if v := judge(t, a, c.requirement); v.Accepted != (c.kind == 0) || c.kind != 0 && !errors.Is(v.Err, c.kind) {
			t.Errorf("version %d, %s: accepted is %v, %v", c.version, c.requirement, v.Accepted, v.Err)
		}
		if c.kind != 0 {
			continue
		}
		a.body = put(debug[c.version], 0x07)
		if v := judge(t, a, c.requirement); !errors.Is(v.Err, attest.ErrDebug) {
			t.Errorf("version %d in debug mode: %v", c.version, v.Err)
		}
	}
}

// TestServiceTDPolicy: a TD bound to a service TD is refused unless the policy names that one.
func TestServiceTDPolicy(t *testing.T) {
	w := New(t)
	one, other := hex.EncodeToString(append(make([]byte, 47), 1)), hex.EncodeToString(append(make([]byte, 47), 2))
	for _, c := range []struct {
		td          byte // last byte of MRSERVICETD, 0: bound to none
		requirement string
		kind        attest.Kind // 0: accepted
	}{
		{0, "tdx: {}", 0}, {0, "tdx: { service_tds: [" + one + "] }", 0},
		{1, "tdx: {}", attest.ErrTCB}, {1, "tdx: { service_tds: [" + other + "] }", attest.ErrTCB},
		{1, "tdx: { service_tds: [" + one + "] }", 0}, {1, "tdx: { service_tds: [" + other + ", " + one + "] }", 0},
	} {
		a := attester{w: w, version: 5, body: put(TDMRServiceTD+47, c.td)}
		v := judge(t, a, c.requirement)
		if v.Accepted != (c.kind == 0) || c.kind != 0 && (!errors.Is(v.Err, c.kind) || !strings.Contains(v.Err.Error(), one)) {
			t.Errorf("service TD %d, %s: accepted is %v, %v", c.td, c.requirement, v.Accepted, v.Err)
			continue
		}
		if v.Accepted {
			draft, err := policy.Draft("td", v.Facts)
			if err != nil || strings.Contains(string(draft), "service_tds: ['"+one) != (c.td == 1) {
				t.Errorf("service TD %d is drafted as\n%s%v", c.td, draft, err)
			}
		}
	}
}

// TestReportData: what was signed for another connection, or for none, is refused.
func TestReportData(t *testing.T) {
	for version, requirement := range map[int]string{3: "sgx: { advisories: [INTEL-SA-00615] }", 4: "tdx: {}", 5: "tdx: {}"} {
		for data, kind := range map[attest.ReportData]attest.Kind{{1}: attest.ErrBinding, {}: attest.ErrZeroReportData} {
			if v := judge(t, attester{w: New(t), version: version, replay: &data}, requirement); !errors.Is(v.Err, kind) {
				t.Errorf("version %d: %v, want %v", version, v.Err, kind)
			}
		}
	}
}
