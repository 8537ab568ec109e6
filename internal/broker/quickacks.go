package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
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
	ackSize      = abi.AckSize
)

// acksInRow handles acknowledgements of one kind whose packet ids follow each other, or as many of them as one step should.
// How far it came stands in the batch: the first of them is always the next.
func (c *Core) acksInRow(e *abi.Event) (done bool) {
	at, left := e.At, e.Arg
	if c.resume != 0 {
		at, left = c.resume, c.resumeNum
		c.resume = 0
	}
	p := c.connectionOf(e.Conn)
	if p != nil && (len(e.Data) != ackSize || e.Data[1] != ackSize-2) {
		c.fail(p, mqtt.MalformedPacket, "the host handed over less than a packet")
	}
	for left > 0 && p != nil && p.conn == e.Conn {
		if c.busy() {
			c.flushAcks(e.Conn)
			c.resume, c.resumeNum = at, left
			return false
		}
		next := c.batch[at : at+ackSize]
		id := binary.BigEndian.Uint16(next[2:])
		n := c.quickRow(p, next[0], id, left)
		if n == 0 {
			n = 1
			c.work++
			c.packet(p, at, at+ackSize)
		}
		binary.BigEndian.PutUint16(next[2:], id+uint16(n))
		left -= n
	}
	c.endPackets(p, e.Conn)
	return true
}

// quickAcks handles packets of one kind from offset at on as long as they can go the short way, and returns the offset
// of the first that cannot and how many it handled.
func (c *Core) quickAcks(p *connection, at, end uint32) (next, handled uint32) {
	for end-at >= ackSize && c.batch[at+1] == ackSize-2 {
		packet := c.batch[at : at+ackSize]
		count := acksAlike(c.batch[at:end])
		n := c.quickRow(p, packet[0], binary.BigEndian.Uint16(packet[2:]), count)
		at += n * ackSize
		handled += n
		if n < count {
			break
		}
	}
	return at, handled
}

// acksAlike returns how many acknowledgements of the kind of the first have packet ids that follow each other.
func acksAlike(b []byte) (n uint32) {
	want := binary.BigEndian.Uint32(b)
	for n = 1; len(b) >= 2*ackSize; n++ {
		b = b[ackSize:]
		if want++; binary.BigEndian.Uint32(b) != want {
			break
		}
	}
	return n
}

// quickRow handles acknowledgements of one kind whose packet ids follow each other as long as they can go the short way,
// and returns how many it handled.
func (c *Core) quickRow(p *connection, kind byte, id uint16, count uint32) (handled uint32) {
	if p.session == 0 || c.longWay {
		return 0
	}
	if kind == firstPubrel {
		return c.quickReleases(p, id, count)
	}
	s := c.sessions.at(p.session)
	landed := false
	for handled < count && c.work < c.config.Limits.StepWork {
		next := id + uint16(handled)
		n := c.inFlight(s, next)
		if n == 0 {
			break
		}
		d, k := c.deliveries.at(n), uint32(1)
		if d.count == 1 {
			c.ack.PacketID, c.ack.Reason = next, mqtt.Success
			landed = c.handleSingleAck(p, s, n, mqtt.PacketType(kind>>4)) || landed
		} else if k = min(count-handled, d.expects(kind, next)); k == 0 {
			break
		} else {
			landed = c.acknowledge(p, s, n, d, kind, k) || landed
		}
		handled += k
		c.work += 1 + k/quickly
	}
	if handled > 0 {
		s.ackedAt, s.stalled = c.now, false
	}
	if landed {
		c.drain(p.session)
	}
	return handled
}

// expects returns how many acknowledgements from a packet id on are the next that a bundle waits for.
func (d *delivery) expects(kind byte, id uint16) uint32 {
	from, to := d.landed, d.count
	switch {
	case kind == firstPubrec && d.qos == 2:
		from = d.has
	case kind == firstPubcomp && d.qos == 2:
		to = d.has
	case kind != firstPuback || d.qos != 1:
		return 0
	}
	if id != d.packetID+from {
		return 0
	}
	return uint32(to - from)
}

// acknowledge notes that the next count messages of a bundle have been acknowledged, and says whether they are no longer
// in flight.
func (c *Core) acknowledge(p *connection, s *session, n uint32, d *delivery, kind byte, count uint32) (landed bool) {
	if kind == firstPubrec { // from now on the client has the messages [MQTT-4.3.3-4]
		c.replyRow(p.conn, firstPubrel, d.packetID+d.has, count)
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

// replyRow gathers acknowledgements of packets whose ids follow each other, see reply.
func (c *Core) replyRow(to abi.Conn, kind byte, id uint16, count uint32) {
	if len(c.acks) == 0 && c.lastRow > 0 && c.growRow(kind, id, count) {
		return
	}
	if count < abi.ShortestRun {
		for k := range uint16(count) {
			c.acks = append(c.acks, kind, ackSize-2, byte((id+k)>>8), byte(id+k))
		}
		return
	}
	if len(c.acks) > 0 {
		c.rows = abi.AppendEffect(c.rows, abi.EffectSend, 0, to, 0, c.acks)
		c.acks = c.acks[:0]
	}
	c.lastRow = len(c.rows) + 1
	first := [ackSize]byte{kind, ackSize - 2, byte(id >> 8), byte(id)}
	c.rows = abi.AppendEffect(c.rows, abi.EffectAcks, 0, to, count, first[:])
}

// growRow adds to the last row what follows it, and says whether it could.
func (c *Core) growRow(kind byte, id uint16, count uint32) bool {
	row := c.rows[c.lastRow-1:]
	first := row[abi.EffectHeaderSize:]
	size := abi.EffectArg(row)
	if first[0] != kind || uint32(binary.BigEndian.Uint16(first[2:]))+size != uint32(id) {
		return false
	}
	abi.SetEffectArg(row, size+count)
	return true
}

// quickReleases is quickRow for PUBREL [MQTT-4.3.3-11].
func (c *Core) quickReleases(p *connection, id uint16, count uint32) (handled uint32) {
	s := c.sessions.at(p.session)
	r := &s.receivedRange
	if r.first != id {
		return 0
	}
	handled = min(count, uint32(r.count))
	r.first += uint16(handled)
	r.count -= uint16(handled)
	s.receivedCount -= handled
	c.work += 1 + handled/quickly
	if handled > 0 {
		c.replyRow(p.conn, firstPubcomp, id, handled)
	}
	return handled
}
