package attest_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
)

func TestExamineUnbound(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	key, err := sim.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	registry := attest.NewRegistry(sim.NewVerifier())
	claims := &attest.Claims{Binding: attest.Binding{Role: attest.RoleServer, Service: "plant"}, Identity: attest.Identity{Module: attest.Sum(nil)}, IssuedAt: now.Unix()}
	for _, c := range []struct {
		name   string
		faults sim.Faults
		change func(*attest.Evidence)
		want   error
	}{
		{"good", sim.Faults{}, nil, nil},
		{"other report data", sim.Faults{ReportData: &attest.ReportData{1}}, nil, attest.ErrBinding},
		{"zeros", sim.Faults{ZeroReportData: true}, nil, attest.ErrZeroReportData},
		{"signature", sim.Faults{BadSignature: true}, nil, attest.ErrSignature},
		{"expired", sim.Faults{Expiry: now}, nil, attest.ErrFreshness},
		{"claims", sim.Faults{}, func(e *attest.Evidence) { e.Claims = e.Claims[1:] }, attest.ErrFormat},
		{"proof", sim.Faults{}, func(e *attest.Evidence) { e.Proof.N = 2 }, attest.ErrFormat},
		{"platform", sim.Faults{}, func(e *attest.Evidence) { e.Quote.Platform = attest.SGX }, attest.ErrPlatform},
	} {
		for _, purpose := range []attest.Purpose{attest.PurposeConnection, attest.PurposeCertificate, attest.PurposeGuest} {
			data, err := attest.Make(t.Context(), sim.NewAttester(key, attest.Sum(nil)).WithFaults(c.faults), purpose, claims, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			e, err := attest.DecodeEvidence(data)
			if err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(e)
			}
			u, err := registry.ExamineEvidenceUnbound(t.Context(), e, now)
			if !errors.Is(err, c.want) || (err == nil) != (u != nil) {
				t.Errorf("%s: %+v, %v, want %v", c.name, u, err, c.want)
			}
			if err == nil && (u.Purpose != purpose || u.Facts().Module != claims.Module) {
				t.Errorf("%s: purpose %d, module %v", c.name, u.Purpose, u.Facts().Module)
			}
		}
	}
}
