package engine

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Metrics is what an engine has counted since it started.
type Metrics struct {
	Kind        string
	Steps       uint64
	Batches     uint64
	EventBytes  uint64        // bytes of events in all batches
	LongestStep time.Duration // by the clock on the wall
	BusiestStep time.Duration // by the processor time that it used; 0 where that is not known
	StepTime    time.Duration // of all steps together, by the clock on the wall
	StepTimes   [32]uint64    // steps that took less than 2^i microseconds and not less than half of it
	Restarts    uint64        // cores that failed
	QueueBytes  int           // events that wait, now
	Memory      uint64        // bytes of the module's linear memory, now; 0 for a native core
}

// metrics is written by the goroutine that runs the core and read by others.
type metrics struct {
	origin     time.Time
	running    atomic.Int64 // nanoseconds after origin at which the running step began, plus 1; 0 if none runs
	rested     atomic.Int64 // nanoseconds after origin at which the last step ended
	steps      atomic.Uint64
	batches    atomic.Uint64
	eventBytes atomic.Uint64
	longest    atomic.Int64
	busiest    atomic.Int64
	total      atomic.Int64 // nanoseconds of all steps
	times      [32]atomic.Uint64
	memory     atomic.Uint64
	restarts   atomic.Uint64

	closeOnce     sync.Once
	mu            sync.Mutex
	configuration []byte
}

func (m *metrics) setConfiguration(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.configuration = append([]byte(nil), b...)
}

func (m *metrics) configurationNow() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.configuration
}

func (m *metrics) batch(bytes int) {
	m.batches.Add(1)
	m.eventBytes.Add(uint64(bytes))
}

// sized is a core that has a memory of its own.
type sized interface{ memorySize() uint64 }

// measure notes how much memory the core has taken. Asking costs next to nothing.
func (m *metrics) measure(core Core) {
	if c, ok := core.(sized); ok {
		m.memory.Store(c.memorySize())
	}
}

// start is when a step began.
type start struct {
	wall time.Duration // after origin
	used time.Duration // of processor time, by the thread
}

// begin notes that a step begins, for end and for the watchdog. Until end the goroutine stays on its thread, so
// that the processor time is that of the step.
func (m *metrics) begin() start {
	runtime.LockOSThread()
	s := start{wall: time.Since(m.origin), used: processorTime()}
	m.running.Store(int64(s.wall) + 1)
	return s
}

func (m *metrics) end(began start) time.Duration {
	used := processorTime() - began.used
	runtime.UnlockOSThread()
	now := time.Since(m.origin)
	took := now - began.wall
	m.running.Store(0)
	m.rested.Store(int64(now))
	if int64(used) > m.busiest.Load() {
		m.busiest.Store(int64(used))
	}
	m.steps.Add(1)
	m.total.Add(int64(took))
	m.times[min(bits.Len64(uint64(took.Microseconds())), len(m.times)-1)].Add(1)
	if int64(took) > m.longest.Load() {
		m.longest.Store(int64(took))
	}
	return took
}

// runningFor says how long the running step has been running, 0 if none does.
func (m *metrics) runningFor() time.Duration {
	began := m.running.Load()
	if began == 0 {
		return 0
	}
	return time.Since(m.origin) - time.Duration(began-1)
}

// Metrics returns what has been counted.
func (e *Engine) Metrics() Metrics {
	m := &e.metrics
	out := Metrics{
		Kind:        e.config.Core.Kind(),
		Steps:       m.steps.Load(),
		Batches:     m.batches.Load(),
		EventBytes:  m.eventBytes.Load(),
		LongestStep: time.Duration(m.longest.Load()),
		BusiestStep: time.Duration(m.busiest.Load()),
		StepTime:    time.Duration(m.total.Load()),
		Restarts:    m.restarts.Load(),
		QueueBytes:  e.queue.size(),
		Memory:      m.memory.Load(),
	}
	for i := range out.StepTimes {
		out.StepTimes[i] = m.times[i].Load()
	}
	return out
}
