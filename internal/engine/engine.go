package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Memory resolves the ranges that effects name, while they are applied. The bytes must not be changed. An error
// ends the core, so the applier returns it.
type Memory = interface {
	Range(r abi.Ref) ([]byte, error)
}

// Applier carries out effects. All methods are called by the goroutine that runs the core, which is one at a time: the engine's,
// or one in PostAndStep.
type Applier interface {
	// Begin is called at the beginning of a batch. alone says that it has one event, of an engine that was at rest: there is time
	// to write here what the effects write, as far as nobody has to be waited for.
	Begin(alone bool)
	// Apply carries out effects: an effects header (abi.EffectsHeaderSize bytes, already checked) and effects.
	// An error says that they do not follow package abi; the core is then replaced.
	Apply(effects []byte, memory Memory) error
	// Flush is called at the end of a batch, which may have taken several steps: what the effects wrote to
	// connections is to leave now.
	Flush()
	// Reset closes the connections that exist: the core that knew them is gone.
	Reset()
}

// Defaults of Config.
const (
	DefaultBatchBytes = 256 << 10
	DefaultQueueBytes = 512 << 10
	DefaultSlowStep   = 20 * time.Millisecond
	DefaultHungStep   = 5 * time.Second
	DefaultRest       = 100 * time.Microsecond
)

// Bounds of the wait between a failure and the next core.
const (
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = 10 * time.Second
	calmAfterward = 30 * time.Second // a core that lived this long was not part of a series of crashes
)

// Config says how an engine runs. Core, Applier and Configuration must be set.
type Config struct {
	Core          Factory
	Applier       Applier
	Configuration []byte // data of the EventConfigure that every core sees first

	BatchBytes int           // events in one batch, unless one alone is larger; 0 is 256 KiB
	QueueBytes int           // events that wait before Post blocks; 0 is 512 KiB
	SlowStep   time.Duration // steps longer than this are logged; 0 is 20 ms
	HungStep   time.Duration // a step longer than this calls Hung; 0 is 5 s
	Backoff    time.Duration // first wait after a failure, doubled up to 100 times of it; 0 is 100 ms
	Rest       time.Duration // time without a step after which PostAndStep steps; 0 is 100 µs, less is never

	Hung    func(running time.Duration) // 0 is: log, and end the process with exit status 70
	Now     func() int64                // milliseconds of the Unix clock, never going back; nil is MonotoneClock
	Entropy io.Reader                   // nil is SystemEntropy
	Log     *slog.Logger                // nil is nowhere
}

func (c Config) withDefaults() Config {
	setDefault(&c.BatchBytes, DefaultBatchBytes)
	setDefault(&c.QueueBytes, DefaultQueueBytes)
	setDefault(&c.SlowStep, DefaultSlowStep)
	setDefault(&c.HungStep, DefaultHungStep)
	setDefault(&c.Backoff, minBackoff)
	setDefault(&c.Rest, DefaultRest)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = MonotoneClock()
	}
	if c.Entropy == nil {
		c.Entropy = SystemEntropy()
	}
	if c.Hung == nil {
		c.Hung = exitHung(c.Log)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Engine runs a core, and a fresh one whenever it fails. Open, Post, PostAndStep, PostNow, Configure and Metrics may be
// called by any goroutine.
type Engine struct {
	config  Config
	queue   *queue
	metrics metrics
	stop    chan struct{}
	done    chan struct{}

	// The rest belongs to the goroutine that runs the core, and so does whatever leaves the queue.
	baton   sync.Mutex // is held by it
	core    Core
	memory  memory
	header  abi.BatchHeader
	taken   []byte // events that were taken from the queue
	wakeAt  int64  // when the core wants a step though nothing happens; 0 is never
	more    bool   // the core has work left
	alarm   int64  // wakeAt, as the engine's goroutine knew it when it went to sleep
	alone   bool   // it is not the engine's goroutine that runs the core
	failed  error  // of a step in PostAndStep; the engine's goroutine replaces the core
	born    time.Time
	backoff time.Duration
	warned  time.Time
}

// Start makes a core, configures it and runs it until Close.
func Start(config Config) (*Engine, error) {
	e := &Engine{
		config: config.withDefaults(),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	e.metrics.origin = time.Now()
	e.queue = newQueue(e.config.QueueBytes)
	e.metrics.setConfiguration(e.config.Configuration)
	if err := e.startCore(); err != nil {
		return nil, fmt.Errorf("start the broker core (%s): %w", e.config.Core.Kind(), err)
	}
	watchdog := startWatchdog(&e.metrics, e.config)
	go func() {
		defer close(e.done)
		defer watchdog.stop()
		e.run()
	}()
	return e, nil
}

// Open tells the core of a connection: peer is an encoded abi.Peer. It returns the epoch to give with
// everything else that happens to the connection, and false if the engine is closed. It does not block.
func (e *Engine) Open(conn abi.Conn, peer []byte) (epoch uint32, ok bool) {
	return e.queue.open(conn, peer)
}

// Post queues an event and waits while the queue is full. data is copied. It reports whether the event is
// of use: false if the engine is closed, or if the connection's core has failed since; such a connection is
// to be closed.
func (e *Engine) Post(kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) bool {
	return e.queue.putWaiting(kind, conn, epoch, arg, data)
}

// PostNow is Post without waiting: for events that are few and small.
func (e *Engine) PostNow(kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) bool {
	return e.queue.put(kind, conn, epoch, arg, data)
}

// Configure gives the core, and all that follow it, another configuration.
func (e *Engine) Configure(configuration []byte) bool {
	e.metrics.setConfiguration(configuration)
	return e.PostNow(abi.EventConfigure, 0, 0, 0, configuration)
}

// Close ends the engine: what is queued is dropped, whoever waits in Post is released. It returns when the
// core has been freed.
func (e *Engine) Close() {
	e.queue.close()
	e.metrics.closeOnce.Do(func() { close(e.stop) })
	<-e.done
}

// run is the goroutine that owns the core.
func (e *Engine) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	e.baton.Lock()
	defer e.baton.Unlock()
	for e.await(timer) {
		if err := e.ownTurn(); err != nil && !e.replace(err) {
			break
		}
	}
	if e.core != nil {
		e.logError("free the broker core", e.core.Close())
	}
}

// ownTurn is a turn, unless the core has failed in another goroutine's.
func (e *Engine) ownTurn() error {
	if err := e.failed; err != nil {
		e.failed = nil
		return err
	}
	return e.turn()
}

// await waits until there is something to do, without the baton. It returns false when the engine is closed.
func (e *Engine) await(timer *time.Timer) bool {
	for !e.queue.isClosed() {
		e.taken = e.queue.take(e.taken)
		wait := e.untilWake()
		if len(e.taken) > 0 || e.more || wait <= 0 || e.failed != nil {
			return true
		}
		e.alarm = e.wakeAt
		e.baton.Unlock()
		timer.Reset(wait)
		select {
		case <-e.queue.wake:
			// Whoever else has something to post and can run does so first: one batch of many events is much cheaper, for
			// the core and for all who write what comes of it, than many of one. Where nobody can, this costs nothing.
			runtime.Gosched()
		case <-timer.C:
		}
		e.baton.Lock()
	}
	return false
}

// untilWake says how long it is until the core wants a step; an hour if it wants none.
func (e *Engine) untilWake() time.Duration {
	if e.wakeAt == 0 {
		return time.Hour
	}
	return min(time.Hour, time.Duration(e.wakeAt-e.config.Now())*time.Millisecond)
}

// turn runs what has been taken from the queue, or an empty batch if nothing has.
func (e *Engine) turn() error {
	events := e.taken
	for first := true; first || len(events) > 0; first = false {
		n, err := cutBatch(events, e.config.BatchBytes)
		if err != nil {
			return err
		}
		if err := e.batch(events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// cutBatch says how many bytes of events go into the next batch: whole events up to limit bytes, at least one.
func cutBatch(events []byte, limit int) (int, error) {
	if len(events) <= limit {
		return len(events), nil
	}
	var event abi.Event
	var at uint32
	for {
		next, err := abi.NextEvent(events, at, &event)
		if err != nil {
			return 0, err
		}
		if at > 0 && int(next) > limit {
			return int(at), nil
		}
		if at = next; int(at) == len(events) {
			return len(events), nil
		}
	}
}

// batch lets the core handle events, in as many steps as it wants.
func (e *Engine) batch(events []byte) error {
	end := uint32(abi.BatchHeaderSize + len(events))
	b, err := e.core.Batch(end)
	if err != nil {
		return err
	}
	copy(b[abi.BatchHeaderSize:], events)
	e.memory.reset(e.core, b)
	e.metrics.batch(len(events))
	e.config.Applier.Begin(e.alone)
	defer e.config.Applier.Flush()
	for at, first := uint32(abi.BatchHeaderSize), true; first || at < end; first = false {
		if at, err = e.step(b, at, end); err != nil {
			return err
		}
	}
	e.metrics.measure(e.core)
	return nil
}

// step runs the core once and applies the effects. It returns up to where events have been handled.
func (e *Engine) step(batch []byte, start, end uint32) (uint32, error) {
	e.header.Now = max(e.header.Now, e.config.Now())
	if _, err := io.ReadFull(e.config.Entropy, e.header.Entropy[:]); err != nil {
		return 0, fmt.Errorf("read entropy: %w", err)
	}
	abi.PutBatchHeader(batch, &e.header)

	began := e.metrics.begin()
	effects, err := e.core.Step(start, end)
	e.slow(e.metrics.end(began))
	if err != nil {
		return 0, err
	}
	var header abi.EffectsHeader
	if err := abi.ReadEffectsHeader(effects, &header); err != nil {
		return 0, err
	}
	if header.Consumed < start || header.Consumed > end || header.Consumed == start && start < end && !header.More {
		return 0, abi.Fault(fmt.Sprintf("step of [%d, %d) says that it came to %d", start, end, header.Consumed))
	}
	e.more, e.wakeAt = header.More, header.Wake
	return header.Consumed, e.config.Applier.Apply(effects, &e.memory)
}

// slow warns of long steps, at most once a second.
func (e *Engine) slow(took time.Duration) {
	if took <= e.config.SlowStep || time.Since(e.warned) < time.Second {
		return
	}
	e.warned = time.Now()
	e.config.Log.Warn("step of the broker core took long", "took", took)
}

// replace puts a fresh core into the place of one that failed. It returns false if the engine was closed
// meanwhile.
func (e *Engine) replace(cause error) bool {
	e.config.Log.Error("broker core failed; its connections are closed and a fresh one starts", "error", cause)
	for {
		e.discard()
		if !e.pause() {
			return false
		}
		err := e.startCore()
		if err == nil {
			return true
		}
		e.config.Log.Error("fresh broker core does not start", "error", err)
	}
}

// discard ends what belonged to the failed core.
func (e *Engine) discard() {
	e.metrics.restarts.Add(1)
	if e.core != nil {
		e.logError("free the failed broker core", e.core.Close())
		e.core = nil
	}
	e.queue.nextEpoch()
	e.config.Applier.Reset()
}

// pause waits between cores: not after one that lived long, longer and longer otherwise.
func (e *Engine) pause() bool {
	if time.Since(e.born) > calmAfterward {
		e.backoff = 0
		return true
	}
	e.backoff = min(max(2*e.backoff, e.config.Backoff), 100*e.config.Backoff)
	select {
	case <-e.stop:
		return false
	case <-time.After(e.backoff):
		return true
	}
}

// startCore makes a core and gives it the configuration.
func (e *Engine) startCore() error {
	core, err := e.config.Core.NewCore()
	if err != nil {
		return err
	}
	e.core, e.more, e.wakeAt, e.born = core, false, 0, time.Now()
	event := abi.AppendEvent(nil, abi.EventConfigure, 0, 0, e.metrics.configurationNow())
	if err := e.batch(event); err != nil {
		e.core = nil
		return errors.Join(err, core.Close())
	}
	return nil
}

func (e *Engine) logError(what string, err error) {
	if err != nil {
		e.config.Log.Error("could not "+what, "error", err)
	}
}
