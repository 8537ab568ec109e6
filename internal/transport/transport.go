package transport

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/accesslog"
)

// Limits bound what connections may use. A zero field is its default.
type Limits struct {
	MaxPacketSize  int // bytes of the largest packet that is accepted; 1 MiB
	MaxConnections int // connections and handshakes together; 65,536, at most 16,777,215
	MaxHandshakes  int // handshakes at a time, beyond which the oldest is ended; 1,024
	// MaxHandshakesPerAddress is how many of them one IPv4 address, or one /64 of IPv6, may have, beyond which the oldest
	// of that address is ended; 256.
	MaxHandshakesPerAddress int
	HandshakeTimeout        time.Duration // 10 s
	SoftBacklog             int           // bytes that a connection has still to write at which its sources are slowed; 256 KiB
	HardBacklog             int           // bytes beyond which QoS 0 is dropped; 16 MiB, at least twice MaxPacketSize
	StallAfter              time.Duration // time without progress after which nobody waits for a connection any more; 1 s
	FlushTimeout            time.Duration // time to write what is left before a connection is closed; 5 s
	FarewellTimeout         time.Duration // time for the other side to close after us; 2 s
	acceptBackoffBase       time.Duration
}

// DefaultLimits returns the limits of a transport that is told nothing else.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	setDefault(&l.MaxPacketSize, 1<<20)
	setDefault(&l.MaxConnections, 1<<16)
	setDefault(&l.MaxHandshakes, 1024)
	setDefault(&l.MaxHandshakesPerAddress, 256)
	setDefault(&l.HandshakeTimeout, 10*time.Second)
	setDefault(&l.SoftBacklog, 256<<10)
	setDefault(&l.HardBacklog, 16<<20)
	setDefault(&l.StallAfter, time.Second)
	setDefault(&l.FlushTimeout, 5*time.Second)
	setDefault(&l.FarewellTimeout, 2*time.Second)
	setDefault(&l.acceptBackoffBase, 5*time.Millisecond)
	l.MaxConnections = min(l.MaxConnections, maxSlot)
	l.HardBacklog = max(l.HardBacklog, 2*l.MaxPacketSize, 2*l.SoftBacklog)
	return l
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Engine runs the core. All methods may be called by any goroutine; data is copied.
type Engine interface {
	// Open tells the core of a connection. It returns the epoch to give with everything else that happens to
	// the connection, and false if the engine is closed.
	Open(conn abi.Conn, peer []byte) (epoch uint32, ok bool)
	// Post queues an event and waits while the queue is full. It returns false if the connection is to be
	// closed, because the engine is, or because the core that knew the connection has failed.
	Post(kind abi.EventKind, conn abi.Conn, epoch, arg uint32, data []byte) bool
	// PostAndStep is Post by a goroutine that has nothing more to tell for now and holds no locks. If the engine is at rest, that
	// goroutine runs it, and applies the effects.
	PostAndStep(kind abi.EventKind, conn abi.Conn, epoch, arg uint32, data []byte) bool
	// PostNow is Post without waiting, for events that are few and small.
	PostNow(kind abi.EventKind, conn abi.Conn, epoch, arg uint32, data []byte) bool
}

// Memory resolves the ranges that effects name, while they are applied.
type Memory = interface {
	Range(r abi.Ref) ([]byte, error)
}

// Config says how a transport works. The zero value is usable.
//
// Whoever runs the engine calls Stats, Answer and Notes, which must not wait, and must copy the data that they keep.
// Each may be nil.
type Config struct {
	Limits Limits
	Log    *slog.Logger                                    // nil is nowhere
	Stats  func(*abi.Stats)                                // gets the answer to EventStats
	Answer func(number uint32, answer []byte)              // gets answers to EventAsk, by the number of the question
	Notes  func(conn abi.Conn, note abi.Note, data []byte) // gets what the core notes, before it is logged
	Redact func(s string) string                           // shows a client id, user name or topic filter in the log; nil shows it as it is
	Quiet  bool                                            // nothing is logged of clients who come, go and subscribe as they should
}

// Transport holds the listeners and connections of one broker. It is the engine's applier.
type Transport struct {
	limits Limits
	log    *slog.Logger
	stats  func(*abi.Stats)
	answer func(uint32, []byte)
	notes  func(abi.Conn, abi.Note, []byte)
	access accesslog.Log
	quiet  bool
	engine Engine

	table      table
	handshakes handshakes
	crowd      crowd
	counters   counters
	tasks      sync.WaitGroup // all goroutines

	maxPacketSize atomic.Int64  // may change while connections read
	rechecks      atomic.Uint32 // times that Recheck was called

	quit chan struct{}

	mu        sync.Mutex
	listeners []*Listener
	closed    bool

	// The rest belongs to the goroutine that runs the engine.
	alone   bool    // the batch is one event of an engine at rest
	dirty   []*conn // what has to be written after this Apply
	deliver abi.Deliver
}

// counters is what a transport has counted.
type counters struct {
	accepted, refused, failedHandshakes                     atomic.Uint64
	crowdedOut, crowdedOutOfAddress                         atomic.Uint64
	refusedRate, refusedAddress, refusedAdmit, refusedProxy atomic.Uint64
	droppedQoS0, stalled, overflowed, slowed                atomic.Uint64
}

// Stats is what a transport has counted since it started, and holds now.
type Stats struct {
	Connections         int    // now, without handshakes
	Handshakes          int    // now
	Accepted            uint64 // connections that came
	Refused             uint64 // because there were too many
	RefusedRate         uint64 // because they came too fast
	RefusedAddress      uint64 // because their address had too many
	RefusedAdmit        uint64 // because their address was locked out
	RefusedProxy        uint64 // because they came from no trusted proxy
	FailedHandshakes    uint64
	CrowdedOut          uint64 // of these, ended because there were too many at a time
	CrowdedOutOfAddress uint64 // of these, ended because their address had too many at a time
	DroppedQoS0         uint64 // messages to one receiver each, because its backlog was too large
	Stalled             uint64 // times that a connection stopped reading
	Overflowed          uint64 // connections that were closed because they did not read
	Slowed              uint64 // times that a connection was read more slowly because it sent faster than it may
	Figures             Figures
}

// New makes a transport. Start must be called before Listen.
func New(config Config) *Transport {
	t := &Transport{
		limits: config.Limits.withDefaults(),
		log:    config.Log,
		stats:  config.Stats,
		answer: config.Answer,
		notes:  config.Notes,
		access: accesslog.Log{Redact: config.Redact},
		quiet:  config.Quiet,
		quit:   make(chan struct{}),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.maxPacketSize.Store(int64(t.limits.MaxPacketSize))
	t.table.init(t.limits.MaxConnections)
	t.handshakes.byAddress = map[netip.Addr]*list.List{}
	t.handshakes.setLimits(t.limits.MaxHandshakes, t.limits.MaxHandshakesPerAddress)
	t.crowd.came = make(chan struct{}, 1)
	return t
}

// Start tells the transport which engine its connections belong to. The engine has the transport as its
// applier, so one of the two must come first.
func (t *Transport) Start(e Engine) {
	t.engine = e
	t.tasks.Go(t.watchCrowd)
}

// Stats returns what has been counted.
func (t *Transport) Stats() Stats {
	return Stats{
		Connections:         t.table.count(),
		Handshakes:          t.handshakes.size(),
		Accepted:            t.counters.accepted.Load(),
		Refused:             t.counters.refused.Load(),
		RefusedRate:         t.counters.refusedRate.Load(),
		RefusedAddress:      t.counters.refusedAddress.Load(),
		RefusedAdmit:        t.counters.refusedAdmit.Load(),
		RefusedProxy:        t.counters.refusedProxy.Load(),
		FailedHandshakes:    t.counters.failedHandshakes.Load(),
		CrowdedOut:          t.counters.crowdedOut.Load(),
		CrowdedOutOfAddress: t.counters.crowdedOutOfAddress.Load(),
		DroppedQoS0:         t.counters.droppedQoS0.Load(),
		Stalled:             t.counters.stalled.Load(),
		Overflowed:          t.counters.overflowed.Load(),
		Slowed:              t.counters.slowed.Load(),
		Figures:             t.table.figures(),
	}
}

// CloseListeners lets no connection in any more. Connections stay.
func (t *Transport) CloseListeners() error {
	t.mu.Lock()
	listeners := slices.Clone(t.listeners)
	t.mu.Unlock()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Wait returns when there is no connection any more, or when ctx ends.
func (t *Transport) Wait(ctx context.Context) error {
	select {
	case <-t.table.whenEmpty():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends all listeners, handshakes and connections at once, and returns when nothing of them runs any
// more. The engine must still take events, or be closed.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	err := t.CloseListeners()
	close(t.quit)
	t.abortAll()
	t.tasks.Wait()
	return err
}

func (t *Transport) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

func (t *Transport) abortAll() {
	for _, c := range t.table.all() {
		c.abort(nil)
	}
}
