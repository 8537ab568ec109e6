package examine

import (
	"time"

	"github.com/vouchmq/vouchmq/attest/ear"
)

// EAR returns the result for others. Nothing is affirmed that no policy has accepted. It is valid for a time from when it was looked at, and not longer than the evidence can be verified.
func (r *Result) EAR(by ear.Verifier, nonce []byte, validity time.Duration) *ear.Result {
	expires := r.At.Add(validity)
	if r.Expires != nil && r.Expires.Before(expires) {
		expires = *r.Expires
	}
	a := ear.Failed()
	if r.Facts != nil && r.Err == nil {
		a = ear.Appraise(&r.Facts.PlatformClaims, r.judge != nil && r.judge.Accepted, r.Facts.Claims != nil)
	}
	if r.Verdict != nil {
		a.Policies = []string{r.Verdict.Policy}
	}
	return &ear.Result{
		Profile: ear.Profile, IssuedAt: r.At.Unix(), Expires: expires.Unix(), Nonce: nonce, Verifier: by,
		Submodules: map[string]ear.Appraisal{r.Platform: a},
	}
}
