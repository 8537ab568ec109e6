package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The short way of a PUBLISH at QoS 1 or 2: a run of packets to one topic, of one size, without flags and properties,
// becomes a bundle for each receiver. The conditions are those of quick.go, and that every receiver can take part of the
// run, into its window or into its queue.

// publishRun is a run of PUBLISH packets in the batch that differ in packet id and payload only.
type publishRun struct {
	topic   []byte
	start   uint32 // offset of the first packet
	id      uint32 // of its packet id
	payload uint32 // of its payload
	size    uint32 // of each payload
	stride  uint32 // from one packet to the next
	count   uint32
	qos     uint8
	alike   bool // the host says that all are such packets, and that their ids follow each other
}

// quickAcked handles packets from offset at on as long as they can go the short way, and returns the offset of the
// first that cannot and how many it handled.
func (c *Core) quickAcked(p *connection, at, end uint32, alike bool) (next, handled uint32) {
	if p.session == 0 || p.rulesSerial != c.rulesSerial || c.longWay || c.routes.large() {
		return at, 0
	}
	r := publishRun{alike: alike}
	for c.work < c.config.Limits.StepWork && c.readRun(p, at, end, &r) {
		id := c.knownRoute(p, r.topic)
		if id == 0 {
			break
		}
		rt := c.routes.at(id)
		c.refresh(rt)
		if r.count = c.roomForRun(p, rt, end, &r); r.count < 2 {
			break
		}
		if r.count = c.measure(p, end, &r); r.count < 2 {
			break
		}
		c.publishRun(p, rt, &r)
		at += r.count * r.stride
		handled += r.count
	}
	c.stats.Received += uint64(handled)
	return at, handled
}

// readRun reads the first packet of a run, and says whether it is one for the short way.
func (c *Core) readRun(p *connection, at, end uint32, r *publishRun) bool {
	if end-at < 8 || c.batch[at] != publishPlain|2 && c.batch[at] != publishPlain|4 {
		return false
	}
	batch := c.batch[:end]
	length, i := uint32(batch[at+1]), at+2
	if length >= 0x80 {
		length = length&0x7F | uint32(batch[i])<<7
		i++
		if length >= 1<<14 {
			return false
		}
	}
	stop := i + length
	r.start, r.qos, r.stride = at, batch[at]>>1&3, stop-at
	r.id = i + 2 + uint32(batch[i])<<8 + uint32(batch[i+1])
	r.payload = r.id + 2
	if p.version == mqtt.V5 {
		r.payload++ // the length of the properties
	}
	if stop > end || r.payload > stop || r.id == i+2 {
		return false
	}
	r.topic, r.size = batch[i+2:r.id], stop-r.payload
	return true
}

// maxRun bounds a run, so that its length fits a bundle. Its bytes are bounded by maxBlock: all of them are kept until the
// last message is acknowledged, and a larger block would be garbage for the collector then.
const maxRun = 1 << 12

// roomForRun returns how many messages all receivers of a route can take, each into its window or, if it has to wait,
// into its queue; 0 if there is anything unusual about one of them.
func (c *Core) roomForRun(p *connection, rt *route, end uint32, r *publishRun) uint32 {
	if len(rt.matches) == 0 || len(rt.groups) > 0 { // of groups, who gets it is chosen for each message
		return 0
	}
	l := &c.config.Limits
	room := min(maxRun, (end-r.start)/r.stride, (maxBlock-uint32(len(r.topic)))/r.stride, 1+(l.StepWork-c.work)*quickly/uint32(len(rt.matches)+1))
	most, received := uint32(p.receiveMost), c.sessions.at(p.session).receivedCount
	switch left := most - min(received, most); {
	case r.qos == 2:
		room = min(room, left)
	case left == 0: // messages of QoS 1 are acknowledged as they come
		return 0
	}
	for i := range rt.matches {
		m := &rt.matches[i]
		s := c.sessions.at(m.session)
		if m.whose != everybodys || r.size+uint32(len(r.topic))+16+5*uint32(m.count) > s.maxPacket {
			return 0
		}
		if m.form&formAlias != 0 && c.wouldSetAlias(rt, m, s, r) {
			return 0
		}
		switch {
		case m.form&3 == 0:
		case s.ready():
			room = min(room, s.window-s.outstanding)
			room = c.findPacketIDs(s, room)
		default:
			room = min(room, c.queueRoom(s, r))
		}
		if room < 2 {
			return 0
		}
	}
	if !c.roomForBundles(rt, room, r.stride) {
		return 0
	}
	return room
}

// wouldSetAlias says whether the first message of a run would set a topic alias.
func (c *Core) wouldSetAlias(rt *route, mt *match, s *session, r *publishRun) bool {
	_, free := c.aliasIn(rt, mt.session, s)
	m := content{payload: abi.Ref{Size: r.size}}
	return free && c.maySet(s, &m, min(r.qos, mt.form&3))
}

// queueRoom returns how many messages of a run fit into a session's queue.
func (c *Core) queueRoom(s *session, r *publishRun) uint32 {
	l := &c.config.Limits
	if s.queued >= l.MaxQueued || s.queuedBytes >= l.MaxQueuedBytes {
		return 0
	}
	return min(l.MaxQueued-s.queued, (l.MaxQueuedBytes-s.queuedBytes)/(uint32(len(r.topic))+r.size+1))
}

// measure returns how many packets, of r.count at most, are like the first, and notes the packet ids of QoS 2, unless there
// is but one: it goes the long way.
func (c *Core) measure(p *connection, end uint32, r *publishRun) (count uint32) {
	if r.alike {
		count = c.measureAlike(p, end, r)
	} else {
		count = c.measureRun(p, end, r)
	}
	if count == 1 && r.qos == 2 {
		c.forgetReceived(p.session, binary.BigEndian.Uint16(c.batch[r.id:]))
	}
	return count
}

// measureRun is measure for packets that must be compared with the first.
func (c *Core) measureRun(p *connection, end uint32, r *publishRun) (count uint32) {
	batch := c.batch[:end]
	header := batch[r.start:r.id]
	plain := r.payload-r.id == 2 // no properties
	for at := r.start; count < r.count && end-at >= r.stride; at += r.stride {
		packet := batch[at : at+r.stride]
		id := binary.BigEndian.Uint16(packet[len(header):])
		if id == 0 || !plain && packet[len(header)+2] != 0 || !sameStart(packet, header) {
			break
		}
		if r.qos == 2 {
			if c.isReceived(p.session, id) {
				break
			}
			c.addReceived(p.session, id)
		}
		count++
	}
	return count
}

// measureAlike is measure for packets of which the host says that they are alike: but for their properties, which it
// cannot tell from a payload.
func (c *Core) measureAlike(p *connection, end uint32, r *publishRun) (count uint32) {
	first := binary.BigEndian.Uint16(c.batch[r.id:])
	most := min(r.count, 1<<16-uint32(first), (end-r.start)/r.stride)
	if first == 0 {
		return 0
	}
	count = most
	if r.payload-r.id > 2 {
		count = zerosApart(c.batch[:end], r.payload-1, r.stride, most)
	}
	if r.qos == 2 {
		count = c.addReceivedRun(p.session, first, count)
	}
	return count
}

// zerosApart returns how many bytes of b are zero, of those at offset at and every stride bytes behind it, up to the first that
// is not; most at most.
func zerosApart(b []byte, at, stride, most uint32) (n uint32) {
	for n+4 <= most && b[at]|b[at+stride]|b[at+2*stride]|b[at+3*stride] == 0 { // four at a time: runs are long
		n, at = n+4, at+4*stride
	}
	for n < most && b[at] == 0 {
		n, at = n+1, at+stride
	}
	return n
}

// publishRun hands a run to the receivers of a route and acknowledges it.
func (c *Core) publishRun(p *connection, rt *route, r *publishRun) {
	c.sendAt = 0
	c.work += 1 + r.count/quickly
	m := content{topic: r.topic, qos: r.qos, source: p.conn, session: p.session}
	m.payload = abi.Ref{Offset: r.payload, Size: r.size}
	message, open := uint32(0), -1
	var last *match
	var qos uint8
	var packetIDAt uint32
	for i := range rt.matches {
		mt := &rt.matches[i]
		s := c.sessions.at(mt.session)
		var alias uint16
		if mt.form&formAlias != 0 {
			alias, _ = c.aliasIn(rt, mt.session, s)
		}
		if last == nil || alias != m.alias || !rt.sameForm(last, mt) {
			m.alias = alias
			open = c.endRun(open, r.count, r.stride)
			qos = min(r.qos, mt.form&3)
			packetIDAt = c.buildHead(&m, versionOf(mt.form), qos, false, rt.idsOf(*mt))
			last = mt
		}
		if qos > 0 && message == 0 {
			message = c.keepRun(r)
		}
		id, now := c.offerRun(mt.session, s, message, r, qos, rt.idsOf(*mt), p.conn)
		if !now {
			continue
		}
		if open < 0 {
			c.out, open = abi.BeginDeliver(c.out, m.source, qos, packetIDAt, m.payload, c.head)
		}
		c.out = abi.AppendTarget(c.out, s.conn, id)
	}
	c.endRun(open, r.count, r.stride)
	c.pauseSource()
	c.ackRun(p, r)
}

// offerRun takes a run on for a session, and says whether it goes now, and under which packet id its first message.
func (c *Core) offerRun(id uint32, s *session, message uint32, r *publishRun, qos uint8, ids []uint32, source abi.Conn) (first uint16, now bool) {
	if qos == 0 {
		if s.conn != 0 && s.blocked {
			c.stats.DroppedQoS0 += uint64(r.count)
			c.noteDropped(s)
		}
		return 0, s.conn != 0 && !s.blocked
	}
	ready := s.ready()
	n, d := c.newBundle(message, r.count, qos, ids)
	if !ready {
		c.enqueue(s, n, d)
		c.slowDown(id, s, source)
		return 0, false
	}
	c.takePacketIDs(s, n, d)
	return d.packetID, true
}

// ackRun acknowledges the messages of a run.
func (c *Core) ackRun(p *connection, r *publishRun) {
	first := firstPuback
	if r.qos == 2 {
		first = firstPubrec
	}
	if r.alike {
		c.replyRow(p.conn, first, binary.BigEndian.Uint16(c.batch[r.id:]), r.count)
		return
	}
	for at, n := r.id, r.count; n > 0; at, n = at+r.stride, n-1 {
		c.acks = append(c.acks, first, ackSize-2, c.batch[at], c.batch[at+1])
	}
}
