package engine

import (
	"math/bits"
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
	LongestStep time.Duration // since the start, or since TakeLongest
	StepTimes   [32]uint64    // steps that took less than 2^i microseconds and not less than half of it
	Restarts    uint64        // cores that failed
	QueueBytes  int           // events that wait, now
}

// metrics is written by the engine's goroutine and read by others.
type metrics struct {
	origin     time.Time
	running    atomic.Int64 // nanoseconds after origin at which the running step began, plus 1; 0 if none runs
	steps      atomic.Uint64
	batches    atomic.Uint64
	eventBytes atomic.Uint64
	longest    atomic.Int64
	times      [32]atomic.Uint64
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

// begin notes that a step begins, for end and for the watchdog.
func (m *metrics) begin() time.Duration {
	now := time.Since(m.origin)
	m.running.Store(int64(now) + 1)
	return now
}

func (m *metrics) end(began time.Duration) time.Duration {
	took := time.Since(m.origin) - began
	m.running.Store(0)
	m.steps.Add(1)
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
		Restarts:    m.restarts.Load(),
		QueueBytes:  e.queue.size(),
	}
	for i := range out.StepTimes {
		out.StepTimes[i] = m.times[i].Load()
	}
	return out
}

// TakeLongest returns the longest step since it was called last.
func (e *Engine) TakeLongest() time.Duration {
	return time.Duration(e.metrics.longest.Swap(0))
}
