package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// delivery is a QoS 1 or 2 message on its way to a session: in the queue, or in flight under a packet id. Or it is a
// bundle of them, under packet ids that follow each other, see bundle.go.
type delivery struct {
	message  uint32 // 0 once the client has it and only the handshake of QoS 2 is left
	next     uint32
	previous uint32 // in flight only
	ids      block  // subscription identifiers
	part     uint16 // which payload of the message; of a bundle the first
	count    uint16 // how many payloads: more than 1 for a bundle
	landed   uint16 // of a bundle in flight: how many the client has acknowledged wholly
	has      uint16 // and how many of QoS 2 it has sent PUBREC for
	packetID uint16 // of a bundle the first
	group    uint32 // the group that it came by, see shared.go; 0 is none
	serial   uint32 // of the group
	qos      uint8
	retain   bool // the flag in the packet
	state    deliveryState
}

type deliveryState uint8

const (
	deliveryQueued   deliveryState = iota
	deliverySent                   // PUBLISH was sent on this connection
	deliveryReleased               // PUBREL was sent on this connection
	deliveryAgain                  // PUBLISH or PUBREL must be sent again, on a new connection
)

const (
	firstSlots = 16
	maxSlots   = 0xFFFF
)

// offer takes a QoS 1 or 2 message on for a session. If it can go at once it returns the packet id to send it
// under, otherwise 0. size is that of the packet.
func (c *Core) offer(id uint32, s *session, m *content, qos uint8, ids []uint32, asPublished bool, size uint32) uint16 {
	if s.conn != 0 && size > s.maxPacket {
		return 0 // [MQTT-3.1.2-25]: as if it had been sent
	}
	ready := s.ready()
	if (!ready && !c.mayQueue(s, m) || !c.roomForDelivery()) && !c.makeRoom(id, s, m) {
		c.stats.DroppedQueue++
		c.noteDropped(s)
		c.slowDown(id, s, m.source)
		return 0
	}
	n, d := c.deliveries.alloc()
	d.message, d.count, d.qos, d.retain = c.keep(m), 1, qos, m.retain && asPublished
	d.ids = c.keepIDs(ids)
	if !ready {
		c.enqueue(s, n, d)
		c.slowDown(id, s, m.source)
		return 0
	}
	return c.launch(s, n, d)
}

// ready says whether a session can be sent one more message now.
func (s *session) ready() bool {
	return s.conn != 0 && !s.blocked && s.firstQueued == 0 && s.again == 0 && s.outstanding < s.window
}

// mayQueue says whether a message may wait in a session's queue.
func (c *Core) mayQueue(s *session, m *content) bool {
	l := &c.config.Limits
	return s.queued < l.MaxQueued && s.queuedBytes+m.size() <= l.MaxQueuedBytes
}

// size is what a message counts for in a queue: all that is kept of it. Properties are measured once, for they may be many.
func (m *content) size() uint32 {
	if m.props != nil && m.propsSize == 0 {
		m.propsSize = uint32(mqtt.PropertiesSize(m.props))
	}
	return uint32(len(m.topic)) + m.propsSize + m.payload.Size
}

func (c *Core) enqueue(s *session, n uint32, d *delivery) {
	if s.lastQueued != 0 {
		c.deliveries.at(s.lastQueued).next = n
	} else {
		s.firstQueued = n
	}
	s.lastQueued = n
	s.queued += uint32(d.count)
	s.queuedBytes += c.weight(d)
	c.waiting += uint64(d.count)
	s.queueExpires = earlier(s.queueExpires, c.messages.at(d.message).expires)
}

func (c *Core) dequeue(s *session) (n uint32, d *delivery) {
	n = s.firstQueued
	d = c.deliveries.at(n)
	s.firstQueued, d.next = d.next, 0
	if s.firstQueued == 0 {
		s.lastQueued = 0
	}
	s.queued -= uint32(d.count)
	s.queuedBytes -= c.weight(d)
	c.waiting -= uint64(d.count)
	return n, d
}

// weight is what a delivery counts for in a queue, see content.size.
func (c *Core) weight(d *delivery) uint32 {
	m := c.messages.at(d.message)
	return uint32(d.count) * (m.topic + m.props + m.payload)
}

// launch puts a delivery in flight and returns its packet id.
func (c *Core) launch(s *session, n uint32, d *delivery) uint16 {
	c.findPacketIDs(s, 1)
	c.takePacketIDs(s, n, d)
	return d.packetID
}

// findPacketIDs looks for packet ids that are not in use [MQTT-2.2.1-4], and returns how many there are that follow
// each other, at least one and as many as are wanted at most. Ids are places in the session's slots, from 1, taken in turn; there are twice as many places
// as messages in flight, if MQTT allows that.
func (c *Core) findPacketIDs(s *session, wanted uint32) (free uint32) {
	if s.slots.size == 0 {
		c.growSlots(s)
	}
	slots, count := c.store.bytes(s.slots), s.slots.size/4
	for binary.LittleEndian.Uint32(slots[4*s.nextSlot:]) != 0 {
		if s.nextSlot++; s.nextSlot == count {
			s.nextSlot = 0
		}
	}
	most := min(s.nextSlot+min(wanted, max(count/2, s.inflight+1)-s.inflight), count)
	i := s.nextSlot
	for i+8 <= most && isZero((*[32]byte)(slots[4*i:])) { // eight at a time: runs are long
		i += 8
	}
	for i < most && binary.LittleEndian.Uint32(slots[4*i:]) == 0 {
		i++
	}
	return i - s.nextSlot
}

func isZero(b *[32]byte) bool {
	return binary.LittleEndian.Uint64(b[:])|binary.LittleEndian.Uint64(b[8:])|
		binary.LittleEndian.Uint64(b[16:])|binary.LittleEndian.Uint64(b[24:]) == 0
}

// takePacketIDs puts a delivery in flight under the packet ids that findPacketIDs has found.
func (c *Core) takePacketIDs(s *session, n uint32, d *delivery) {
	slots := c.store.bytes(s.slots)[4*s.nextSlot:][:4*uint32(d.count)]
	for two := uint64(n)<<32 | uint64(n); len(slots) >= 32; slots = slots[32:] { // eight at a time: runs are long
		binary.LittleEndian.PutUint64(slots, two)
		binary.LittleEndian.PutUint64(slots[8:], two)
		binary.LittleEndian.PutUint64(slots[16:], two)
		binary.LittleEndian.PutUint64(slots[24:], two)
	}
	for ; len(slots) > 0; slots = slots[4:] {
		binary.LittleEndian.PutUint32(slots, n)
	}
	d.packetID = uint16(s.nextSlot + 1)
	if s.nextSlot += uint32(d.count); s.nextSlot == s.slots.size/4 {
		s.nextSlot = 0
	}
	d.state = deliverySent
	d.previous = s.lastInflight
	if s.lastInflight != 0 {
		c.deliveries.at(s.lastInflight).next = n
	} else {
		s.firstInflight = n
		s.ackedAt = c.now // the time to acknowledge begins
	}
	s.lastInflight = n
	s.inflight += uint32(d.count)
	s.outstanding += uint32(d.count)
	c.waiting += uint64(d.count)
	c.stats.Inflight += uint64(d.count)
	if s.inflight*8 >= s.slots.size {
		c.growSlots(s)
	}
}

func (c *Core) growSlots(s *session) {
	count := s.slots.size / 4
	if count == maxSlots {
		return
	}
	s.nextSlot = count
	count = min(max(2*count, firstSlots), maxSlots)
	grown := c.store.alloc(4 * count)
	n := copy(c.store.bytes(grown), c.store.bytes(s.slots))
	clear(c.store.bytes(grown)[n:])
	c.store.release(s.slots)
	s.slots = grown
}

// inFlight returns the delivery with a packet id, or 0.
func (c *Core) inFlight(s *session, packetID uint16) uint32 {
	at := 4 * (uint32(packetID) - 1)
	if packetID == 0 || at >= s.slots.size {
		return 0
	}
	return binary.LittleEndian.Uint32(c.store.bytes(s.slots)[at:])
}

// handleAck handles PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *Core) handleAck(p *connection, frame []byte, kind mqtt.PacketType) {
	if fault := mqtt.ParseAck(frame, p.version, &c.ack); fault != nil {
		c.failFault(p, fault)
		return
	}
	if kind == mqtt.PUBREL {
		c.release(p, c.ack.PacketID)
		return
	}
	s := c.sessions.at(p.session)
	s.ackedAt, s.stalled = c.now, false
	n := c.inFlight(s, c.ack.PacketID)
	if n != 0 && c.deliveries.at(n).count > 1 {
		c.unbundle(s, n)
		n = c.inFlight(s, c.ack.PacketID)
	}
	if c.handleSingleAck(p, s, n, kind) {
		c.drain(p.session)
	}
}

// handleSingleAck handles what a client says of one message in flight, which is none if n is 0. It says whether that is
// no longer in flight. An unexpected PUBACK or PUBCOMP means nothing: it may be late, for a message that was given up
// (4.3).
func (c *Core) handleSingleAck(p *connection, s *session, n uint32, kind mqtt.PacketType) (landed bool) {
	if kind == mqtt.PUBREC {
		return c.handlePubrec(p, s, n)
	}
	if n == 0 || !c.deliveries.at(n).endsWith(kind) {
		return false
	}
	c.land(s, n) // with whatever reason [MQTT-4.8.2-6]
	return true
}

// endsWith says whether an acknowledgement ends a delivery.
func (d *delivery) endsWith(kind mqtt.PacketType) bool {
	if d.qos == 1 {
		return kind == mqtt.PUBACK
	}
	return kind == mqtt.PUBCOMP && d.message == 0
}

// handlePubrec answers a PUBREC: from now on the client has the message [MQTT-4.3.3-4].
func (c *Core) handlePubrec(p *connection, s *session, n uint32) (landed bool) {
	if n == 0 || c.deliveries.at(n).qos != 2 {
		if !c.ack.Reason.Failed() {
			c.reply(p, mqtt.PUBREL, c.ack.PacketID, mqtt.PacketIdentifierNotFound)
		}
		return false
	}
	if c.ack.Reason.Failed() { // the client refuses it: that ends the delivery (4.3.3) [MQTT-4.8.2-6]
		c.land(s, n)
		return true
	}
	d := c.deliveries.at(n)
	if d.message != 0 {
		c.giveUp(d.message)
		d.message = 0
	}
	c.passAgain(s, n, d)
	d.state = deliveryReleased
	c.reply(p, mqtt.PUBREL, d.packetID, mqtt.Success)
	return false
}

// reply gathers an acknowledgement for the connection whose packets are being handled.
func (c *Core) reply(p *connection, kind mqtt.PacketType, packetID uint16, reason mqtt.ReasonCode) {
	c.acks = mqtt.AppendAck(c.acks, p.version, kind, packetID, reason, nil)
}

// passAgain takes a delivery that was still to be sent again out of turn.
func (c *Core) passAgain(s *session, n uint32, d *delivery) {
	if d.state != deliveryAgain {
		return
	}
	if s.again == n {
		s.again = d.next
	}
	s.outstanding++
}

// land ends a delivery that was in flight.
func (c *Core) land(s *session, n uint32) {
	d := c.deliveries.at(n)
	c.passAgain(s, n, d)
	s.outstanding--
	s.inflight--
	c.waiting--
	c.stats.Inflight--
	binary.LittleEndian.PutUint32(c.store.bytes(s.slots)[4*(uint32(d.packetID)-1):], 0)
	c.unlink(s, d)
	c.discard(n, d)
}

// unlink takes a delivery out of the list of those in flight.
func (c *Core) unlink(s *session, d *delivery) {
	if d.previous != 0 {
		c.deliveries.at(d.previous).next = d.next
	} else {
		s.firstInflight = d.next
	}
	if d.next != 0 {
		c.deliveries.at(d.next).previous = d.previous
	} else {
		s.lastInflight = d.previous
	}
}

// passOn gives a delivery of a session that ends to another member of its group, or frees it.
func (c *Core) passOn(n uint32, d *delivery) {
	if !d.mayGoElsewhere() || !c.giveBack(n, d) {
		c.discard(n, d)
	}
}

// discard frees a delivery that is in no list.
func (c *Core) discard(n uint32, d *delivery) {
	if d.message != 0 {
		c.giveUp(d.message)
	}
	c.store.release(d.ids)
	c.deliveries.release(n)
}

// drain sends a session what waits for it, as far as its window lets: first again what was in flight when its
// last connection ended [MQTT-4.4.0-1], then the queue, then what waits with its groups.
func (c *Core) drain(id uint32) {
	s := c.sessions.at(id)
	for s.conn != 0 && !s.blocked && s.outstanding < s.window {
		if s.again != 0 {
			c.sendAgain(s)
		} else if s.firstQueued != 0 {
			c.sendQueued(s)
		} else if !c.fetch(s) {
			break
		}
		c.work++
	}
	if s.firstQueued == 0 {
		c.wakeScans(id)
	}
	c.speedUp(id, s)
}

// sendAgain sends the next message that was in flight when the last connection ended.
func (c *Core) sendAgain(s *session) {
	n := s.again
	d := c.deliveries.at(n)
	s.again = d.next
	if d.state != deliveryAgain {
		return // its client has acknowledged it meanwhile
	}
	if d.message == 0 {
		s.outstanding++
		d.state = deliveryReleased
		c.beginSend(s.conn)
		c.out = mqtt.AppendAck(c.out, s.version, mqtt.PUBREL, d.packetID, mqtt.Success, nil)
		c.endSend()
		return
	}
	var m content
	c.loadPart(d.message, d.part, &m)
	m.dup = true // [MQTT-3.3.1-1]
	if s.aliasCount != 0 {
		c.useAlias(s, &m)
	}
	ids := c.loadIDs(d.ids)
	if c.sizeFor(s, &m, d.qos, d.retain, ids) > s.maxPacket { // [MQTT-3.1.2-25]
		c.land(s, n)
		return
	}
	s.outstanding++
	d.state = deliverySent
	c.deliverOne(s, &m, d.qos, d.retain, ids, d.packetID)
}

// sendQueued sends the first message of the queue, unless it has expired or the client would not take it.
func (c *Core) sendQueued(s *session) {
	if c.deliveries.at(s.firstQueued).count > 1 {
		c.sendQueuedBundle(s)
		return
	}
	n, d := c.dequeue(s)
	var m content
	c.loadPart(d.message, d.part, &m)
	if s.aliasCount != 0 {
		c.useAlias(s, &m)
	}
	ids := c.loadIDs(d.ids)
	if m.expired(c.now) || c.sizeFor(s, &m, d.qos, d.retain, ids) > s.maxPacket { // [MQTT-3.3.2-5]
		if m.expired(c.now) {
			c.stats.Expired++
		}
		c.discard(n, d)
		return
	}
	c.deliverOne(s, &m, d.qos, d.retain, ids, c.launch(s, n, d))
}

// restartOutbound prepares what was in flight for being sent again on a new connection.
func (c *Core) restartOutbound(s *session) {
	c.unbundleAll(s)
	s.again, s.outstanding = s.firstInflight, 0
	s.ackedAt, s.stalled = c.now, false
	for n := s.firstInflight; n != 0; {
		d := c.deliveries.at(n)
		d.state = deliveryAgain
		n = d.next
	}
}

// dropOutbound forgets all that waits for a session, but for what other members of its groups can get.
func (c *Core) dropOutbound(s *session) {
	c.work += (s.inflight + s.queued) / chooseWork
	for n := s.firstInflight; n != 0; {
		d := c.deliveries.at(n)
		next := d.next
		c.waiting -= uint64(d.count - d.landed)
		c.stats.Inflight -= uint64(d.count - d.landed)
		c.passOn(n, d)
		n = next
	}
	for s.firstQueued != 0 {
		n, d := c.dequeue(s)
		c.passOn(n, d)
	}
	c.store.release(s.slots)
}

// noteDrops tells, at the end of a step, which sessions began to lose messages in it.
func (c *Core) noteDrops() {
	for _, conn := range c.dropped {
		if p := c.connectionOf(conn); p != nil && p.session != 0 {
			c.note(abi.NoteDropped, conn, c.store.bytes(c.sessions.at(p.session).clientID))
		}
	}
	c.dropped = c.dropped[:0]
}
