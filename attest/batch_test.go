package attest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// device is a simulated TEE whose quotes come when a test lets them.
type device struct {
	*sim.Attester
	let  chan error    // takes what a quote fails with, nil for one that works; closed: all work
	busy chan struct{} // gets one for each quote that is asked for

	mu      sync.Mutex
	asked   []attest.ReportData
	at, max int // quotes that are being made
}

func newDevice(t testing.TB) *device {
	return &device{
		Attester: sim.NewAttester(Must(sim.NewKey())(t), attest.Digest{1}),
		let:      make(chan error), busy: make(chan struct{}, 2*attest.MaxBatch),
	}
}

// freeDevice lets all quotes come at once.
func freeDevice(t testing.TB) *device {
	d := newDevice(t)
	close(d.let)
	return d
}

func (d *device) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	d.mu.Lock()
	d.asked = append(d.asked, data)
	d.at++
	d.max = max(d.max, d.at)
	d.mu.Unlock()
	defer func() { d.mu.Lock(); d.at--; d.mu.Unlock() }()
	d.busy <- struct{}{}
	select {
	case err := <-d.let:
		if err != nil {
			return attest.Quote{}, err
		}
		return d.Attester.Attest(ctx, data)
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	}
}

// requests returns what the device was asked to sign.
func (d *device) requests() []attest.ReportData {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// asker is somebody who asks a Batcher for evidence.
type asker struct {
	claims   *attest.Claims
	evidence []byte
	err      error
	done     chan struct{}
}

// ask asks with claims of its own, told apart by number.
func ask(ctx context.Context, b *attest.Batcher, purpose attest.Purpose, number int) *asker {
	a := &asker{claims: exampleClaims(), done: make(chan struct{})}
	a.claims.Binder = [32]byte{byte(number), byte(number >> 8), 1}
	go func() {
		defer close(a.done)
		a.evidence, a.err = b.Make(ctx, purpose, a.claims, rand.Reader)
	}()
	return a
}

// askMany asks n times while the device is busy, and returns when all wait.
func askMany(t testing.TB, b *attest.Batcher, n int) []*asker {
	t.Helper()
	before := b.Waiting()
	var all []*asker
	for i := range n {
		all = append(all, ask(t.Context(), b, attest.PurposeConnection, i))
	}
	Await(t, "all requests wait", func() bool { return b.Waiting() == before+n })
	return all
}

func (a *asker) wait(t testing.TB) *asker {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(Patience):
		t.Fatal("no answer came")
	}
	return a
}

// decoded returns the evidence, which must have come.
func (a *asker) decoded(t testing.TB) *attest.Evidence {
	t.Helper()
	if a.wait(t).err != nil {
		t.Fatal(a.err)
	}
	return Must(attest.DecodeEvidence(a.evidence))(t)
}

func verify(t testing.TB, e *attest.Evidence, want attest.Binding) error {
	t.Helper()
	_, err := attest.NewRegistry(sim.NewVerifier()).Verify(t.Context(), e, attest.PurposeConnection, want, time.Now())
	return err
}

// busyBatcher returns a Batcher whose device makes a quote for one request, until it is let.
func busyBatcher(t testing.TB, d *device) (*attest.Batcher, *asker) {
	b := attest.NewBatcher(d)
	t.Cleanup(b.Close)
	first := ask(t.Context(), b, attest.PurposeConnection, 9999)
	<-d.busy
	return b, first
}

// TestBatch: those who come while a quote is made share the next one; each can show that it covers their claims, and
// nobody else's.
func TestBatch(t *testing.T) {
	d := newDevice(t)
	b, first := busyBatcher(t, d)
	all := askMany(t, b, 13)
	close(d.let)
	if e := first.decoded(t); e.Proof.N != 1 || verify(t, e, first.claims.Binding) != nil {
		t.Errorf("who came alone shares a quote of %d", e.Proof.N)
	}
	blinds := map[[attest.BlindSize]byte]bool{}
	quote := string(all[0].decoded(t).Quote.Data)
	for i, a := range all {
		e := a.decoded(t)
		if e.Proof.N != 13 || string(e.Quote.Data) != quote {
			t.Errorf("request %d is one of %d in a quote of its own", i, e.Proof.N)
		}
		blinds[e.Blind] = true
		for k, other := range all {
			switch err := verify(t, e, other.claims.Binding); {
			case i == k && err != nil:
				t.Errorf("request %d: %v", i, err)
			case i != k && !errors.Is(err, attest.ErrBinding):
				t.Errorf("evidence of request %d serves request %d: %v", i, k, err)
			}
		}
	}
	if len(blinds) != len(all) {
		t.Errorf("%d blinds for %d requests", len(blinds), len(all))
	}
	if got, want := b.Stats(), (attest.BatchStats{Quotes: 2, Evidence: 14, Largest: 13}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// TestBatchOfOthers: a member of a batch who takes the parts of another member's evidence that suit it gains nothing.
func TestBatchOfOthers(t *testing.T) {
	d := newDevice(t)
	b, _ := busyBatcher(t, d)
	all := askMany(t, b, 6)
	close(d.let)
	mine, other := all[1].decoded(t), all[4].decoded(t)
	for name, change := range map[string]func(e *attest.Evidence){
		"claims":           func(e *attest.Evidence) { e.Claims = mine.Claims },
		"claims and blind": func(e *attest.Evidence) { e.Claims, e.Blind = mine.Claims, mine.Blind },
		"all but index":    func(e *attest.Evidence) { i := e.Proof.I; *e = *mine; e.Proof.I = i },
		"all but path":     func(e *attest.Evidence) { p := e.Proof.Path; *e = *mine; e.Proof.Path = p },
	} {
		e := *other
		change(&e)
		if err := verify(t, &e, all[1].claims.Binding); !errors.Is(err, attest.ErrBinding) && !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBatchBound: no quote covers more than MaxBatch, and one that does is verified; its proof is not larger than said.
func TestBatchBound(t *testing.T) {
	d := newDevice(t)
	b, first := busyBatcher(t, d)
	all := askMany(t, b, attest.MaxBatch+3)
	close(d.let)
	size := len(first.wait(t).evidence)
	sizes := map[uint64]int{}
	for i, a := range all {
		e := a.decoded(t)
		sizes[e.Proof.N]++
		if i%100 == 0 && verify(t, e, a.claims.Binding) != nil {
			t.Errorf("request %d cannot be verified", i)
		}
		if more := len(a.evidence) - size; more > attest.MaxProofSize {
			t.Errorf("the proof adds %d bytes, more than %d", more, attest.MaxProofSize)
		}
	}
	if sizes[attest.MaxBatch] != attest.MaxBatch || sizes[3] != 3 || b.Stats().Quotes != 3 {
		t.Errorf("%d quotes, of sizes %v", b.Stats().Quotes, sizes)
	}
}

// TestBatchPurposes: evidence for different purposes never shares a quote; the oldest goes first.
func TestBatchPurposes(t *testing.T) {
	d := newDevice(t)
	b, _ := busyBatcher(t, d)
	purposes := []attest.Purpose{attest.PurposeCertificate, attest.PurposeConnection, attest.PurposeCertificate, attest.PurposeGuest, attest.PurposeConnection}
	var all []*asker
	for i, p := range purposes {
		all = append(all, ask(t.Context(), b, p, i))
		Await(t, "the request waits", func() bool { return b.Waiting() == i+1 })
	}
	close(d.let)
	want := map[attest.Purpose]uint64{attest.PurposeCertificate: 2, attest.PurposeConnection: 2, attest.PurposeGuest: 1}
	var order []attest.Purpose
	for i, p := range purposes {
		e := all[i].decoded(t)
		if e.Proof.N != want[p] {
			t.Errorf("purpose %d shares a quote of %d, want %d", p, e.Proof.N, want[p])
		}
		root := Must(e.Proof.Root(attest.LeafHash(e.Blind, e.Claims)))(t)
		at := slices.Index(d.requests(), attest.ReportDataFor(p, e.Proof.N, root))
		if at < 0 {
			t.Fatalf("the quote is not for purpose %d", p)
		}
		if e.Proof.I == 0 {
			order = append(order, p, attest.Purpose(at))
		}
	}
	if !slices.Equal(order, []attest.Purpose{attest.PurposeCertificate, 1, attest.PurposeConnection, 2, attest.PurposeGuest, 3}) {
		t.Errorf("purpose and number of its quote: %v", order)
	}
}

// TestBatchGivenUp: who does not wait any longer returns at once, from the queue and from a batch, and harms nobody.
func TestBatchGivenUp(t *testing.T) {
	d := newDevice(t)
	b, first := busyBatcher(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	waits := ask(ctx, b, attest.PurposeConnection, 1)
	Await(t, "the request waits", func() bool { return b.Waiting() == 1 })
	cancel()
	if err := waits.wait(t).err; !errors.Is(err, context.Canceled) || b.Waiting() != 0 {
		t.Errorf("out of the queue: %v, %d still wait", err, b.Waiting())
	}

	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	others := askMany(t, b, 2)
	served := ask(ctx, b, attest.PurposeConnection, 1)
	Await(t, "the request waits", func() bool { return b.Waiting() == 3 })
	d.let <- nil
	<-d.busy // the batch of three is with the device
	cancel()
	if err := served.wait(t).err; !errors.Is(err, attest.ErrTimeout) {
		t.Errorf("out of a batch: %v", err)
	}
	d.let <- nil
	for _, a := range append(others, first) {
		if err := verify(t, a.decoded(t), a.claims.Binding); err != nil {
			t.Error(err)
		}
	}
}

// TestBatchUnwanted: a quote that nobody waits for any more is broken off.
func TestBatchUnwanted(t *testing.T) {
	d := newDevice(t)
	b := attest.NewBatcher(d)
	ctx, cancel := context.WithCancel(t.Context())
	a := ask(ctx, b, attest.PurposeConnection, 1)
	<-d.busy
	cancel()
	if err := a.wait(t).err; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	Await(t, "the goroutine ends without a Close", func() bool { return !b.Working() })
	if n := len(d.requests()); n != 1 {
		t.Errorf("the device was asked %d times", n)
	}
}

var errDevice = errors.New("the device is broken")

// TestBatchFails: after a failure each request is tried once more, alone.
func TestBatchFails(t *testing.T) {
	d := newDevice(t)
	_, first := busyBatcher(t, d)
	d.let <- errDevice // alone, and tried again
	d.let <- nil
	<-d.busy
	if err := verify(t, first.decoded(t), first.claims.Binding); err != nil {
		t.Error(err)
	}
	b, first := busyBatcher(t, d)
	all := askMany(t, b, 3)
	d.let <- nil
	for _, err := range []error{errDevice, nil, errDevice, nil} { // all three, then each
		<-d.busy
		d.let <- err
	}
	first.decoded(t)
	failed := 0
	for _, a := range all {
		if errors.Is(a.wait(t).err, errDevice) && errors.Is(a.err, attest.ErrAttester) {
			failed++
			continue
		}
		if e := a.decoded(t); e.Proof.N != 1 || verify(t, e, a.claims.Binding) != nil {
			t.Error("the second try is not alone")
		}
	}
	if got, want := b.Stats(), (attest.BatchStats{Quotes: 3, Evidence: 3, Failures: 2, Largest: 1}); failed != 1 || got != want {
		t.Errorf("%d failed; counted %+v, want %+v", failed, got, want)
	}
}

// TestBatchOneAtATime: a device sees one quote at a time, whichever of its Batchers asks.
func TestBatchOneAtATime(t *testing.T) {
	d := freeDevice(t)
	b := attest.NewBatcher(d)
	other := b.With(d)
	var all []*asker
	for i := range 200 {
		all = append(all, ask(t.Context(), []*attest.Batcher{b, other}[i%2], attest.PurposeConnection, i))
	}
	for _, a := range all {
		if err := verify(t, a.decoded(t), a.claims.Binding); err != nil {
			t.Error(err)
		}
	}
	if d.max != 1 {
		t.Errorf("%d quotes at a time", d.max)
	}
	if s := other.Stats(); s.Evidence != 200 || s != b.Stats() {
		t.Errorf("counted %+v and %+v", s, b.Stats())
	}
}

// TestBatchClose: closing ends what is under way, and what waits, and the goroutine.
func TestBatchClose(t *testing.T) {
	d := newDevice(t)
	b, first := busyBatcher(t, d)
	all := append(askMany(t, b, 3), first)
	b.Close()
	all = append(all, ask(t.Context(), b, attest.PurposeConnection, 4))
	for _, a := range all {
		if err := a.wait(t).err; !errors.Is(err, attest.ErrAttester) {
			t.Error(err)
		}
	}
	if b.Working() || b.Waiting() != 0 {
		t.Error("something is left")
	}
	b.Close()
}
