package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(hangVariable) != "" {
		hang()
	}
	leaktest.Main(m)
}

// fakeCore echoes packets, and does as told by functions of a test.
type fakeCore struct {
	batch   []byte
	effects []byte
	log     *fakeLog
}

// fakeLog is what all cores of a test have seen.
type fakeLog struct {
	mu     sync.Mutex
	events []string
	starts []uint32 // of steps
	now    []int64

	most int                                      // events that one step handles, 0 is all
	hook func(e *abi.Event, h *abi.EffectsHeader) // may panic
}

func (l *fakeLog) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.events...)
}

func (c *fakeCore) Batch(size uint32) []byte {
	if uint32(cap(c.batch)) < size {
		c.batch = make([]byte, size)
	}
	return c.batch[:size]
}

func (c *fakeCore) Chunk(uint32) []byte { return nil }

func (c *fakeCore) Step(start, end uint32) []byte {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	header := abi.EffectsHeader{Consumed: end}
	var batch abi.BatchHeader
	if err := abi.ReadBatchHeader(c.batch[:end], &batch); err != nil {
		panic(err)
	}
	l.starts, l.now = append(l.starts, start), append(l.now, batch.Now)
	c.effects = append(c.effects[:0], make([]byte, abi.EffectsHeaderSize)...)
	var e abi.Event
	for at, n := start, 0; at < end; n++ {
		if l.most > 0 && n == l.most {
			header.Consumed = at
			break
		}
		next, err := abi.NextEvent(c.batch[:end], at, &e)
		if err != nil {
			panic(err)
		}
		l.events = append(l.events, fmt.Sprintf("%d:%d:%s", e.Kind, e.Conn, e.Data))
		if l.hook != nil {
			l.hook(&e, &header)
		}
		if e.Kind == abi.EventPackets {
			c.effects = abi.AppendEffect(c.effects, abi.EffectSend, 0, e.Conn, 0, e.Data)
		}
		at = next
	}
	header.Size = uint32(len(c.effects))
	abi.PutEffectsHeader(c.effects, &header)
	return c.effects
}

// fakeApplier remembers what was sent to each connection.
type fakeApplier struct {
	mu     sync.Mutex
	sent   map[abi.Conn][]byte
	resets int
	alone  bool
	err    error
}

func (a *fakeApplier) Begin(alone bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alone = a.alone || alone
}

func (a *fakeApplier) Flush() {}

// aloneBatches says whether any batch came alone.
func (a *fakeApplier) aloneBatches() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.alone
}

func (a *fakeApplier) Apply(effects []byte, _ Memory) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var e abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &e)
		if err != nil {
			return err
		}
		a.sent[e.Conn] = append(a.sent[e.Conn], e.Data...)
		at = next
	}
	return a.err
}

func (a *fakeApplier) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resets++
}

func (a *fakeApplier) sentTo(conn abi.Conn) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.sent[conn])
}

type rig struct {
	*Engine
	log     *fakeLog
	applier *fakeApplier
}

func startRig(t *testing.T, config Config, log *fakeLog) *rig {
	t.Helper()
	r := &rig{log: log, applier: &fakeApplier{sent: map[abi.Conn][]byte{}}}
	config.Core = NativeFactory(func() GoCore { return &fakeCore{log: log} })
	config.Applier = r.applier
	config.Configuration = []byte("limits")
	config.Backoff = time.Millisecond
	e, err := Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	r.Engine = e
	return r
}

// await waits until a condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestConfigurationComesFirst(t *testing.T) {
	r := startRig(t, Config{}, &fakeLog{})
	if _, ok := r.Open(1, nil); !ok {
		t.Fatal("Open refused")
	}
	await(t, "the connection", func() bool { return len(r.log.seen()) == 2 })
	if got := r.log.seen(); got[0] != "1:0:limits" || got[1] != "2:1:" {
		t.Fatalf("core saw %q", got)
	}
}

// Order must hold for each connection whatever the sizes of batches, steps and events are.
func TestOrderIsKept(t *testing.T) {
	const producers, events = 8, 2000
	r := startRig(t, Config{BatchBytes: 300, QueueBytes: 1000}, &fakeLog{most: 3})
	var wait sync.WaitGroup
	for p := range abi.Conn(producers) {
		wait.Go(func() {
			epoch, _ := r.Open(p+1, nil)
			for i := range uint32(events) {
				data := binary.BigEndian.AppendUint32(nil, i)
				if i%100 == 0 {
					data = append(data, make([]byte, 4*(i%7)*100)...) // some are larger than a batch
				}
				if !r.Post(abi.EventPackets, p+1, epoch, 1, data[:4]) {
					t.Error("Post refused")
				}
				r.Post(abi.EventBadPacket, p+1, epoch, 0, data)
			}
		})
	}
	wait.Wait()
	r.expectInOrder(t, producers, events)
}

// expectInOrder waits until each of the connections from 1 on was sent the numbers of its events, and checks that they came in order.
func (r *rig) expectInOrder(t *testing.T, producers, events int) {
	t.Helper()
	for p := range abi.Conn(producers) {
		await(t, "all events", func() bool { return len(r.applier.sentTo(p+1)) == 4*events })
		got := r.applier.sentTo(p + 1)
		for i := range uint32(events) {
			if n := binary.BigEndian.Uint32([]byte(got[4*i:])); n != i {
				t.Fatalf("connection %d: event %d came in place of %d", p+1, n, i)
			}
		}
	}
}

// The queue must be bounded however slow the core is.
func TestPostWaitsWhileTheQueueIsFull(t *testing.T) {
	gate := make(chan struct{})
	log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
		if e.Kind == abi.EventPackets {
			<-gate
		}
	}}
	r := startRig(t, Config{QueueBytes: 1 << 10}, log)
	epoch, _ := r.Open(1, nil)
	const events = 100
	done := make(chan int)
	go func() {
		for range events {
			r.Post(abi.EventPackets, 1, epoch, 1, make([]byte, 100))
		}
		close(done)
	}()
	for range events {
		if size := r.Metrics().QueueBytes; size > 1<<10 {
			t.Fatalf("queue holds %d bytes", size)
		}
		gate <- struct{}{}
	}
	<-done
}

func TestCloseReleasesPost(t *testing.T) {
	gate := make(chan struct{})
	log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
		if e.Kind == abi.EventPackets {
			<-gate
		}
	}}
	r := startRig(t, Config{QueueBytes: 64}, log)
	epoch, _ := r.Open(1, nil)
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for r.Post(abi.EventPackets, 1, epoch, 1, make([]byte, 100)) {
			}
		})
	}
	await(t, "a full queue", func() bool { return r.Metrics().QueueBytes > 0 })
	r.queue.close()
	close(gate)
	wait.Wait()
}

func TestWakeAndMore(t *testing.T) {
	var steps int
	log := &fakeLog{hook: func(e *abi.Event, h *abi.EffectsHeader) {
		if e.Kind == abi.EventOpen {
			h.More = true
		}
		if e.Kind == abi.EventClosed {
			h.Wake = MonotoneClock()() + 20
		}
	}}
	r := startRig(t, Config{}, log)
	count := func() int { log.mu.Lock(); defer log.mu.Unlock(); return len(log.starts) }
	epoch, _ := r.Open(1, nil)
	await(t, "a step for More", func() bool { return count() == 3 }) // configure, open, more
	steps = count()
	r.PostNow(abi.EventClosed, 1, epoch, 0, nil)
	await(t, "a step at the time of Wake", func() bool { return count() >= steps+2 })
	log.mu.Lock()
	defer log.mu.Unlock()
	if n := len(log.now); log.now[n-1] < log.now[n-2]+20 {
		t.Fatalf("woken %d ms after Wake was set, want 20", log.now[n-1]-log.now[n-2])
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	times := []int64{50, 40, 60, 10, 70}
	i := 0
	r := startRig(t, Config{Now: func() int64 { i = min(i+1, len(times)); return times[i-1] }}, &fakeLog{})
	for n := range 4 {
		r.PostNow(abi.EventStats, 0, 0, 0, nil)
		await(t, "the step", func() bool { return len(r.log.seen()) == n+2 })
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	for j := 1; j < len(r.log.now); j++ {
		if r.log.now[j] < r.log.now[j-1] {
			t.Fatalf("times of steps: %v", r.log.now)
		}
	}
}

// After a failure: connections are told, a fresh core is configured, and nothing of the old connections
// reaches it.
func TestFailureOfTheCore(t *testing.T) {
	for name, fail := range map[string]func(r *rig, e *abi.Event, h *abi.EffectsHeader){
		"panic":         func(*rig, *abi.Event, *abi.EffectsHeader) { panic("told to") },
		"no progress":   func(_ *rig, _ *abi.Event, h *abi.EffectsHeader) { h.Consumed = abi.BatchHeaderSize },
		"too far":       func(_ *rig, _ *abi.Event, h *abi.EffectsHeader) { h.Consumed += 1000 },
		"refused apply": func(r *rig, _ *abi.Event, _ *abi.EffectsHeader) { r.applier.err = abi.Fault("test") },
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			ready := make(chan struct{})
			log := &fakeLog{}
			log.hook = func(e *abi.Event, h *abi.EffectsHeader) {
				if string(e.Data) == "fail" {
					<-ready
					fail(r, e, h)
				} else if r != nil && e.Kind == abi.EventConfigure {
					r.applier.err = nil
				}
			}
			r = startRig(t, Config{}, log)
			old, _ := r.Open(1, nil)
			r.Post(abi.EventPackets, 1, old, 1, []byte("fail"))
			close(ready)
			await(t, "the reset", func() bool { r.applier.mu.Lock(); defer r.applier.mu.Unlock(); return r.applier.resets == 1 })
			if r.Post(abi.EventPackets, 1, old, 1, []byte("late")) {
				t.Fatal("an event of a connection of the failed core was taken")
			}
			await(t, "the fresh core", func() bool { return strings.HasSuffix(strings.Join(r.log.seen(), " "), "1:0:limits") })
			fresh, ok := r.Open(2, nil)
			if !ok || fresh == old {
				t.Fatalf("epoch %d after %d", fresh, old)
			}
			r.Post(abi.EventPackets, 2, fresh, 1, []byte("again"))
			await(t, "an answer of the fresh core", func() bool { return r.applier.sentTo(2) == "again" })
			if n := r.Metrics().Restarts; n != 1 {
				t.Fatalf("%d restarts", n)
			}
		})
	}
}

func TestFreshCoreHasTheLatestConfiguration(t *testing.T) {
	log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
		if string(e.Data) == "fail" {
			panic("told to")
		}
	}}
	r := startRig(t, Config{}, log)
	r.Configure([]byte("other limits"))
	await(t, "the configuration", func() bool { return strings.Contains(strings.Join(log.seen(), " "), "other") })
	epoch, _ := r.Open(1, nil)
	r.Post(abi.EventPackets, 1, epoch, 1, []byte("fail"))
	await(t, "the fresh core", func() bool { return strings.HasSuffix(strings.Join(r.log.seen(), " "), "fail 1:0:other limits") })
}

// The module must be replaced too, in a runtime of its own.
func TestTrapOfTheModule(t *testing.T) {
	module := compiledEcho(t)
	applier := &fakeApplier{sent: map[abi.Conn][]byte{}}
	e, err := Start(Config{Core: module, Applier: applier, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	epoch, _ := e.Open(1, nil)
	e.Post(abi.EventPackets, 1, epoch, 1, []byte("T"))
	await(t, "the restart", func() bool { return e.Metrics().Restarts == 1 })
	await(t, "an answer of the fresh instance", func() bool {
		epoch, _ := e.Open(2, nil)
		e.Post(abi.EventPackets, 2, epoch, 1, []byte("again"))
		return strings.HasPrefix(applier.sentTo(2), "again")
	})
}

func TestSlowStepIsLogged(t *testing.T) {
	var out testkit.Buffer
	log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
		if e.Kind == abi.EventStats {
			time.Sleep(5 * time.Millisecond)
		}
	}}
	r := startRig(t, Config{SlowStep: time.Millisecond, Log: slog.New(slog.NewTextHandler(&out, nil))}, log)
	r.PostNow(abi.EventStats, 0, 0, 0, nil)
	await(t, "the warning", func() bool { return strings.Contains(out.String(), "took long") })
	if longest := r.Metrics().LongestStep; longest < 5*time.Millisecond {
		t.Fatalf("longest step %v", longest)
	}
}

// hangVariable makes this test's program run a module that hangs, see TestHangEndsTheProcess.
const hangVariable = "VOUCHMQ_TEST_HANG"

// hang runs until the watchdog, or the kernel's timer, ends the process.
func hang() {
	module, err := os.ReadFile(os.Getenv(hangVariable))
	if err != nil {
		panic(err)
	}
	m, err := Compile(context.Background(), module, ModuleConfig{})
	if err != nil {
		panic(err)
	}
	debug.SetGCPercent(-1) // a collection would freeze the watchdog's goroutine
	runtimeGC()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	e, err := Start(Config{Core: m, Applier: &fakeApplier{sent: map[abi.Conn][]byte{}}, HungStep: time.Second, Log: log})
	if err != nil {
		panic(err)
	}
	epoch, _ := e.Open(1, nil)
	e.Post(abi.EventPackets, 1, epoch, 1, []byte("L"))
	if os.Getenv(hangVariable+"_COLLECT") != "" {
		for e.metrics.runningFor() == 0 {
			time.Sleep(time.Millisecond)
		}
		runtimeGC()
	}
	time.Sleep(time.Minute)
}

func TestHangEndsTheProcess(t *testing.T) {
	module := t.TempDir() + "/module.wasm"
	if err := os.WriteFile(module, echoModule(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, collect string
		status        int // 0 is any failure
		says          string
	}{
		{"seen by the watchdog", "", ExitHung, "the broker's module hangs"}, // hang() keeps the collector away
		{"during a collection", "1", 0, "SIGQUIT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.collect != "" && !hasDeadman {
				t.Skip("this system has no timer that works while Go's collector waits")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), hangVariable+"="+module)
			if test.collect != "" {
				cmd.Env = append(cmd.Env, hangVariable+"_COLLECT=1")
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || test.status != 0 && exit.ExitCode() != test.status || !strings.Contains(string(out), test.says) {
				t.Fatalf("ended with %v, want status %d and %q:\n%s", err, test.status, test.says, out[:min(len(out), 3000)])
			}
		})
	}
}
