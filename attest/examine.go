package attest

import (
	"context"
	"time"
)

// Unbound is what evidence says that somebody has in hand, without a connection. It shows that there was such a TEE, not who sends
// it now: whoever has seen evidence can hand it on.
type Unbound struct {
	PlatformClaims
	Claims  *Claims // that the quote signs; nil of a bare quote. The binding in it was compared with nothing.
	Purpose Purpose // for which it was made; 0 of a bare quote
}

// Facts returns what was verified in the form that a policy judges. The identity of a bare quote is zero. It is not evidence of a
// connection, hence must never decide over one.
func (u *Unbound) Facts() *Facts {
	f := &Facts{PlatformClaims: u.PlatformClaims}
	if u.Claims != nil {
		f.Identity, f.IssuedAt = u.Claims.Identity, time.Unix(u.Claims.IssuedAt, 0).UTC()
	}
	return f
}

// ExamineUnbound verifies a bare quote at the time now, and does NOT check what it is bound to: neither that it was made for anybody in
// particular, nor when. It is for tools that look at files. Connections are judged by [Registry.Verify].
func (r *Registry) ExamineUnbound(ctx context.Context, q Quote, now time.Time) (*Unbound, error) {
	claims, err := r.examine(ctx, q, ReportData{}, now)
	if err == nil {
		err = checkExpiry(claims, now)
	}
	if err != nil {
		return nil, err
	}
	return &Unbound{PlatformClaims: claims}, nil
}

// ExamineEvidenceUnbound is [Registry.ExamineUnbound] for evidence with its claims. It checks that the quote signs these claims, and NOT that
// they are about any connection.
func (r *Registry) ExamineEvidenceUnbound(ctx context.Context, e *Evidence, now time.Time) (*Unbound, error) {
	claims, err := DecodeClaims(e.Claims)
	if err != nil {
		return nil, err
	}
	root, err := e.Proof.Root(LeafHash(e.Blind, e.Claims))
	if err != nil {
		return nil, err
	}
	platform, err := r.examine(ctx, e.Quote, ReportDataFor(PurposeConnection, e.Proof.N, root), now)
	if err != nil {
		return nil, err
	}
	for _, p := range []Purpose{PurposeConnection, PurposeCertificate, PurposeGuest} {
		if err = compareReportData(platform, ReportDataFor(p, e.Proof.N, root)); err == nil {
			if err := checkExpiry(platform, now); err != nil {
				return nil, err
			}
			return &Unbound{PlatformClaims: platform, Claims: claims, Purpose: p}, nil
		}
	}
	return nil, err
}

// examine verifies a quote, but for its report data and whether it has expired.
func (r *Registry) examine(ctx context.Context, q Quote, want ReportData, now time.Time) (PlatformClaims, error) {
	v := r.verifiers[q.Platform]
	if v == nil {
		return PlatformClaims{}, Errorf(ErrPlatform, "no driver for platform %q in this build", q.Platform)
	}
	claims, err := v.Verify(ctx, q, want, now)
	if err != nil {
		return PlatformClaims{}, err
	}
	if claims.Platform != q.Platform {
		return PlatformClaims{}, Errorf(ErrFormat, "quote travels as %q and is of %q", q.Platform, claims.Platform)
	}
	return claims, nil
}

func checkExpiry(claims PlatformClaims, now time.Time) error {
	if claims.Expired(now) {
		return Errorf(ErrFreshness, "evidence or its collateral expired at %s", claims.Expiry.UTC().Format(time.RFC3339))
	}
	return nil
}
