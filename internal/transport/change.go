package transport

import (
	"github.com/vouchmq/vouchmq/internal/abi"
)

// SetLimits changes the limits that can be changed while connections are open: MaxPacketSize, MaxConnections,
// MaxHandshakes and MaxHandshakesPerAddress. It returns the names of others that differ, which take a new transport.
func (t *Transport) SetLimits(l Limits) (fixed []string) {
	l = l.withDefaults()
	t.maxPacketSize.Store(int64(l.MaxPacketSize))
	t.table.setLimit(l.MaxConnections)
	t.handshakes.setLimits(l.MaxHandshakes, l.MaxHandshakesPerAddress)
	for _, f := range []struct {
		name    string
		differs bool
	}{
		{"handshake_timeout", l.HandshakeTimeout != t.limits.HandshakeTimeout},
		{"soft_backlog", l.SoftBacklog != t.limits.SoftBacklog},
		{"hard_backlog", l.HardBacklog != t.limits.HardBacklog && l.MaxPacketSize == t.limits.MaxPacketSize},
		{"stall_timeout (of reading)", l.StallAfter != t.limits.StallAfter},
		{"flush_timeout", l.FlushTimeout != t.limits.FlushTimeout},
	} {
		if f.differs {
			fixed = append(fixed, f.name)
		}
	}
	return fixed
}

func (t *table) setLimit(limit int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = limit
}

// most returns how many connections there may be.
func (t *table) most() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limit
}

// Recheck asks of every connection whether it would still be let in, and has the core end those that would not. What
// lets in must have been changed before. It returns how many are ended.
func (t *Transport) Recheck() (ended int) {
	t.rechecks.Add(1)
	for _, c := range t.table.all() {
		if c.review() {
			ended++
		}
	}
	return ended
}

// admitted notes how to ask whether the connection would still be let in. A change since its handshake began, which may
// have passed it by, is made up for: either Recheck finds what is stored here, or the count has grown.
func (c *conn) admitted(recheck func() (uint32, error), before uint32) {
	if recheck == nil {
		return
	}
	c.recheck.Store(&recheck)
	if c.transport.rechecks.Load() != before {
		c.review()
	}
}

// review ends the connection if it would not be let in any more, and reports whether it does.
func (c *conn) review() bool {
	recheck := c.recheck.Load()
	if recheck == nil {
		return false
	}
	reason, why := (*recheck)()
	if reason == 0 {
		return false
	}
	c.log.Warn("connection would not be let in any more, and is ended", "why", why)
	return c.transport.engine.PostNow(abi.EventDisconnect, c.id, c.epoch.Load(), reason, nil)
}
