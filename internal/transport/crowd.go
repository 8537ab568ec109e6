package transport

import (
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// crowd is the set of connections that have passed the soft limit and not yet come down to half of it. Only
// these are looked at, from time to time, to find those that do not read.
type crowd struct {
	mu      sync.Mutex
	members []*conn
	came    chan struct{} // holds a token if somebody has come
}

// join adds c, whose lock is held, to the crowd.
func (w *crowd) join(c *conn) {
	if c.backlog.crowded {
		return
	}
	c.backlog.crowded = true
	c.backlog.seen, c.backlog.idle, c.backlog.crowding = c.backlog.written, 0, 0
	w.mu.Lock()
	w.members = append(w.members, c)
	w.mu.Unlock()
	select {
	case w.came <- struct{}{}:
	default:
	}
}

// take returns the members and leaves the crowd empty.
func (w *crowd) take() []*conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	members := w.members
	w.members = nil
	return members
}

func (w *crowd) add(members []*conn) (size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = append(w.members, members...)
	return len(w.members)
}

// looksPerStall is how often the crowd is looked at in the time after which a connection is stalled.
const looksPerStall = 4

// watchCrowd is a goroutine that looks at the crowd while there is one.
func (t *Transport) watchCrowd() {
	for {
		select {
		case <-t.crowd.came:
		case <-t.quit:
			return
		}
		if !t.watchUntilEmpty() {
			return
		}
	}
}

func (t *Transport) watchUntilEmpty() bool {
	every := t.limits.StallAfter / looksPerStall
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-t.quit:
			return false
		}
		if t.lookAtCrowd(every) == 0 {
			return true
		}
	}
}

// lookAtCrowd looks at each member, after the time passed, and returns how many are left.
func (t *Transport) lookAtCrowd(passed time.Duration) int {
	members := t.crowd.take()
	left := members[:0]
	for _, c := range members {
		if c.staysCrowded(passed) {
			left = append(left, c)
		}
	}
	return t.crowd.add(left)
}

// patience is for how many times StallAfter a connection may make progress without coming down to half.
const patience = 10

// staysCrowded looks for progress, and declares a connection stalled that made none.
func (c *conn) staysCrowded(passed time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limits, b := &c.transport.limits, &c.backlog
	if c.closing || c.size() <= limits.SoftBacklog/2 {
		c.leaveCrowd()
		return false
	}
	b.idle += passed
	b.crowding += passed
	if b.written != b.seen {
		b.seen, b.idle = b.written, 0
	}
	if !b.stalled && (b.idle >= limits.StallAfter || b.crowding >= patience*limits.StallAfter) {
		c.stall()
	}
	return true
}

// leaveCrowd is for a connection that has caught up. c.mu is held.
func (c *conn) leaveCrowd() {
	if c.backlog.dropped > 0 { // though it was never stalled
		c.log.Warn("messages to a client dropped because its backlog was full", "dropped", c.backlog.dropped)
		c.backlog.dropped = 0
	}
	c.backlog.crowded = false
}

// stall ends the courtesy: nobody waits for this connection any more. c.mu is held.
func (c *conn) stall() {
	c.backlog.stalled = true
	c.transport.counters.stalled.Add(1)
	c.log.Warn("client does not read; its messages of QoS 0 are dropped until it does", "backlog", c.size())
	c.releaseWaiters()
	c.postNow(abi.EventBlocked)
}
