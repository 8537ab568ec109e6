package metrics

import (
	"context"
	"fmt"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Snapshot is what a broker has counted and holds at one moment. What the core counts begins anew when a fresh core
// takes the place of one that failed, see Engine.Restarts.
type Snapshot struct {
	At        time.Time
	Core      abi.Stats
	Engine    engine.Metrics
	Transport transport.Stats
	Traffic   *Traffic          // nil if it is not counted
	Guard     map[string]uint64 // what the guard of the listeners and the authentication counted, by the event's name
	LockedOut uint64            // addresses that are locked out now
	Limits    map[string]uint64 // times that a limit of the host was met, by its name; those of the core are in Core
	Quotes    attest.BatchStats // of the broker's own evidence
	Facts     Facts

	Certificates *Certificates // nil if none is in use
	Collateral   []Collateral  // documents that Intel's evidence is verified with
}

// Certificates are those that listeners show.
type Certificates struct {
	Expiry  time.Time // of the first to expire
	Renewal time.Time // from when on the first of them should be renewed
}

// Collateral is a document of the store of collateral.
type Collateral struct {
	Document string    // its name, as its file has it
	Expiry   time.Time // zero if it cannot be read
	Usable   bool      // it is Intel's, and in its time
}

// Traffic is what went over all connections since the broker started.
type Traffic struct {
	PacketsIn, PacketsOut uint64 // MQTT packets of any type
	BytesIn, BytesOut     uint64 // of these packets
}

// Facts do not change while a broker runs.
type Facts struct {
	Version   string
	Go        string
	Started   time.Time
	TEE       string // platform that attests, "" if none does
	Simulated bool   // the TEE protects nothing
	Module    string // digests that evidence claims
	Config    string
	Runtime   string
}

// Source makes snapshots. Its method may be called by any goroutine; it returns an error when ctx ends before the core
// has answered.
type Source interface {
	Snapshot(ctx context.Context) (Snapshot, error)
}

// DefaultMaxAge is for how long Cached keeps a snapshot.
const DefaultMaxAge = 100 * time.Millisecond

// Cached is a Source that asks another one at most once in a time, and never twice at the same time.
type Cached struct {
	source Source
	maxAge time.Duration
	now    func() time.Time
	turn   chan struct{} // holds a token while somebody asks or looks

	last  Snapshot
	asked time.Time
	valid bool
}

// NewCached returns a Cached of source that keeps snapshots for maxAge.
func NewCached(source Source, maxAge time.Duration, now func() time.Time) *Cached {
	return &Cached{source: source, maxAge: maxAge, now: now, turn: make(chan struct{}, 1)}
}

// Snapshot returns the snapshot that is kept, or a fresh one. Failures are not kept.
func (c *Cached) Snapshot(ctx context.Context) (Snapshot, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return Snapshot{}, fmt.Errorf("wait for a snapshot of the broker: %w", context.Cause(ctx))
	}
	defer func() { <-c.turn }()
	if c.valid && c.now().Sub(c.asked) < c.maxAge {
		return c.last, nil
	}
	s, err := c.source.Snapshot(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	c.last, c.asked, c.valid = s, c.now(), true
	return s, nil
}
