package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The short way of acknowledgements: those of bundles that come in the order in which the messages went, in their
// shortest form. The shape of this file, too, is forced by speed, see quick.go.

// First bytes of acknowledgements.
const (
	firstPuback  = byte(mqtt.PUBACK) << 4
	firstPubrec  = byte(mqtt.PUBREC) << 4
	firstPubrel  = byte(mqtt.PUBREL)<<4 | 2
	firstPubcomp = byte(mqtt.PUBCOMP) << 4
	ackSize      = 4
)

// quickAcks handles packets of one kind from offset at on as long as they can go the short way, and returns the offset
// of the first that cannot and how many it handled.
func (c *Core) quickAcks(p *connection, at, end uint32) (next, handled uint32) {
	if p.session == 0 || c.longWay {
		return at, 0
	}
	kind := c.batch[at]
	if kind == firstPubrel {
		return c.quickReleases(p, at, end)
	}
	s := c.sessions.at(p.session)
	for c.work < c.config.Limits.StepWork {
		n := c.ackedBundle(s, kind, at, end)
		if n == 0 {
			break
		}
		d := c.deliveries.at(n)
		count := c.acksInOrder(kind, at, end, d)
		if count == 0 {
			break
		}
		c.acknowledge(p, s, n, d, kind, count)
		at += count * ackSize
		handled += count
		c.work += count
	}
	if handled > 0 {
		s.ackedAt, s.stalled = c.now, false
		if kind != firstPubrec {
			c.drain(p.session)
		}
	}
	return at, handled
}

// ackedBundle returns the bundle in flight that the acknowledgement at offset at is for, or 0.
func (c *Core) ackedBundle(s *session, kind byte, at, end uint32) uint32 {
	if end-at < ackSize || c.batch[at] != kind || c.batch[at+1] != ackSize-2 {
		return 0
	}
	n := c.inFlight(s, binary.BigEndian.Uint16(c.batch[at+2:]))
	if n == 0 || c.deliveries.at(n).count == 1 {
		return 0
	}
	return n
}

// acksInOrder returns how many acknowledgements from offset at on are the next that a bundle waits for.
func (c *Core) acksInOrder(kind byte, at, end uint32, d *delivery) (count uint32) {
	from, to := d.landed, d.count
	switch {
	case kind == firstPubrec && d.qos == 2:
		from = d.has
	case kind == firstPubcomp && d.qos == 2:
		to = d.has
	case kind != firstPuback || d.qos != 1:
		return 0
	}
	// The next acknowledgement, as it stands in memory, byte for byte.
	batch, id := c.batch[:end], d.packetID+from
	for ; from < to && end-at >= ackSize; from++ {
		want := uint32(kind) | (ackSize-2)<<8 | uint32(id>>8)<<16 | uint32(id&0xFF)<<24
		if binary.LittleEndian.Uint32(batch[at:]) != want {
			break
		}
		at += ackSize
		id++
		count++
	}
	return count
}

// acknowledge notes that the next count messages of a bundle have been acknowledged.
func (c *Core) acknowledge(p *connection, s *session, n uint32, d *delivery, kind byte, count uint32) {
	if kind == firstPubrec { // from now on the client has the messages [MQTT-4.3.3-4]
		c.acks = appendAcks(c.acks, firstPubrel, d.packetID+d.has, count)
		if d.has += uint16(count); d.has == d.count {
			c.giveUp(d.message)
			d.message = 0
		}
		return
	}
	slots := c.store.bytes(s.slots)
	first := 4 * uint32(d.packetID+d.landed-1)
	clear(slots[first : first+4*count])
	s.outstanding -= count
	s.inflight -= count
	c.waiting -= uint64(count)
	if d.landed += uint16(count); d.landed == d.count {
		c.unlink(s, d)
		c.discard(n, d)
	}
}

// appendAcks appends acknowledgements for count packet ids that follow each other.
func appendAcks(b []byte, first byte, id uint16, count uint32) []byte {
	for range count {
		b = binary.BigEndian.AppendUint32(b, uint32(first)<<24|(ackSize-2)<<16|uint32(id))
		id++
	}
	return b
}

// quickReleases is quickAcks for PUBREL [MQTT-4.3.3-11].
func (c *Core) quickReleases(p *connection, at, end uint32) (next, handled uint32) {
	batch, s := c.batch[:end], c.sessions.at(p.session)
	r := &s.receivedRange
	start := r.first
	for r.count > 0 && end-at >= ackSize {
		want := uint32(firstPubrel) | (ackSize-2)<<8 | uint32(r.first>>8)<<16 | uint32(r.first&0xFF)<<24
		if binary.LittleEndian.Uint32(batch[at:]) != want {
			break
		}
		r.first++
		r.count--
		at += ackSize
		handled++
	}
	s.receivedCount -= handled
	c.work += handled
	c.acks = appendAcks(c.acks, firstPubcomp, start, handled)
	return at, handled
}
