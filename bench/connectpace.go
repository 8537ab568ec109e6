package bench

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ConnectPace is a load of clients that connect, wait for CONNACK, and go.
//
// With a rate it is an open loop, as Pace is: each client has its time, which was fixed before, and what it waits counts from
// then. Without one it is a closed loop: some clients connect again and again, as fast as they can.
type ConnectPace struct {
	Rate    float64       // new connections a second; 0 for the closed loop
	Clients int           // of the closed loop
	Warmup  time.Duration // of the closed loop; before an open one a single client connects that does not count
	Window  time.Duration // in which clients are counted; the open loop has leastConnects of them at least
}

// leastConnects is how many clients there are at a low rate, though the window be over.
const leastConnects = 3

// ConnectTimes is what a broker made of a ConnectPace: how long after their time clients had CONNACK. TLS and evidence are within
// that time, and what it takes to open a connection of TCP.
type ConnectTimes struct {
	Due       uint64  `json:"due"`  // clients whose time was within the window
	Made      uint64  `json:"made"` // those of them that got CONNACK
	PerSecond float64 `json:"per_second"`
	P50       Micros  `json:"p50_us"`
	P90       Micros  `json:"p90_us"`
	P99       Micros  `json:"p99_us"`
	Max       Micros  `json:"max_us"`
	Late      Micros  `json:"late_p99_us"` // how late clients began, in all but one of a hundred cases; part of what they waited
	// Error is why a client got no CONNACK, of one that got none.
	Error string `json:"error,omitempty"`
}

// MeasureConnects has clients connect as a pace says, each with a client id of its own. That a client is refused is a result, too.
func MeasureConnects(ctx context.Context, dial Dialer, pace ConnectPace) (ConnectTimes, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(clientGCPercent))
	m := &connects{dial: dial, pace: pace, took: newLatencies(), late: newLatencies()}
	var lasted time.Duration
	if pace.Rate > 0 {
		m.connect(ctx, time.Now()) // warms both sides up
		lasted = m.openLoop(ctx)
	} else {
		lasted = m.closedLoop(ctx)
	}
	if ctx.Err() != nil {
		return ConnectTimes{}, context.Cause(ctx)
	}
	return m.times(lasted), nil
}

// connects is one measurement.
type connects struct {
	dial   Dialer
	pace   ConnectPace
	number atomic.Uint64 // of clients so far

	mu       sync.Mutex
	counting bool
	due      uint64
	took     *hdrhistogram.Histogram
	late     *hdrhistogram.Histogram
	failed   error // of one client
}

// openLoop returns for how long clients came.
func (m *connects) openLoop(ctx context.Context) time.Duration {
	var all sync.WaitGroup
	defer all.Wait()
	m.count(true)
	base := time.Now().Add(startAfter)
	for i := 0; ; i++ {
		after := time.Duration(float64(i) / m.pace.Rate * float64(time.Second))
		if after >= m.pace.Window && i >= leastConnects || ctx.Err() != nil {
			return after
		}
		due := base.Add(after)
		sleepUntil(due)
		all.Go(func() { m.connect(ctx, due) })
	}
}

// closedLoop returns for how long it counted. Clients that are connecting at the end are abandoned.
func (m *connects) closedLoop(ctx context.Context) time.Duration {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop() // before the wait
	for range m.pace.Clients {
		all.Go(func() {
			for ctx.Err() == nil {
				m.connect(ctx, time.Now())
			}
		})
	}
	_ = pause(ctx, m.pace.Warmup) // its end is seen by the caller
	m.count(true)
	begun := time.Now()
	_ = pause(ctx, m.pace.Window)
	m.count(false)
	return time.Since(begun)
}

func (m *connects) count(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counting = yes
}

// connect is one client, whose time is due.
func (m *connects) connect(ctx context.Context, due time.Time) {
	late := time.Since(due)
	conn, err := openLean(ctx, m.dial, connectPacket(fmt.Sprint("connect-", m.number.Add(1)), 0))
	m.note(late, time.Since(due), err)
	if err == nil {
		conn.Write(disconnectPacket()) // it may have ended
		conn.Close()
	}
}

// note counts a client that has got CONNACK, or has not.
func (m *connects) note(late, took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.counting {
		return
	}
	m.due++
	m.late.RecordValue(bounded(late))
	if err != nil {
		m.failed = err
		return
	}
	m.took.RecordValue(bounded(took))
}

// times reads what has been noted, when all clients have gone.
func (m *connects) times(lasted time.Duration) ConnectTimes {
	made := uint64(m.took.TotalCount())
	t := ConnectTimes{
		Due: m.due, Made: made, PerSecond: float64(made) / lasted.Seconds(), Late: percentileOf(m.late, 99),
		P50: percentileOf(m.took, 50), P90: percentileOf(m.took, 90), P99: percentileOf(m.took, 99), Max: percentileOf(m.took, 100),
	}
	if m.failed != nil {
		t.Error = m.failed.Error()
	}
	return t
}
