package policy

import (
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Reappraise judges facts that were verified earlier, as of the time now: by this policy, which may have changed since,
// and by the dates of the certificates and collateral behind them. The evidence itself is not verified again.
func (p *Policy) Reappraise(f *attest.Facts, now time.Time) *Verdict {
	if f.Expired(now) {
		v := &Verdict{Platform: f.Platform, Facts: f, At: now}
		return v.refuse(attest.Errorf(attest.ErrFreshness, "evidence or its collateral expired at %s, and no newer has come", f.Expiry.UTC().Format(time.RFC3339)))
	}
	v := p.Judge(f)
	v.At = now
	return v
}
