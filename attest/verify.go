package attest

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"slices"
	"time"
)

// Registry is a set of verifiers, one for a platform. It is immutable.
type Registry struct {
	verifiers map[Platform]Verifier
}

// NewRegistry returns a registry of the given verifiers; of two for one platform the later one counts.
func NewRegistry(verifiers ...Verifier) *Registry {
	r := &Registry{verifiers: make(map[Platform]Verifier, len(verifiers))}
	for _, v := range verifiers {
		r.verifiers[v.Platform()] = v
	}
	return r
}

// Platforms returns the platforms that can be verified, sorted.
func (r *Registry) Platforms() []Platform {
	var list []Platform
	for p := range r.verifiers {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// Has reports whether quotes of p can be verified.
func (r *Registry) Has(p Platform) bool { return r.verifiers[p] != nil }

// Make attests: it commits to the claims, has a quote made over that commitment and returns encoded
// evidence. random gives the blind.
func Make(ctx context.Context, a Attester, purpose Purpose, claims *Claims, random io.Reader) ([]byte, error) {
	e, err := newEvidence(claims, random)
	if err != nil {
		return nil, err
	}
	data := ReportDataFor(purpose, 1, LeafHash(e.Blind, e.Claims))
	if e.Quote, err = a.Attest(ctx, data); err != nil {
		return nil, attestFailure(ctx, a.Platform(), err)
	}
	return e.Encode()
}

// newEvidence returns evidence of claims that still lacks a quote. Its proof is that of a batch of one.
func newEvidence(claims *Claims, random io.Reader) (*Evidence, error) {
	encoded, err := claims.Encode()
	if err != nil {
		return nil, Errorf(ErrAttester, "encode claims: %w", err)
	}
	e := &Evidence{Claims: encoded, Proof: Proof{N: 1}}
	if _, err := io.ReadFull(random, e.Blind[:]); err != nil {
		return nil, Errorf(ErrAttester, "read randomness: %w", err)
	}
	return e, nil
}

func attestFailure(ctx context.Context, p Platform, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return Errorf(ErrTimeout, "attester %q was too slow: %w", p, err)
	}
	return Errorf(ErrAttester, "attester %q: %w", p, err)
}

// Verify verifies evidence for a purpose against the binding that this side computed from its own state.
// It returns facts only if everything holds at the time now: the claims are those of this binding, the
// quote is genuine, and it signs exactly those claims.
func (r *Registry) Verify(ctx context.Context, e *Evidence, purpose Purpose, want Binding, now time.Time) (*Facts, error) {
	claims, err := DecodeClaims(e.Claims)
	if err != nil {
		return nil, err
	}
	if err := want.mismatch(&claims.Binding); err != nil {
		return nil, err
	}
	if claims.Guest != nil {
		return nil, Errorf(ErrFormat, "claims-set of a connection speaks for data of a guest")
	}
	data, err := e.expectedReportData(purpose, want, claims)
	if err != nil {
		return nil, err
	}
	platform, err := r.verifyQuote(ctx, e.Quote, data, now)
	if err != nil {
		return nil, err
	}
	return &Facts{PlatformClaims: platform, Identity: claims.Identity, IssuedAt: time.Unix(claims.IssuedAt, 0).UTC()}, nil
}

// expectedReportData computes the report data from the caller's own binding; of the peer's claims it takes
// only what the caller cannot know.
func (e *Evidence) expectedReportData(purpose Purpose, want Binding, peer *Claims) (ReportData, error) {
	own := Claims{Binding: want, Identity: peer.Identity, IssuedAt: peer.IssuedAt}
	encoded, err := own.Encode()
	if err != nil {
		return ReportData{}, Errorf(ErrFormat, "claims-set: %w", err)
	}
	root, err := e.Proof.Root(LeafHash(e.Blind, encoded))
	if err != nil {
		return ReportData{}, err
	}
	return ReportDataFor(purpose, e.Proof.N, root), nil
}

func (r *Registry) verifyQuote(ctx context.Context, q Quote, want ReportData, now time.Time) (PlatformClaims, error) {
	claims, err := r.examine(ctx, q, want, now)
	if err != nil {
		return PlatformClaims{}, err
	}
	if err := compareReportData(claims, want); err != nil {
		return PlatformClaims{}, err
	}
	if err := checkExpiry(claims, now); err != nil {
		return PlatformClaims{}, err
	}
	return claims, nil
}

// compareReportData is the one place where report data is compared, for every platform: all bytes, in
// constant time. Zeros are refused before, since a TEE that signs zeros signs nothing.
func compareReportData(claims PlatformClaims, want ReportData) error {
	expected := want[:]
	if platforms[claims.Platform].size == shortReportDataSize {
		short := want.Short()
		expected = short[:]
	}
	zero := make([]byte, len(claims.ReportData))
	if subtle.ConstantTimeCompare(claims.ReportData, zero) == 1 || want.IsZero() {
		return Errorf(ErrZeroReportData, "the quote's report data is all zero: it vouches for nothing")
	}
	if subtle.ConstantTimeCompare(claims.ReportData, expected) != 1 {
		return Errorf(ErrBinding, "the quote's report data is not that of these claims: it was made for something else")
	}
	return nil
}
