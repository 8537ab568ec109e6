package attest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// countingVerifier is a verifier of simulated quotes that counts, has collateral, and can be held up.
type countingVerifier struct {
	sim.Verifier
	count   atomic.Int64
	version atomic.Uint64
	hold    chan struct{} // nil: it is not held up
}

func (v *countingVerifier) CollateralVersion() uint64 { return v.version.Load() }

func (v *countingVerifier) Verify(ctx context.Context, q attest.Quote, want attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	v.count.Add(1)
	if v.hold != nil {
		select {
		case <-v.hold:
		case <-ctx.Done():
			return attest.PlatformClaims{}, ctx.Err()
		}
	}
	return v.Verifier.Verify(ctx, q, want, now)
}

// counted fails unless the verifier was asked so many times.
func (v *countingVerifier) counted(t *testing.T, what string, want int64) {
	t.Helper()
	if got := v.count.Load(); got != want {
		t.Errorf("%s: the quote was verified %d times, want %d", what, got, want)
	}
}

// evidenceOf returns evidence with a quote of its own.
func evidenceOf(t *testing.T, a attest.Attester) (*attest.Evidence, attest.Binding) {
	claims := exampleClaims()
	return Must(attest.DecodeEvidence(Must(attest.Make(t.Context(), a, attest.PurposeConnection, claims, rand.Reader))(t)))(t), claims.Binding
}

func newAttester(t *testing.T, f sim.Faults) attest.Attester {
	return sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{1}).WithFaults(f)
}

// TestSharedQuoteIsVerifiedOnce: clients whose evidence shares a quote cost one verification, and still only their own
// evidence is accepted.
func TestSharedQuoteIsVerifiedOnce(t *testing.T) {
	d := newDevice(t)
	b, _ := busyBatcher(t, d)
	all := askMany(t, b, 64)
	close(d.let)
	v := &countingVerifier{hold: make(chan struct{})}
	r := attest.NewRegistry(attest.Remember(v, 0))
	now := time.Now()
	var clients sync.WaitGroup
	for i, a := range all {
		e := a.decoded(t)
		clients.Go(func() {
			if facts, err := r.Verify(t.Context(), e, attest.PurposeConnection, a.claims.Binding, now); err != nil || facts.Module != a.claims.Module {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	close(v.hold)
	clients.Wait()
	v.counted(t, "64 clients", 1)
	for i, a := range all {
		stolen := all[(i+1)%len(all)].decoded(t)
		stolen.Claims = a.decoded(t).Claims
		if _, err := r.Verify(t.Context(), stolen, attest.PurposeConnection, a.claims.Binding, now); !errors.Is(err, attest.ErrBinding) {
			t.Fatalf("client %d with evidence of another one: %v", i, err)
		}
	}
	v.counted(t, "64 thieves", 1)
}

// TestRememberedQuoteExpires: a quote is remembered for as long as it holds, by the clock of who asks.
func TestRememberedQuoteExpires(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	e, binding := evidenceOf(t, newAttester(t, sim.Faults{Expiry: now.Add(time.Minute)}))
	v := &countingVerifier{}
	r := attest.NewRegistry(attest.Remember(v, 0))
	for _, step := range []struct {
		after time.Duration
		kind  attest.Kind // 0: accepted
		count int64
	}{
		{0, 0, 1}, {59 * time.Second, 0, 1}, {time.Minute, attest.ErrFreshness, 2}, {time.Hour, attest.ErrFreshness, 3},
		{30 * time.Second, 0, 4}, {-time.Second, 0, 5}, {0, 0, 5},
	} {
		_, err := r.Verify(t.Context(), e, attest.PurposeConnection, binding, now.Add(step.after))
		if step.kind == 0 && err != nil || step.kind != 0 && !errors.Is(err, step.kind) {
			t.Errorf("after %v: %v", step.after, err)
		}
		v.counted(t, step.after.String(), step.count)
	}
}

// TestRememberedQuoteIsForgotten: with other collateral, on demand, and when there are too many.
func TestRememberedQuoteIsForgotten(t *testing.T) {
	v := &countingVerifier{}
	m := attest.Remember(v, 2)
	r := attest.NewRegistry(m)
	a := newAttester(t, sim.Faults{})
	var evidence []*attest.Evidence
	for range 3 {
		e, _ := evidenceOf(t, a)
		evidence = append(evidence, e)
	}
	verify := func(what string, i int, count int64) {
		t.Helper()
		if _, err := r.Verify(t.Context(), evidence[i], attest.PurposeConnection, exampleClaims().Binding, time.Now()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		v.counted(t, what, count)
	}
	verify("new", 0, 1)
	verify("known", 0, 1)
	v.version.Add(1)
	verify("other collateral", 0, 2)
	verify("the same collateral", 0, 2)
	m.Forget()
	verify("forgotten", 0, 3)
	verify("second", 1, 4)
	verify("third", 2, 5)
	verify("second is known", 1, 5)
	verify("the oldest has made room", 0, 6)
}

// TestRefusalsAreNotRemembered, and a quote that differs in any part is another one.
func TestRefusalsAreNotRemembered(t *testing.T) {
	v := &countingVerifier{}
	r := attest.NewRegistry(attest.Remember(v, 0))
	verify := func(e *attest.Evidence, b attest.Binding) error {
		_, err := r.Verify(t.Context(), e, attest.PurposeConnection, b, time.Now())
		return err
	}
	bad, binding := evidenceOf(t, newAttester(t, sim.Faults{BadSignature: true}))
	for i := range 3 {
		if err := verify(bad, binding); !errors.Is(err, attest.ErrSignature) {
			t.Error(err)
		}
		v.counted(t, "bad signature", int64(i+1))
	}
	good, binding := evidenceOf(t, newAttester(t, sim.Faults{Padding: 1}))
	if err := verify(good, binding); err != nil {
		t.Fatal(err)
	}
	v.count.Store(0)
	good.Quote.Endorsements[0]++
	if err := verify(good, binding); err != nil { // the simulation does not look at endorsements
		t.Error(err)
	}
	v.counted(t, "other endorsements", 1)
	good.Quote.Data[len(good.Quote.Data)-1]++
	if err := verify(good, binding); !errors.Is(err, attest.ErrSignature) {
		t.Error("another signature:", err)
	}
	v.counted(t, "another signature", 2)
}

// conditional is a verifier whose platforms are all in a condition.
type conditional struct{ sim.Verifier }

func (v conditional) Verify(ctx context.Context, q attest.Quote, want attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	c, err := v.Verifier.Verify(ctx, q, want, now)
	c.Conditions = []string{"smt"}
	return c, err
}

// TestRememberedClaimsAreCopies: whoever changes what it was given does not change what others are told.
func TestRememberedClaimsAreCopies(t *testing.T) {
	e, binding := evidenceOf(t, newAttester(t, sim.Faults{Advisories: []string{"SIM-1"}}))
	r := attest.NewRegistry(attest.Remember(conditional{sim.NewVerifier()}, 0))
	for range 3 {
		f, err := r.Verify(t.Context(), e, attest.PurposeConnection, binding, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if f.Advisories[0] != "SIM-1" || f.Conditions[0] != "smt" || f.Measurements["measurement"][0] != 1 || len(f.Measurements) != 2 {
			t.Fatalf("somebody has changed %+v", f.PlatformClaims)
		}
		f.Conditions[0] = "none"
		f.Advisories[0], f.Measurements["measurement"][0], f.ReportData[0] = "none", 2, f.ReportData[0]^1
		delete(f.Measurements, "key")
	}
}

// TestWaitingForAnothersVerification: who waits for it may give up, and is not harmed when the other does.
func TestWaitingForAnothersVerification(t *testing.T) {
	e, _ := evidenceOf(t, newAttester(t, sim.Faults{}))
	v := &countingVerifier{hold: make(chan struct{})}
	m := attest.Remember(v, 0)
	begin := func(ctx context.Context) chan error {
		result := make(chan error, 1)
		go func() {
			_, err := m.Verify(ctx, e.Quote, attest.ReportData{}, time.Now())
			result <- err
		}()
		return result
	}
	firstCtx, giveUp := context.WithCancel(t.Context())
	first := begin(firstCtx)
	Await(t, "the first verifies", func() bool { return v.count.Load() == 1 })
	secondCtx, giveUpToo := context.WithCancel(t.Context())
	second, third := begin(secondCtx), begin(t.Context())
	giveUpToo()
	if err := <-second; !errors.Is(err, context.Canceled) || !errors.Is(err, attest.ErrTimeout) {
		t.Error("the second:", err)
	}
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error("the first:", err)
	}
	close(v.hold)
	if err := <-third; err != nil {
		t.Error("the third:", err)
	}
}
