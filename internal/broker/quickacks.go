package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The short way of acknowledgements in their shortest form: those of bundles in the order in which the messages went, and
// of single deliveries. What waits for the client is sent once for all of them, so that it is a bundle again. The shape of this file, too, is forced by speed, see quick.go.

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
	landed := false
	for c.work < c.config.Limits.StepWork {
		n := c.ackedDelivery(s, kind, at, end)
		if n == 0 {
			break
		}
		count := uint32(1)
		if d := c.deliveries.at(n); d.count == 1 {
			c.ack.PacketID, c.ack.Reason = d.packetID, mqtt.Success
			landed = c.handleSingleAck(p, s, n, mqtt.PacketType(kind>>4)) || landed
		} else if count = c.acksInOrder(kind, at, end, d); count == 0 {
			break
		} else {
			landed = c.acknowledge(s, n, d, kind, count) || landed
		}
		at += count * ackSize
		handled += count
		c.work += count
	}
	if handled > 0 {
		s.ackedAt, s.stalled = c.now, false
	}
	if landed {
		c.drain(p.session)
	}
	return at, handled
}

// ackedDelivery returns the delivery in flight that the acknowledgement at offset at is for, or 0.
func (c *Core) ackedDelivery(s *session, kind byte, at, end uint32) uint32 {
	if end-at < ackSize || c.batch[at] != kind || c.batch[at+1] != ackSize-2 {
		return 0
	}
	return c.inFlight(s, binary.BigEndian.Uint16(c.batch[at+2:]))
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

// acknowledge notes that the next count messages of a bundle have been acknowledged, and says whether they are no longer
// in flight.
func (c *Core) acknowledge(s *session, n uint32, d *delivery, kind byte, count uint32) (landed bool) {
	if kind == firstPubrec { // from now on the client has the messages [MQTT-4.3.3-4]
		c.acks = appendAcks(c.acks, firstPubrel, d.packetID+d.has, count)
		if d.has += uint16(count); d.has == d.count {
			c.giveUp(d.message)
			d.message = 0
		}
		return false
	}
	slots := c.store.bytes(s.slots)
	first := 4 * uint32(d.packetID+d.landed-1)
	clear(slots[first : first+4*count])
	s.outstanding -= count
	s.inflight -= count
	c.waiting -= uint64(count)
	c.stats.Inflight -= uint64(count)
	if d.landed += uint16(count); d.landed == d.count {
		c.unlink(s, d)
		c.discard(n, d)
	}
	return true
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
