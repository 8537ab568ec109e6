package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// delivery is a QoS 1 or 2 message on its way to a session: in the queue, or in flight under a packet id.
type delivery struct {
	message  uint32 // 0 once the client has it and only the handshake of QoS 2 is left
	next     uint32
	previous uint32 // in flight only
	ids      block  // subscription identifiers
	packetID uint16
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

const firstSlots = 16

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
	d.message, d.qos, d.retain = c.keep(m), qos, m.retain && asPublished
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

// size is what a message counts for in a queue.
func (m *content) size() uint32 { return uint32(len(m.topic)) + m.payload.Size }

func (c *Core) enqueue(s *session, n uint32, d *delivery) {
	if s.lastQueued != 0 {
		c.deliveries.at(s.lastQueued).next = n
	} else {
		s.firstQueued = n
	}
	s.lastQueued = n
	s.queued++
	m := c.messages.at(d.message)
	s.queuedBytes += m.body.size
	s.queueExpires = earlier(s.queueExpires, m.expires)
}

func (c *Core) dequeue(s *session) (n uint32, d *delivery) {
	n = s.firstQueued
	d = c.deliveries.at(n)
	s.firstQueued, d.next = d.next, 0
	if s.firstQueued == 0 {
		s.lastQueued = 0
	}
	s.queued--
	s.queuedBytes -= c.messages.at(d.message).body.size
	return n, d
}

// launch puts a delivery in flight and returns its packet id.
func (c *Core) launch(s *session, n uint32, d *delivery) uint16 {
	d.packetID = c.takePacketID(s, n)
	d.state = deliverySent
	d.previous = s.lastInflight
	if s.lastInflight != 0 {
		c.deliveries.at(s.lastInflight).next = n
	} else {
		s.firstInflight = n
		s.ackedAt = c.now // the time to acknowledge begins
	}
	s.lastInflight = n
	s.inflight++
	c.inflight++
	s.outstanding++
	return d.packetID
}

// takePacketID finds a packet id that is not in use [MQTT-2.2.1-4] for a delivery. Ids are places in the session's
// slots, from 1, taken in turn; there are more places than messages in flight.
func (c *Core) takePacketID(s *session, n uint32) uint16 {
	if s.inflight*4 >= s.slots.size {
		c.growSlots(s)
	}
	slots, count := c.store.bytes(s.slots), s.slots.size/4
	for {
		i := s.nextSlot
		if s.nextSlot++; s.nextSlot == count {
			s.nextSlot = 0
		}
		if binary.LittleEndian.Uint32(slots[4*i:]) == 0 {
			binary.LittleEndian.PutUint32(slots[4*i:], n)
			return uint16(i + 1)
		}
	}
}

func (c *Core) growSlots(s *session) {
	count := s.slots.size / 4
	s.nextSlot = count
	count = min(max(2*count, firstSlots), 0xFFFF)
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
	switch {
	case kind == mqtt.PUBREC:
		c.handlePubrec(p, s, n)
	case n != 0 && c.deliveries.at(n).endsWith(kind):
		c.land(s, n)
		c.drain(p.session)
	}
	// An unexpected PUBACK or PUBCOMP means nothing: it may be late, for a message that was given up (4.3).
}

// endsWith says whether an acknowledgement ends a delivery.
func (d *delivery) endsWith(kind mqtt.PacketType) bool {
	if d.qos == 1 {
		return kind == mqtt.PUBACK
	}
	return kind == mqtt.PUBCOMP && d.message == 0
}

// handlePubrec answers a PUBREC: from now on the client has the message [MQTT-4.3.3-4].
func (c *Core) handlePubrec(p *connection, s *session, n uint32) {
	if n == 0 || c.deliveries.at(n).qos != 2 {
		if !c.ack.Reason.Failed() {
			c.reply(p, mqtt.PUBREL, c.ack.PacketID, mqtt.PacketIdentifierNotFound)
		}
		return
	}
	if c.ack.Reason.Failed() { // the client refuses it: that ends the delivery (4.3.3)
		c.land(s, n)
		c.drain(p.session)
		return
	}
	d := c.deliveries.at(n)
	if d.message != 0 {
		c.giveUp(d.message)
		d.message = 0
	}
	c.passAgain(s, n, d)
	d.state = deliveryReleased
	c.reply(p, mqtt.PUBREL, d.packetID, mqtt.Success)
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
	c.inflight--
	binary.LittleEndian.PutUint32(c.store.bytes(s.slots)[4*(uint32(d.packetID)-1):], 0)
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
	c.discard(n, d)
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
// last connection ended [MQTT-4.4.0-1], then the queue.
func (c *Core) drain(id uint32) {
	s := c.sessions.at(id)
	for s.conn != 0 && !s.blocked && s.outstanding < s.window {
		if s.again != 0 {
			c.sendAgain(s)
		} else if s.firstQueued != 0 {
			c.sendQueued(s)
		} else {
			break
		}
		c.work++
	}
	if s.firstQueued == 0 && len(c.scans) > 0 {
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
	c.load(d.message, &m)
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
	n, d := c.dequeue(s)
	var m content
	c.load(d.message, &m)
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
	s.again, s.outstanding = s.firstInflight, 0
	s.ackedAt, s.stalled = c.now, false
	for n := s.firstInflight; n != 0; {
		d := c.deliveries.at(n)
		d.state = deliveryAgain
		n = d.next
	}
}

// dropOutbound forgets all that waits for a session.
func (c *Core) dropOutbound(s *session) {
	for s.firstQueued != 0 {
		n, d := c.dequeue(s)
		c.discard(n, d)
	}
	for n := s.firstInflight; n != 0; {
		d := c.deliveries.at(n)
		next := d.next
		c.discard(n, d)
		c.inflight--
		n = next
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
