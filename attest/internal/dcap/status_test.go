package dcap_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

// TestConvergence: the status of a platform is lowered by that of TDX module and QE as Intel does.
func TestConvergence(t *testing.T) {
	w := New(t)
	const (
		ok, late, revoked = "UpToDate", "OutOfDate", "Revoked"
		hardening, config = "SWHardeningNeeded", "ConfigurationNeeded"
		both, lateConfig  = "ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"
	)
	for _, c := range []struct{ platform, module, qe, want string }{
		{ok, ok, ok, ok}, {hardening, ok, ok, hardening}, {config, ok, ok, config}, {both, ok, ok, both}, {late, ok, ok, late}, {lateConfig, ok, ok, lateConfig},
		{ok, late, ok, late}, {hardening, late, ok, late}, {config, late, ok, lateConfig}, {both, late, ok, lateConfig}, {late, late, ok, late}, {lateConfig, late, ok, lateConfig},
		{ok, ok, late, late}, {hardening, ok, late, late}, {config, ok, late, lateConfig}, {both, ok, late, lateConfig}, {late, ok, late, late}, {lateConfig, ok, late, lateConfig},
		{ok, late, late, late}, {config, late, late, lateConfig},
		{ok, revoked, ok, revoked}, {ok, ok, revoked, revoked}, {revoked, ok, ok, revoked}, {revoked, late, late, revoked}, {late, revoked, ok, revoked}, {late, late, revoked, revoked},
	} {
		r := appraise(w, Quote{Version: 4}, Collateral{
			TCBInfo: func(m map[string]any) {
				m["tcbLevels"] = []any{Level(Components, []uint8{}, PCESVN, c.platform, "A", "C")}
				m["tdxModuleIdentities"] = []any{Module("tdx_01", PartLevel(6, c.module, "B", "A"))}
			},
			QEIdentity: Set("tcbLevels", []any{PartLevel(int(QESVN), c.qe, "D")}),
		}, nil)
		if r.Err != nil || string(r.TCB) != c.want || !slices.Equal(r.Advisories, []string{"A", "B", "C", "D"}) {
			t.Errorf("platform %s, module %s, QE %s: %s %v, %v; want %s", c.platform, c.module, c.qe, r.TCB, r.Advisories, r.Err, c.want)
		}
	}
}

// TestOrderOfLevels: levels count by their height, not by their place in the document.
func TestOrderOfLevels(t *testing.T) {
	w := New(t)
	r := appraise(w, Quote{Version: 4}, Collateral{
		TCBInfo: func(m map[string]any) {
			m["tcbLevels"] = []any{
				Level(Older, []uint8{}, 5, "OutOfDate"),
				Level(Components, []uint8{5, 0, 3}, PCESVN, "ConfigurationNeeded"),
				Level(Components, []uint8{5, 0, 2}, PCESVN, "OutOfDate"),
				Level(Components, []uint8{6, 0, 3}, PCESVN, "UpToDate"),
			}
			m["tdxModuleIdentities"] = []any{Module("TDX_01", PartLevel(2, "OutOfDate"), PartLevel(6, "UpToDate"))}
		},
		QEIdentity: Set("tcbLevels", []any{PartLevel(1, "Revoked"), PartLevel(4, "UpToDate")}),
	}, nil)
	if r.Err != nil || r.TCB != attest.TCBUpToDate {
		t.Errorf("%s, %v", r.TCB, r.Err)
	}
}

// TestModuleVersion: the module's own components are judged by the platform's levels only with version 0, and the
// number in the name of an identity is hexadecimal.
func TestModuleVersion(t *testing.T) {
	w := New(t)
	for _, c := range []struct {
		svn  []byte
		want attest.TCBStatus
	}{
		{[]byte{6, 0, 3}, attest.TCBUpToDate},  // the level asks for 6
		{[]byte{5, 0, 3}, attest.TCBOutOfDate}, // so this one is of the lower level
		{[]byte{2, 10, 3}, attest.TCBUpToDate}, // TDX_0a
		{[]byte{4, 1, 3}, attest.TCBOutOfDate}, // TDX_01, its second level
		{[]byte{1, 1, 3}, attest.TCBRevoked},   // TDX_01, its third
		{[]byte{6, 1, 2}, attest.TCBOutOfDate}, // the loader is of the lower level
	} {
		r := appraise(w, Quote{Version: 4, Body: put(TDTCBSVN, c.svn...)}, Collateral{}, nil)
		if r.Err != nil || r.TCB != c.want {
			t.Errorf("TEE_TCB_SVN %v: %s, %v; want %s", c.svn, r.TCB, r.Err, c.want)
		}
	}
}

// TestRelaunch: a TD that is out of date only for the module that launched it is advised to relaunch.
func TestRelaunch(t *testing.T) {
	w := New(t)
	svns := func(launched, now []byte) func([]byte) {
		return func(b []byte) {
			copy(b[TDTCBSVN:], launched)
			if len(b) > TDTCBSVN2 {
				copy(b[TDTCBSVN2:], now)
			}
		}
	}
	platform := func(status string) func(map[string]any) {
		return func(m map[string]any) {
			m["tcbLevels"] = []any{Level(Components, []uint8{6, 0, 3}, PCESVN, status), Level(Older, []uint8{5, 0, 2}, 5, "OutOfDate")}
		}
	}
	old, current := []byte{4, 1, 3}, []byte{6, 1, 3}
	for name, c := range map[string]struct {
		quote Quote
		info  func(map[string]any)
		qe    int // ISVSVN
		want  attest.TCBStatus
	}{
		"relaunch":                      {Quote{Version: 5, Body: svns(old, current)}, nil, 4, attest.TCBTDRelaunchAdvised},
		"module newer than the latest":  {Quote{Version: 5, Body: svns(old, []byte{9, 1, 9})}, nil, 4, attest.TCBTDRelaunchAdvised},
		"module of another version":     {Quote{Version: 5, Body: svns(old, []byte{2, 10, 3})}, nil, 4, attest.TCBTDRelaunchAdvised},
		"module of version 0":           {Quote{Version: 5, Body: svns(old, []byte{6, 0, 3})}, nil, 4, attest.TCBTDRelaunchAdvised},
		"old module of version 0":       {Quote{Version: 5, Body: svns(old, []byte{5, 0, 3})}, nil, 4, attest.TCBOutOfDate},
		"hardening":                     {Quote{Version: 5, Body: svns(old, current)}, platform("SWHardeningNeeded"), 4, attest.TCBTDRelaunchAdvised},
		"configuration":                 {Quote{Version: 5, Body: svns(old, current)}, platform("ConfigurationNeeded"), 4, attest.TCBTDRelaunchAdvisedConfigurationNeeded},
		"module still old":              {Quote{Version: 5, Body: svns(old, old)}, nil, 4, attest.TCBOutOfDate},
		"loader still old":              {Quote{Version: 5, Body: svns(old, []byte{6, 1, 2})}, nil, 4, attest.TCBOutOfDate},
		"platform out of date":          {Quote{Version: 5, Body: svns(old, current)}, platform("OutOfDate"), 4, attest.TCBOutOfDate},
		"quoting enclave out of date":   {Quote{Version: 5, Body: svns(old, current)}, nil, 2, attest.TCBOutOfDate},
		"module that launched, revoked": {Quote{Version: 5, Body: svns([]byte{1, 1, 3}, current)}, nil, 4, attest.TCBRevoked},
		"nothing to mend":               {Quote{Version: 5, Body: svns(current, current)}, nil, 4, attest.TCBUpToDate},
		"TDX 1.0 does not tell":         {Quote{Version: 5, TD10: true, Body: svns(old, current)}, nil, 4, attest.TCBOutOfDate},
		"version 4 does not tell":       {Quote{Version: 4, Body: svns(old, current)}, nil, 4, attest.TCBOutOfDate},
	} {
		c.quote.QEReport = put(EnclaveSVN, byte(c.qe))
		r := appraise(w, c.quote, Collateral{TCBInfo: c.info}, nil)
		if r.Err != nil || r.TCB != c.want {
			t.Errorf("%s: %s, %v; want %s", name, r.TCB, r.Err, c.want)
		}
	}
	r := appraise(w, Quote{Version: 5, Body: svns(old, []byte{6, 2, 3})}, Collateral{}, nil)
	if !errors.Is(r.Err, dcap.FaultModule) {
		t.Error("module of unknown version:", r.Err)
	}
}

// TestServiceTD: whether a service TD is meant, the policy decides.
func TestServiceTD(t *testing.T) {
	w := New(t)
	for name, c := range map[string]struct {
		quote Quote
		want  []string
	}{
		"none":                {Quote{Version: 5}, nil},
		"one":                 {Quote{Version: 5, Body: put(TDMRServiceTD+47, 1)}, []string{attest.ConditionServiceTD}},
		"TDX 1.0, no telling": {Quote{Version: 4}, nil},
	} {
		claims, err := appraise(w, c.quote, Collateral{}, nil).Claims()
		if err != nil || !slices.Equal(claims.Conditions, c.want) {
			t.Errorf("%s: %v, %v", name, claims.Conditions, err)
		}
	}
}
