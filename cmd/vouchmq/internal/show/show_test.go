package show

import (
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

func text(t *testing.T, v *policy.Verdict) string {
	t.Helper()
	var b strings.Builder
	if err := Of(v).Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestVerdictsInWords(t *testing.T) {
	facts := &attest.Facts{
		PlatformClaims: attest.PlatformClaims{
			Platform: attest.TDX, TCB: attest.TCBSWHardeningNeeded, Advisories: []string{"INTEL-SA-1"}, Debug: true,
			Measurements: map[string][]byte{"mrtd": {1, 2}}, Versions: map[string]uint64{"isv_svn": 3},
		},
		Identity: attest.Identity{Instance: "one"},
	}
	accepted := &policy.Verdict{Accepted: true, Identities: []string{"broker"}, Platform: attest.TDX, Facts: facts}
	for _, want := range []string{"ACCEPTED as broker\n", "SWHardeningNeeded, INTEL-SA-1, DEBUG MODE", "mrtd=0102 isv_svn=3", "instance"} {
		if got := text(t, accepted); !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
	refused := policy.Refused(attest.Errorf(attest.ErrMissing, "there was none"), time.Now())
	if got := text(t, refused); got != "verdict  REFUSED: there was none\n" {
		t.Errorf("%q", got)
	}
	if s := Of(refused); s.Kind != "no evidence" || s.Verified || s.Accepted {
		t.Errorf("%+v", s)
	}
}

// TestWhatWasNotVerifiedSaysSo: a refused quote's platform is only what the peer says of itself.
func TestWhatWasNotVerifiedSaysSo(t *testing.T) {
	v := policy.Refused(attest.Errorf(attest.ErrSignature, "x"), time.Now())
	v.Platform = attest.SGX
	if got := text(t, v); !strings.Contains(got, "nothing about it was verified") {
		t.Error(got)
	}
}

func TestASimulatedTEEIsNeverShownWithoutTheWord(t *testing.T) {
	v := &policy.Verdict{Accepted: true, Identities: []string{"b"}, Platform: attest.Sim,
		Facts: &attest.Facts{PlatformClaims: attest.PlatformClaims{Platform: attest.Sim}}}
	if got := text(t, v); strings.Count(strings.ToLower(got), "simulated") < 2 {
		t.Error(got)
	}
}
