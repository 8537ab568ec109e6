package broker

import (
	"unicode/utf8"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// limitMet is a limit that was met while a delivery was being written: its note must wait for the end of the step.
type limitMet struct {
	limit   abi.LimitKind
	session uint32
}

// met counts that a limit was met because of a connection, and tells the host the first time. p is nil where there is
// no connection: then the host is told once for each step.
func (c *Core) met(k abi.LimitKind, p *connection, clientID []byte) {
	if c.count(k, p) {
		c.noteLimit(k, p, clientID)
	}
}

// metBy is met for a connection that has a session.
func (c *Core) metBy(k abi.LimitKind, p *connection) {
	var clientID []byte
	if p != nil && p.session != 0 {
		clientID = c.store.bytes(c.sessions.at(p.session).clientID)
	}
	c.met(k, p, clientID)
}

// metLater is met for a session that a message is for. The note comes at the end of the step.
func (c *Core) metLater(k abi.LimitKind, session uint32) {
	if c.count(k, c.connectionOf(c.sessions.at(session).conn)) {
		c.limitsMet = append(c.limitsMet, limitMet{k, session})
	}
}

// count counts that a limit was met, and says whether the host is to be told.
func (c *Core) count(k abi.LimitKind, p *connection) (tell bool) {
	c.stats.LimitsMet[k]++
	told := &c.limitsTold
	if p != nil {
		told = &p.limitsTold
	}
	if *told&(1<<k) != 0 {
		return false
	}
	*told |= 1 << k
	return true
}

func (c *Core) noteLimit(k abi.LimitKind, p *connection, clientID []byte) {
	var conn abi.Conn
	if p != nil {
		conn = p.conn
	}
	c.encoded = abi.AppendLimitMet(c.encoded[:0], &abi.LimitMet{Limit: k, ClientID: string(clientID)})
	c.note(abi.NoteLimit, conn, c.encoded)
}

// noteLimits tells, at the end of a step, what metLater has gathered.
func (c *Core) noteLimits() {
	for _, l := range c.limitsMet {
		s := c.sessions.at(l.session)
		c.noteLimit(l.limit, c.connectionOf(s.conn), c.store.bytes(s.clientID))
	}
	c.limitsMet = c.limitsMet[:0]
	c.limitsTold = 0
}

// forgetLimits takes back what metLater has gathered about a session that ends.
func (c *Core) forgetLimits(session uint32) {
	kept := c.limitsMet[:0]
	for _, l := range c.limitsMet {
		if l.session != session {
			kept = append(kept, l)
		}
	}
	c.limitsMet = kept
}

// badTopic says whether a topic name is longer or deeper than allowed.
func (c *Core) badTopic(topic []byte) bool {
	return c.tooLong(topic) || tooDeep(topic, c.config.Limits.MaxTopicLevels)
}

// tooLong says whether a topic name or filter has more bytes than allowed.
func (c *Core) tooLong(topic []byte) bool {
	most := c.config.Limits.MaxTopicBytes
	return most != 0 && len(topic) > int(most)
}

// tooDeep says whether a topic name or filter has more levels than allowed.
func tooDeep(topic []byte, most uint16) bool {
	levels := 1
	for _, ch := range topic {
		if ch == '/' {
			levels++
		}
	}
	return most != 0 && levels > int(most)
}

// falseText says whether a payload claims to be UTF-8 and is not (3.3.2.3.2, 3.1.3.2.3: a receiver may look).
func falseText(p *mqtt.Properties, payload []byte) bool {
	return p.Has.Has(mqtt.PropPayloadFormatIndicator) && p.PayloadFormatIndicator == 1 &&
		!utf8.Valid(payload)
}

// makeRoom applies the overflow rule to a message for a session whose queue is full. It says whether the message may
// be queued now. Where it is the core's memory that is full, the rule does not apply: to drop what waits for one
// session makes no room for others before the next step, and a client is not to blame for it.
func (c *Core) makeRoom(id uint32, s *session, m *content) bool {
	if !c.roomForDelivery() {
		c.metLater(abi.LimitMemory, id)
		return false
	}
	c.dropExpired(s)
	if c.mayQueue(s, m) {
		return true
	}
	c.metLater(abi.LimitQueue, id)
	switch c.config.Options.Overflow {
	case abi.DropOldest:
		return c.dropOldest(s, m)
	case abi.EndConnection:
		if s.conn != 0 {
			c.overflowed = append(c.overflowed, s.conn)
		}
	}
	return false
}

// dropOldest makes room in a session's queue for a message, unless it would find none in an empty one. What is in
// flight stays.
func (c *Core) dropOldest(s *session, m *content) bool {
	l := &c.config.Limits
	if l.MaxQueued == 0 || m.size() > l.MaxQueuedBytes {
		return false
	}
	for s.firstQueued != 0 && !c.mayQueue(s, m) {
		if d := c.deliveries.at(s.firstQueued); d.count > 1 {
			c.cutQueued(s, d, 1)
		} else {
			c.discard(c.dequeue(s))
		}
		c.stats.DroppedQueue++
		c.noteDropped(s)
	}
	return true
}

// dropExpired takes from a session's queue what is worth nothing any more [MQTT-3.3.2-5]: it must not keep out what
// still is.
func (c *Core) dropExpired(s *session) {
	if s.queueExpires == 0 || s.queueExpires > c.now {
		return
	}
	s.queueExpires = 0
	for last, n := s.lastQueued, uint32(0); n != last; {
		var d *delivery
		n, d = c.dequeue(s)
		if c.expired(d) {
			c.stats.Expired += uint64(d.count)
			c.discard(n, d)
		} else {
			c.enqueue(s, n, d)
		}
	}
}

// expired says whether what a delivery brings is worth nothing any more.
func (c *Core) expired(d *delivery) bool {
	e := c.messages.at(d.message).expires
	return e != 0 && e <= c.now
}

// endOverflowed ends, at the end of a step, the connections whose queue has overflowed where that is the rule. Wills
// that are published now may let others overflow.
func (c *Core) endOverflowed() {
	for i := 0; i < len(c.overflowed); i++ {
		if p := c.connectionOf(c.overflowed[i]); p != nil {
			c.disconnectClient(p, mqtt.QuotaExceeded, "the queue of the client's session is full")
		}
	}
	c.overflowed = c.overflowed[:0]
}
