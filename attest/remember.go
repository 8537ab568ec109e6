package attest

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"
)

// DefaultRemembered is how many quotes a Memory remembers if nothing else is said: some 2 MB.
const DefaultRemembered = 1024

// A CollateralVerifier is a Verifier whose answers rest on more than the quote and the time, such as a vendor's lists that
// are fetched now and then.
type CollateralVerifier interface {
	Verifier
	// CollateralVersion returns a number that is another one whenever what the answers rest on has changed.
	CollateralVersion() uint64
}

// Memory is a Verifier that remembers which quotes another one has found genuine, so that a quote that serves many
// connections is verified once. It is for programs that verify evidence of the same attester again and again.
//
// It never remembers that report data matched: what it returns has the report data of the quote, and Registry.Verify
// compares that, and the expiry, each time. What is remembered is forgotten when its certificates or collateral expire,
// when the verifier's collateral is another (see CollateralVerifier), when the clock goes back behind its verification,
// and when there is too much of it, the oldest first. Refusals are not remembered.
type Memory struct {
	verifier Verifier
	most     int

	mu     sync.Mutex
	quotes map[quoteKey]*list.Element
	order  *list.List // of *remembered, the oldest first
}

// quoteKey is the SHA-256 of a whole quote: platform, quote and endorsements, each behind its length.
type quoteKey [sha256.Size]byte

// remembered is a quote that was verified, or is being verified.
type remembered struct {
	key        quoteKey
	at         time.Time // of the verification
	collateral uint64
	done       chan struct{} // closed when it is known whether it is genuine
	claims     PlatformClaims
	err        error
}

// Remember returns a Verifier that asks v only about quotes that it does not remember; most is how many it remembers, 0 is
// DefaultRemembered.
func Remember(v Verifier, most int) *Memory {
	if most <= 0 {
		most = DefaultRemembered
	}
	return &Memory{verifier: v, most: most, quotes: map[quoteKey]*list.Element{}, order: list.New()}
}

// Platform names the kind of TEE.
func (m *Memory) Platform() Platform { return m.verifier.Platform() }

// Forget forgets all quotes.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.quotes)
	m.order.Init()
}

// Verify is that of the Verifier that was given to Remember, unless the quote is remembered. Who asks about a quote that
// is being verified waits for that.
func (m *Memory) Verify(ctx context.Context, q Quote, want ReportData, now time.Time) (PlatformClaims, error) {
	r, first := m.lookup(keyOf(q), now)
	if first {
		r.claims, r.err = m.verifier.Verify(ctx, q, want, now)
		m.settle(r)
		return cloneClaims(r.claims), r.err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return PlatformClaims{}, Errorf(ErrTimeout, "verification of the quote: %w", ctx.Err())
	}
	if r.err != nil || !r.covers(now) { // it may be the other's context that ended, or have expired meanwhile
		return m.verifier.Verify(ctx, q, want, now)
	}
	return cloneClaims(r.claims), nil
}

// keyOf returns what a quote is known by.
func keyOf(q Quote) (key quoteKey) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(q.Platform), q.Data, q.Endorsements} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return quoteKey(h.Sum(nil))
}

// lookup returns what is remembered of a quote; first says that nothing was, and that the caller is to find out.
func (m *Memory) lookup(key quoteKey, now time.Time) (r *remembered, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	collateral := m.collateral()
	if e := m.quotes[key]; e != nil {
		r = e.Value.(*remembered)
		if r.collateral == collateral && (!r.isDone() || r.covers(now)) {
			return r, false
		}
		m.remove(r)
	}
	r = &remembered{key: key, at: now, collateral: collateral, done: make(chan struct{})}
	m.quotes[key] = m.order.PushBack(r)
	if m.order.Len() > m.most {
		m.remove(m.order.Front().Value.(*remembered))
	}
	return r, true
}

// settle tells those who wait, and forgets what was not genuine.
func (m *Memory) settle(r *remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(r.done)
	if r.err != nil {
		m.remove(r)
	}
}

// remove forgets r, if it is still there. m.mu is held.
func (m *Memory) remove(r *remembered) {
	if e := m.quotes[r.key]; e != nil && e.Value == r {
		m.order.Remove(e)
		delete(m.quotes, r.key)
	}
}

// collateral returns the version of what the verifier's answers rest on.
func (m *Memory) collateral() uint64 {
	if v, ok := m.verifier.(CollateralVerifier); ok {
		return v.CollateralVersion()
	}
	return 0
}

func (r *remembered) isDone() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// covers reports whether what was found holds at the time now, too. r is done.
func (r *remembered) covers(now time.Time) bool {
	return !now.Before(r.at) && (r.claims.Expiry.IsZero() || now.Before(r.claims.Expiry))
}

// cloneClaims returns claims that share nothing with those that are remembered.
func cloneClaims(c PlatformClaims) PlatformClaims {
	c.ReportData = slices.Clone(c.ReportData)
	c.Measurements = maps.Clone(c.Measurements)
	for name, value := range c.Measurements {
		c.Measurements[name] = slices.Clone(value)
	}
	c.Versions = maps.Clone(c.Versions)
	c.Advisories, c.Conditions = slices.Clone(c.Advisories), slices.Clone(c.Conditions)
	return c
}
