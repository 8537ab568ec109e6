package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// A bundle is a run of QoS 1 or 2 messages to one session that came together, differ in their payloads only, and are
// kept as one message with several payloads and one delivery. What must be done for each message one by one is then a
// few numbers: a place in the session's slots, a packet id in an effect. Bundles come from the short way of a PUBLISH
// (quickacked.go) and end with acknowledgements that come in order (quickacks.go). Wherever anything else happens to
// one of its messages, a bundle in flight becomes single deliveries first.

// keepRun makes a message of a run of PUBLISH packets in the batch that nobody uses yet. The bytes between the payloads
// are kept with them: one copy is cheaper than many.
func (c *Core) keepRun(r *publishRun) uint32 {
	id, kept := c.messages.alloc()
	size := (r.count-1)*r.stride + r.size
	kept.topic, kept.payload, kept.stride, kept.qos = uint32(len(r.topic)), r.size, r.stride, r.qos
	kept.body = c.store.alloc(kept.topic + size)
	b := c.store.bytes(kept.body)
	copy(b[copy(b, r.topic):], c.batch[r.payload:r.payload+size])
	return id
}

// newBundle makes a delivery of all payloads of a message.
func (c *Core) newBundle(message uint32, count uint32, qos uint8, ids []uint32) (uint32, *delivery) {
	n, d := c.deliveries.alloc()
	d.message, d.count, d.qos, d.ids = message, uint16(count), qos, c.keepIDs(ids)
	c.messages.at(message).users++
	return n, d
}

// sendQueuedBundle sends as much of the first bundle in the queue as the window lets.
func (c *Core) sendQueuedBundle(s *session) {
	first := c.deliveries.at(s.firstQueued)
	var m content
	c.loadPart(first.message, first.part, &m)
	if s.aliasCount != 0 {
		c.useAlias(s, &m)
	}
	ids := c.loadIDs(first.ids)
	if c.sizeFor(s, &m, first.qos, false, ids) > s.maxPacket {
		c.discard(c.dequeue(s)) // [MQTT-3.1.2-25]: all are of the same size
		return
	}
	count := min(uint32(first.count), s.window-s.outstanding)
	count = min(count, c.findPacketIDs(s, count))
	n, d := c.splitQueued(s, count)
	c.takePacketIDs(s, n, d)
	c.deliverBundle(s, &m, d, ids)
}

// splitQueued takes the first count messages of the first bundle out of the queue, as a bundle of their own.
func (c *Core) splitQueued(s *session, count uint32) (uint32, *delivery) {
	first := c.deliveries.at(s.firstQueued)
	if count == uint32(first.count) {
		return c.dequeue(s)
	}
	n, d := c.newBundle(first.message, count, first.qos, nil)
	d.ids, d.part = c.copyOf(first.ids), first.part
	c.cutQueued(s, first, count)
	return n, d
}

// cutQueued takes the first count messages, but not all, of a bundle in the queue out of it.
func (c *Core) cutQueued(s *session, d *delivery, count uint32) {
	whole := c.weight(d)
	d.part += uint16(count)
	d.count -= uint16(count)
	s.queued -= count
	s.queuedBytes -= whole - c.weight(d)
	c.waiting -= uint64(count)
}

// copyOf returns a block with the same bytes.
func (c *Core) copyOf(b block) block {
	made := c.store.alloc(b.size)
	copy(c.store.bytes(made), c.store.bytes(b))
	return made
}

// deliverBundle sends the messages of a bundle that has been put in flight. m is the first of them.
func (c *Core) deliverBundle(s *session, m *content, d *delivery, ids []uint32) {
	c.sendAt = 0
	at := c.buildHead(m, s.version, d.qos, false, ids)
	open := 0
	c.out, open = abi.BeginDeliver(c.out, m.source, d.qos, at, m.payload, c.head)
	c.out = abi.AppendTarget(c.out, s.conn, d.packetID)
	c.endRun(open, uint32(d.count), c.messages.at(d.message).stride)
}

// endRun completes the delivery that begins at open, if one does, for count messages.
func (c *Core) endRun(open int, count, stride uint32) int {
	if open >= 0 {
		targets := abi.EndDeliver(c.out, open)
		abi.SetRun(c.out, open, count, stride)
		c.work += 1 + count*uint32(targets)/quickly
		c.stats.Sent += uint64(count) * uint64(targets)
	}
	return -1
}

// unbundle makes single deliveries of what a client has not yet acknowledged of a bundle in flight.
func (c *Core) unbundle(s *session, n uint32) {
	d := c.deliveries.at(n)
	c.work += uint32(d.count) / quickly
	for k := d.landed; k < d.count; k++ {
		single, one := c.deliveries.alloc()
		one.count, one.qos, one.retain, one.packetID = 1, d.qos, d.retain, d.packetID+k
		one.state = deliveryReleased
		if k >= d.has {
			one.state, one.message, one.part = deliverySent, d.message, d.part+k
			c.messages.at(d.message).users++
			one.ids = c.copyOf(d.ids)
		}
		c.insertBefore(s, n, d, single, one)
		binary.LittleEndian.PutUint32(c.store.bytes(s.slots)[4*(uint32(one.packetID)-1):], single)
	}
	c.unlink(s, d)
	c.discard(n, d)
}

// insertBefore puts a delivery into the list of those in flight, before another.
func (c *Core) insertBefore(s *session, n uint32, d *delivery, single uint32, one *delivery) {
	one.previous, one.next = d.previous, n
	if d.previous != 0 {
		c.deliveries.at(d.previous).next = single
	} else {
		s.firstInflight = single
	}
	d.previous = single
}

// unbundleAll makes single deliveries of all bundles in flight.
func (c *Core) unbundleAll(s *session) {
	for n := s.firstInflight; n != 0; {
		d := c.deliveries.at(n)
		next := d.next
		if d.count > 1 {
			c.unbundle(s, n)
		}
		n = next
	}
}
