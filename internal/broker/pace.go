package broker

import "github.com/vouchmq/vouchmq/internal/abi"

// A session in whose queue messages pile up slows down those who publish to it: the core asks the host to read
// nothing more from them until the queue is short again. So does one of the sessions of a shared subscription with
// which messages pile up. A client that has stopped acknowledging loses this courtesy after a while, and its queue
// overflows alone.

// slowAt returns how many queued messages, and bytes of them, make a session slow its publishers.
func (c *Core) slowAt() (messages, bytes uint32) {
	l := &c.config.Limits
	return min(l.MaxQueued/4, 1024), min(l.MaxQueuedBytes/4, 1<<20)
}

// longQueue says whether so much waits in a session's queue that publishers should slow down.
func (c *Core) longQueue(s *session) bool {
	messages, bytes := c.slowAt()
	return s.queued > messages || s.queuedBytes > bytes
}

// slowDown pauses a connection that has published to a session with a long queue. The effect follows in
// pauseSource: now there may be a delivery that is not complete.
func (c *Core) slowDown(id uint32, s *session, source abi.Conn) {
	if c.longQueue(s) {
		c.pauseFor(id, s, source)
	}
}

// pauseFor pauses a connection until a session has caught up, unless that has no prospect.
func (c *Core) pauseFor(id uint32, s *session, source abi.Conn) {
	if s.conn == 0 || s.blocked || s.stalled {
		return
	}
	p := c.connectionOf(source)
	if p == nil || p.pausedBy != 0 || p.session == id {
		return
	}
	p.pausedBy = id
	if next := c.connectionOf(s.paused); next != nil {
		next.pausedPrev = p.conn
	}
	p.pausedNext, p.pausedPrev, s.paused = s.paused, 0, p.conn
	c.pausing = p.conn
	c.timers.set(s.timer, s.ackedAt+int64(c.config.Limits.StallTimeout))
}

// pauseSource tells the host which connection slowDown has paused, if it has.
func (c *Core) pauseSource() {
	if c.pausing != 0 {
		c.effect(abi.EffectPause, c.pausing, 0, nil)
		c.pausing = 0
	}
}

// speedUp ends the pause of those that a session has slowed, if its queue is short again or it is past helping.
func (c *Core) speedUp(id uint32, s *session) {
	if s.paused == 0 {
		return
	}
	messages, bytes := c.slowAt()
	waits := s.conn != 0 && !s.blocked && !s.stalled
	if waits && (s.queued > messages/2 || s.queuedBytes > bytes/2 || c.groupsLonger(s, messages/2, bytes/2)) {
		return
	}
	for s.paused != 0 {
		p := c.connectionOf(s.paused)
		if p == nil || p.pausedBy != id { // it is gone, and the chain with it
			s.paused = 0
			break
		}
		s.paused, p.pausedBy, p.pausedNext, p.pausedPrev = p.pausedNext, 0, 0, 0
		c.effect(abi.EffectResume, p.conn, 0, nil)
	}
	if s.conn != 0 {
		c.timers.unset(s.timer)
	}
}

// unpause takes a connection that ends out of the chain of those that a session has paused.
func (c *Core) unpause(p *connection) {
	if p.pausedBy == 0 {
		return
	}
	if before := c.connectionOf(p.pausedPrev); before != nil {
		before.pausedNext = p.pausedNext
	} else {
		c.sessions.at(p.pausedBy).paused = p.pausedNext
	}
	if next := c.connectionOf(p.pausedNext); next != nil {
		next.pausedPrev = p.pausedPrev
	}
}

// stallDue looks whether a client that slows publishers has acknowledged anything of late.
func (c *Core) stallDue(id uint32, s *session) {
	if s.paused == 0 {
		return
	}
	if due := s.ackedAt + int64(c.config.Limits.StallTimeout); c.now < due {
		c.timers.set(s.timer, due)
		return
	}
	s.stalled = true
	c.speedUp(id, s)
}
