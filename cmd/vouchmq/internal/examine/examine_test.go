package examine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/ear"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func fromHex(t *testing.T, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// simulated makes evidence of a simulated TEE.
func simulated(t *testing.T, key *sim.Key, f sim.Faults) []byte {
	t.Helper()
	a := sim.NewAttester(key, attest.Sum([]byte("platform"))).WithFaults(f)
	c := &attest.Claims{Binding: attest.Binding{Role: attest.RoleServer, Phase: attest.PhaseConnect, Service: "plant"}, IssuedAt: now.Unix()}
	c.Module = attest.Sum([]byte("module"))
	data, err := attest.Make(context.Background(), a, attest.PurposeConnection, c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newKey(t *testing.T) *sim.Key {
	t.Helper()
	return testkit.Must(sim.NewKey())(t)
}

func TestOwnEvidence(t *testing.T) {
	key := newKey(t)
	p, err := policy.New([]policy.Identity{policy.Simulated("broker", attest.Sum([]byte("module")), attest.Digest{}, key.Digest())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := policy.New([]policy.Identity{policy.Simulated("broker", attest.Sum([]byte("another")), attest.Digest{}, key.Digest())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reportData := attest.ReportData{1}
	for _, c := range []struct {
		name    string
		faults  sim.Faults
		options Options
		policy  *policy.Policy
		want    string
		kind    error // of the refusal
		tier    ear.Tier
	}{
		{"accepted", sim.Faults{}, Options{}, p, "ACCEPTED as broker, in a simulated TEE", nil, ear.Contraindicated},
		{"without policy", sim.Faults{}, Options{}, nil, "SIMULATED: ", nil, ear.Contraindicated},
		{"another module", sim.Faults{}, Options{}, other, "REFUSED: module", attest.ErrModule, ear.Contraindicated},
		{"debug", sim.Faults{Debug: true}, Options{}, p, "REFUSED: the TEE runs in debug mode", attest.ErrDebug, ear.Contraindicated},
		{"debug without policy", sim.Faults{Debug: true}, Options{}, nil, "GENUINE, BUT IN DEBUG MODE", attest.ErrDebug, ear.Contraindicated},
		{"broken signature", sim.Faults{BadSignature: true}, Options{}, p, "REFUSED: signature", attest.ErrSignature, ear.Contraindicated},
		{"other claims", sim.Faults{ReportData: &reportData}, Options{}, p, "REFUSED: the quote's report data is not that", attest.ErrBinding, ear.Contraindicated},
		{"zeros", sim.Faults{ZeroReportData: true}, Options{}, p, "REFUSED: the quote's report data is all zero", attest.ErrZeroReportData, ear.Contraindicated},
		{"expired", sim.Faults{Expiry: now}, Options{}, p, "REFUSED: evidence or its collateral expired", attest.ErrFreshness, ear.Contraindicated},
		{"expected report data", sim.Faults{}, Options{ReportData: []byte{1}}, p, "REFUSED: the report data is not 01", attest.ErrBinding, ear.Contraindicated},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Now = now
			r, err := Examine(t.Context(), simulated(t, key, c.faults), c.options)
			if err != nil {
				t.Fatal(err)
			}
			if c.policy != nil {
				r.Judge(c.policy)
			}
			if s := r.Sentence(); !strings.HasPrefix(s, c.want) {
				t.Errorf("%s, want %s", s, c.want)
			}
			if err := r.Refusal(); !errors.Is(err, c.kind) {
				t.Errorf("refusal %v, want %v", err, c.kind)
			}
			e := r.EAR(ear.Verifier{Developer: "test", Build: "test"}, nil, time.Hour)
			if got := e.Submodules["sim"].Status; got != c.tier {
				t.Errorf("tier %v, want %v", got, c.tier)
			}
		})
	}
}

// Nobody must take evidence in a file for more than it is.
func TestBindingIsNeverClaimed(t *testing.T) {
	r, err := Examine(t.Context(), simulated(t, newKey(t), sim.Faults{}), Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil {
		t.Fatal(err)
	}
	if r.Binding.Checked || !strings.Contains(text.String(), "NOT CHECKED: whether they are about a connection of yours") {
		t.Errorf("binding %+v in\n%s", r.Binding, &text)
	}
}

func TestExpectedReportData(t *testing.T) {
	data := simulated(t, newKey(t), sim.Faults{})
	r, err := Examine(t.Context(), data, Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	r, err = Examine(t.Context(), data, Options{Now: now, ReportData: fromHex(t, r.ReportData)})
	if err != nil || !r.Binding.Checked || r.Err != nil {
		t.Errorf("%+v, %v, %v", r.Binding, r.Err, err)
	}
}
