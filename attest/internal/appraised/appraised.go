// Package appraised has a policy judge what an attester makes, as the peer of a broker does. It is for tests of drivers.
package appraised

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// Policy wants one identity, of the module that [As] claims, which meets the requirement; with instances, of one of these machines.
func Policy(t testing.TB, r policy.Requirement, instances ...string) *policy.Policy {
	t.Helper()
	p, err := policy.New([]policy.Identity{{
		Name: "broker", Modules: []attest.Digest{{}}, AnyOf: []policy.Requirement{r}, Instances: instances,
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// As wants the verdict over evidence of an attester, at the time now, to be want: nil is acceptance.
func As(t testing.TB, want error, p *policy.Policy, v attest.Verifier, a attest.Attester, now time.Time) {
	t.Helper()
	claims := &attest.Claims{}
	claims.Role, claims.Phase, claims.Service = attest.RoleServer, attest.PhaseConnect, "mqtt.example"
	evidence, err := attest.Make(t.Context(), a, attest.PurposeConnection, claims, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	verdict := policy.NewAppraiser(p, attest.NewRegistry(v)).Appraise(t.Context(), evidence, claims.Binding, now)
	if !errors.Is(verdict.Err, want) || verdict.Accepted != (want == nil) {
		t.Errorf("%v, want %v", verdict.Err, want)
	}
}
