package attest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Batcher makes evidence as Make does, and has one quote serve many who ask at the same time: while a quote is being
// made, further requests gather, and the next quote covers them all. Nobody waits for a batch to fill; a request that
// comes alone goes at once. The attester makes one quote at a time.
//
// Requests for different purposes are never covered by the same quote. A batch that fails costs nobody more than
// time: each of its requests is tried once more, alone.
//
// A Batcher has a goroutine only while there are requests. Its methods may be called by many goroutines.
type Batcher struct {
	attester Attester
	device   *device
	ctx      context.Context // of all quotes
	cancel   context.CancelFunc

	mu      sync.Mutex
	waiting []*request // the oldest first
	working bool       // the goroutine is there
	closed  bool
	work    sync.WaitGroup
}

// device is what batchers of the same quoting device share.
type device struct {
	turn chan struct{} // holds a token while a quote is made

	quotes, evidence, failures, largest atomic.Uint64
}

// BatchStats is what a Batcher has counted since it was made.
type BatchStats struct {
	Quotes   uint64 // that the attester made
	Evidence uint64 // requests that these quotes serve
	Failures uint64 // quotes that the attester could not make
	Largest  uint64 // requests that one quote served, at most
}

// NewBatcher returns a Batcher of a. It need not be closed.
func NewBatcher(a Attester) *Batcher {
	return newBatcher(a, &device{turn: make(chan struct{}, 1)})
}

func newBatcher(a Attester, d *device) *Batcher {
	b := &Batcher{attester: a, device: d}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// With returns a Batcher of another attester of the same device, for a configuration that replaces one in use: the two
// together make one quote at a time, and count together. Closing one does not close the other.
func (b *Batcher) With(a Attester) *Batcher { return newBatcher(a, b.device) }

// Platform names the kind of TEE.
func (b *Batcher) Platform() Platform { return b.attester.Platform() }

// Stats returns what has been counted.
func (b *Batcher) Stats() BatchStats {
	d := b.device
	return BatchStats{Quotes: d.quotes.Load(), Evidence: d.evidence.Load(), Failures: d.failures.Load(), Largest: d.largest.Load()}
}

// Close fails all requests, now and from now on, and returns when the attester is at rest. To close again does nothing.
func (b *Batcher) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.work.Wait()
}

// errClosed is what requests of a closed Batcher fail with.
var errClosed = errors.New("the batcher of quotes is closed")

// request is a claims-set that wants to be covered by a quote.
type request struct {
	purpose Purpose
	leaf    Hash
	ctx     context.Context
	answer  chan answer // has room for one
}

// answer is a quote that covers a request, and how, or why there is none. The quote is shared: nobody may change it.
type answer struct {
	quote Quote
	proof Proof
	err   error
}

// Make is like the function of that name. When ctx ends it returns at once, and nobody else's request is harmed.
func (b *Batcher) Make(ctx context.Context, purpose Purpose, claims *Claims, random io.Reader) ([]byte, error) {
	e, err := newEvidence(claims, random)
	if err != nil {
		return nil, err
	}
	r := &request{purpose: purpose, leaf: LeafHash(e.Blind, e.Claims), ctx: ctx, answer: make(chan answer, 1)}
	if err := b.ask(r); err != nil {
		return nil, attestFailure(ctx, b.Platform(), err)
	}
	select {
	case a := <-r.answer:
		if a.err != nil {
			return nil, attestFailure(ctx, b.Platform(), a.err)
		}
		e.Quote, e.Proof = a.quote, a.proof
		return e.Encode()
	case <-ctx.Done():
		b.withdraw(r)
		return nil, attestFailure(ctx, b.Platform(), ctx.Err())
	}
}

// ask queues a request, and starts the goroutine if it is not there.
func (b *Batcher) ask(r *request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	b.waiting = append(b.waiting, r)
	if !b.working {
		b.working = true
		b.work.Go(b.run)
	}
	return nil
}

// withdraw takes a request out of the queue, if it is still there.
func (b *Batcher) withdraw(r *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, r); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
}

// run serves requests until there are none. Before each batch it lets others have the processor: where processors are
// what is scarce, handshakes that are ready to run come to ask for evidence, too; where they are not, it costs nothing.
func (b *Batcher) run() {
	for {
		runtime.Gosched()
		batch := b.gather()
		if batch == nil {
			return
		}
		b.serve(batch)
	}
}

// gather takes the next batch out of the queue: the oldest request and all that have the same purpose, up to the
// bound. It returns nil, and the goroutine is to end, if there is none.
func (b *Batcher) gather() (batch []*request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.waiting[:0]
	for _, r := range b.waiting {
		if len(batch) < MaxBatch && (len(batch) == 0 || r.purpose == batch[0].purpose) {
			batch = append(batch, r)
		} else {
			left = append(left, r)
		}
	}
	clear(b.waiting[len(left):]) // lets go of those that were taken
	b.waiting = left
	b.working = batch != nil
	return batch
}

// serve answers a batch. If one quote for all cannot be made, each request has one of its own.
func (b *Batcher) serve(batch []*request) {
	if b.tryTogether(batch) == nil {
		return
	}
	for _, r := range batch {
		if r.ctx.Err() != nil {
			continue // it has returned already
		}
		alone := []*request{r}
		if err := b.tryTogether(alone); err != nil {
			r.answer <- answer{err: err}
		}
	}
}

// tryTogether has one quote made for all, and answers all unless that fails.
func (b *Batcher) tryTogether(batch []*request) error {
	leaves := make([]Hash, len(batch))
	for i, r := range batch {
		leaves[i] = r.leaf
	}
	tree := newBatchTree(leaves)
	quote, err := b.quote(batch, ReportDataFor(batch[0].purpose, uint64(len(batch)), tree.root()))
	if err != nil {
		return err
	}
	b.device.count(uint64(len(batch)))
	for i, r := range batch {
		r.answer <- answer{quote: quote, proof: tree.proof(i)}
	}
	return nil
}

// quote has the attester make a quote, as soon as it is its turn, and for as long as anybody of the batch wants it.
func (b *Batcher) quote(batch []*request, data ReportData) (Quote, error) {
	ctx, cancel := whileWanted(b.ctx, batch)
	defer cancel()
	select {
	case b.device.turn <- struct{}{}:
	case <-ctx.Done():
		return Quote{}, b.cause(ctx)
	}
	defer func() { <-b.device.turn }()
	quote, err := b.attester.Attest(ctx, data)
	if err != nil {
		b.device.failures.Add(1)
		return Quote{}, errors.Join(err, b.cause(ctx))
	}
	return quote, nil
}

// cause says why ctx has ended, nil if it has not.
func (b *Batcher) cause(ctx context.Context) error {
	if b.ctx.Err() != nil {
		return errClosed
	}
	return ctx.Err()
}

// whileWanted returns a context that ends when parent does, or when those of all requests have ended.
func whileWanted(parent context.Context, batch []*request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	var left atomic.Int64
	left.Store(int64(len(batch)))
	unhook := make([]func() bool, len(batch))
	for i, r := range batch {
		unhook[i] = context.AfterFunc(r.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, f := range unhook {
			f()
		}
		cancel()
	}
}

// count counts a quote that serves n requests.
func (d *device) count(n uint64) {
	d.quotes.Add(1)
	d.evidence.Add(n)
	for {
		largest := d.largest.Load()
		if n <= largest || d.largest.CompareAndSwap(largest, n) {
			return
		}
	}
}
