package policy

import (
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Facts are judged again by another policy and another time, with the words of an appraisal.
func TestReappraise(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := facts(attest.TDX)
	p := parse(t, "version: 1\nidentities:\n  a: { module: ["+f.Module.String()+"], any_of: [ { "+anyTDX+" } ] }\n")
	if v := p.Reappraise(f, now); !v.Accepted || v.Identities[0] != "a" || !v.At.Equal(now) || v.Facts != f {
		t.Errorf("never expires: %+v", v)
	}
	f.Expiry = now.Add(time.Second)
	if v := p.Reappraise(f, now); !v.Accepted {
		t.Errorf("before it expires: %v", v.Err)
	}
	if v := p.Reappraise(f, f.Expiry); v.Accepted || !errors.Is(v.Err, attest.ErrFreshness) || v.Facts != f {
		t.Errorf("expired: %+v", v)
	}
	f.Expiry, f.TCB = time.Time{}, attest.TCBRevoked
	if v := p.Reappraise(f, now); !errors.Is(v.Err, attest.ErrTCB) {
		t.Errorf("revoked: %v", v.Err)
	}
}
