package broker

import (
	"encoding/binary"
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The short way of a PUBLISH. Most packets that a broker sees are QoS 0, without retain flag and properties, to a
// topic that the same connection has published to before. For these the answer is known but for three numbers:
// who sent it, where its payload lies, and how long that is. So a route keeps the effects of such a packet, ready
// made, and publishing is copying them and writing the numbers: once for a whole run of packets that differ in their
// payloads only.
//
// The shape of this file is forced by speed. As WebAssembly every call costs several times what it does natively, and so
// does every jump, the more the more variables a function has, for Go compiles a jump into a table of all places that one
// may come from (see the engine's BenchmarkStep and BenchmarkTopics). Where that leads the processor foresees from the jumps
// before, and in an order of topics that is chance it cannot. So a whole run of packets is taken at once, what a function needs
// to know of it stands in memory, in plainRun, and functions are small. The usual case stands in the body of an if, where Go goes
// on without a jump; the few words of a topic need no loop; and numbers are computed rather than chosen.
// What is not recognised is left to the long way, which does the same for all packets.

// quick is what the short way needs to know of a route. It is a cache line, and all that a message to a topic with a name of
// moderate length and one receiver needs: with ten thousand topics, what a message costs is for the most part how many lines of
// memory it touches.
type quick struct {
	judged  uint64   // the judgement by which a connection may publish to it, the last that was asked; 0 is none
	made    uint32   // what Core.readiness was when this was made; 0 is never
	serial  uint32   // tells apart the topics that had this number; 0 is none
	only    abi.Conn // the receiver, if there is one, who gets neither identifiers nor an alias, and the topic is in the line
	chunk   uint32   // of the record, see recordOf; 0 is none
	at      uint32   // in the chunk
	effects uint32   // so many bytes of effects in the record
	room    uint16   // payloads must be smaller: all receivers take them, and the packet's length takes two bytes
	size    uint16   // of the topic
	next    uint16   // the route of the topic that the same connection published to behind this one last
	behind  uint8    // bytes behind the topic in the head for the only receiver: the length of no properties, in MQTT 5
	_       uint8
	name    [quickName]byte
}

const (
	quickSize = 64 // bytes that a quick takes in memory
	quickName = 24 // bytes of a topic that are in it; if it has more, they are in the record
)

// readiness tells apart the states of subscriptions and connections that make a difference to what is ready made: both numbers
// only grow.
func (c *Core) readiness() uint32 { return c.generation + c.presence }

// A record has all that is too much for the line of a route: who its effects are for, the topic if it is long, and the
// effects, ready but for the numbers.
const (
	recordMissing = 4 // behind the number of targets
	recordTopic   = 8
)

// recordOf returns the record of a route, no bytes if there is none.
func (r *routes) recordOf(q *quick) block {
	if q.chunk == 0 {
		return block{}
	}
	return block{q.chunk, q.at, q.effectsAt() + q.effects}
}

// effectsAt returns where in the record the effects begin.
func (q *quick) effectsAt() uint32 {
	if q.size <= quickName {
		return recordTopic
	}
	return recordTopic + uint32(q.size)
}

// nameOf returns the topic of a route.
func (r *routes) nameOf(q *quick) []byte {
	if q.size <= quickName {
		return q.name[:q.size]
	}
	at := q.at + recordTopic
	return r.ready.chunks[q.chunk-1][at : at+uint32(q.size)]
}

// isTopic says whether a topic is that of a route. It has no jumps for those in the line: they are three words, some of which overlap.
func (r *routes) isTopic(q *quick, topic []byte) bool {
	n := uint(len(topic)) - 8
	if n <= quickName-8 {
		diff := uint64(q.size) ^ uint64(len(topic))
		diff |= binary.LittleEndian.Uint64(q.name[:]) ^ binary.LittleEndian.Uint64(topic)
		diff |= binary.LittleEndian.Uint64(q.name[n/2:]) ^ binary.LittleEndian.Uint64(topic[n/2:])
		diff |= binary.LittleEndian.Uint64(q.name[n:]) ^ binary.LittleEndian.Uint64(topic[n:])
		return diff == 0
	}
	return sameBytes(r.nameOf(q), topic)
}

// effectsOf returns the effects of a route that has some.
func (r *routes) effectsOf(q *quick) []byte {
	at := q.at + q.effectsAt()
	return r.ready.chunks[q.chunk-1][at : at+q.effects]
}

// receivers are those of the effects of a route.
type receivers struct {
	targets uint32 // in all effects
	missing uint32 // those that take nothing now
}

// receiversOf returns the receivers of a route.
func (r *routes) receiversOf(q *quick) receivers {
	if q.chunk == 0 {
		return receivers{}
	}
	record := r.ready.chunks[q.chunk-1][q.at:]
	return receivers{binary.LittleEndian.Uint32(record), binary.LittleEndian.Uint32(record[recordMissing:])}
}

// Offsets in an effect of the numbers that are filled in.
const (
	quickSource  = 4
	quickData    = 8 // size of what follows the header
	quickOffset  = abi.EffectHeaderSize + 4
	quickPayload = abi.EffectHeaderSize + 8
	quickStride  = abi.EffectHeaderSize + 12
	quickCount   = abi.EffectHeaderSize + 16
	quickHeadLen = abi.EffectHeaderSize + 20
	quickTargets = abi.EffectHeaderSize + 24
	quickHead    = abi.EffectHeaderSize + abi.DeliverHeaderSize
	quickLength  = quickHead + 1 // of the packet, behind its first byte
	publishPlain = byte(mqtt.PUBLISH) << 4
)

// quickRun handles packets from offset at on as long as they can go the short way, and returns the offset of the
// first that cannot and how many it handled.
func (c *Core) quickRun(p *connection, at, end uint32) (next, handled uint32) {
	if p.session == 0 || p.rulesSerial != c.rulesSerial || c.longWay || c.routes.large() {
		return at, 0
	}
	r := &c.plain
	for c.roomForOnly(); c.work < c.config.Limits.StepWork && cap(c.out)-len(c.out) >= len(onlyEffect{}) && c.readPlain(p, at, end); {
		id := c.knownRoute(p, c.batch[r.topicAt:r.topicEnd])
		if id == 0 {
			break
		}
		q := c.routes.quickOf(id)
		if q.only != 0 && q.made == c.readiness() && r.size < uint32(q.room) {
			c.deliverOnly(p.conn, q, end)
		} else if !c.deliverReady(p.conn, id, end) {
			break
		}
		at += r.count * r.stride
		handled += r.count
	}
	if handled > 0 {
		c.sendAt = 0
	}
	c.stats.Received += uint64(handled)
	return at, handled
}

// deliverOnly delivers the packets of a run to the only receiver of a route.
func (c *Core) deliverOnly(source abi.Conn, q *quick, end uint32) {
	r := &c.plain
	if end-r.stop >= r.stride {
		c.countPlain(1, end)
	}
	c.appendOnly(source, q)
	c.work += 1 + 2*r.count/quickly
	c.stats.Sent += uint64(r.count)
}

// deliverReady delivers the packets of a run to all receivers of a route, and says whether it could.
func (c *Core) deliverReady(source abi.Conn, id, end uint32) bool {
	r, q := &c.plain, c.routes.quickOf(id)
	if q.made != c.readiness() {
		c.fillQuick(id)
	}
	if r.size >= uint32(q.room) {
		return false
	}
	if q.only != 0 {
		c.roomForOnly() // making it ready has appended to the output
		c.deliverOnly(source, q, end)
		return true
	}
	all := c.routes.receiversOf(q)
	if end-r.stop >= r.stride {
		c.countPlain(all.targets, end)
	}
	if q.effects > 0 {
		c.appendReady(source, q)
	}
	c.account(all, r.count)
	return true
}

// account counts n messages of the short way.
func (c *Core) account(all receivers, n uint32) {
	c.work += 1 + n*(1+all.targets)/quickly
	c.stats.Sent += uint64(n) * uint64(all.targets)
	c.stats.DroppedQoS0 += uint64(n) * uint64(all.missing)
}

// plainRun is a run of PUBLISH packets in the batch that differ in their payloads only.
type plainRun struct {
	start     uint32 // offset of the first packet
	topicAt   uint32
	topicEnd  uint32
	payloadAt uint32 // of the first packet
	stop      uint32 // end of the first packet
	size      uint32 // of each payload
	stride    uint32 // from one packet to the next
	count     uint32
}

// readPlain reads the packet at an offset into c.plain, and says whether it is one for the short way.
func (c *Core) readPlain(p *connection, at, end uint32) bool {
	if end-at < 8 || c.batch[at] != publishPlain {
		return false
	}
	b := c.batch[at:end]
	length, i := uint32(b[1]), uint32(2)
	if length >= 0x80 {
		length = length&0x7F | uint32(b[2])<<7
		if i = 3; length >= 1<<14 {
			return false
		}
	}
	stop := i + length
	topicEnd := i + 2 + uint32(b[i])<<8 + uint32(b[i+1])
	payload := topicEnd
	if p.version == mqtt.V5 {
		payload++ // the length of the properties
	}
	if stop > uint32(len(b)) || payload > stop || topicEnd == i+2 || payload != topicEnd && b[topicEnd] != 0 {
		return false
	}
	c.plain = plainRun{at, at + i + 2, at + topicEnd, at + payload, at + stop, stop - payload, stop, 1}
	return true
}

// countPlain counts the packets behind that in c.plain which have the same header and topic, byte for byte.
func (c *Core) countPlain(targets, end uint32) {
	r, batch := &c.plain, c.batch[:end]
	// A first look that costs little. All headers of batches and events are longer than eight bytes.
	if binary.LittleEndian.Uint64(batch[r.payloadAt-8:]) != binary.LittleEndian.Uint64(batch[r.payloadAt-8+r.stride:]) {
		return
	}
	limit := c.config.Limits.StepWork
	fit := 1 + (limit-min(c.work, limit))*quickly/(targets+1)
	header := batch[r.start:r.payloadAt]
	for at := r.stop; r.count < fit && end-at >= r.stride && sameStart(batch[at:], header); at += r.stride {
		r.count++
	}
}

// quickly is how many deliveries of the short way are one unit of work.
const quickly = 8

// onlyEffect is an effect of a route with one receiver, with the longest head that there can be, and what writing whole words may
// write behind a shorter one.
type onlyEffect [quickHead + 3 + 2 + quickName + 1 + abi.TargetSize]byte

// appendOnly appends the effect of a route with one receiver for the packets in c.plain, for which there must be room. All that it
// needs is in there and in the route's line. It has no jumps: as many bytes are written whatever is in them, and those that are not part of it are written
// over by what follows.
func (c *Core) appendOnly(source abi.Conn, q *quick) {
	r, start := &c.plain, len(c.out)
	remaining := uint32(q.size) + 2 + uint32(q.behind) + r.size
	two := (remaining + maxRemaining - 0x7F) >> 14 // 1 if its length takes two bytes
	head := 2 + two + remaining - r.size
	e := (*onlyEffect)(c.out[start : start+len(onlyEffect{})])
	c.out = c.out[:start+quickHead+int(head)+abi.TargetSize]
	binary.LittleEndian.PutUint64(e[:], uint64(abi.EffectDeliver)|uint64(source)<<32)
	binary.LittleEndian.PutUint64(e[quickData:], uint64(abi.DeliverHeaderSize+head+abi.TargetSize))
	binary.LittleEndian.PutUint64(e[abi.EffectHeaderSize:], uint64(r.payloadAt)<<32)
	binary.LittleEndian.PutUint64(e[quickPayload:], uint64(r.size)|uint64(r.stride)<<32)
	binary.LittleEndian.PutUint64(e[quickCount:], uint64(r.count)|uint64(head)<<32)
	binary.LittleEndian.PutUint32(e[quickTargets:], 1)
	e[quickHead], e[quickLength], e[quickLength+1] = publishPlain, byte(remaining)|byte(two<<7), byte(remaining>>7)
	b := (*onlyTopic)(e[quickLength+1+two:])
	binary.BigEndian.PutUint16(b[:], q.size)
	binary.LittleEndian.PutUint64(b[2:], binary.LittleEndian.Uint64(q.name[:]))
	binary.LittleEndian.PutUint64(b[2+8:], binary.LittleEndian.Uint64(q.name[8:]))
	binary.LittleEndian.PutUint64(b[2+16:], binary.LittleEndian.Uint64(q.name[16:]))
	e[quickHead+head-1] &= q.behind - 1 // behind the topic 0, if there is anything
	binary.LittleEndian.PutUint64(e[quickHead+head:], uint64(q.only))
}

// roomForOnly makes room for an effect of a route with one receiver.
func (c *Core) roomForOnly() { c.out = slices.Grow(c.out, len(onlyEffect{})) }

// onlyTopic is a topic that is in the line of its route, with its length, as it is in a packet.
type onlyTopic [2 + quickName]byte

// appendReady appends the effects of a route for the packets in c.plain.
func (c *Core) appendReady(source abi.Conn, q *quick) {
	r, start := &c.plain, len(c.out)
	c.out = append(c.out, c.routes.effectsOf(q)...)
	for rest := c.out[start:]; len(rest) > 0; {
		e := (*readyEffect)(rest)
		remaining := binary.LittleEndian.Uint32(e[quickHeadLen:]) - 2 + r.size
		if e[quickLength] >= 0x80 {
			remaining--
		}
		switch {
		case (remaining < 0x80) != (e[quickLength] < 0x80):
			c.out = c.out[:start]
			c.reshape(q, r.size)
			c.appendReady(source, q)
			return
		case remaining < 0x80:
			e[quickLength] = byte(remaining)
		default:
			e[quickLength] = byte(remaining) | 0x80
			e[quickLength+1] = byte(remaining >> 7)
		}
		binary.LittleEndian.PutUint32(e[quickSource:], uint32(source))
		binary.LittleEndian.PutUint32(e[quickOffset:], r.payloadAt)
		binary.LittleEndian.PutUint32(e[quickPayload:], r.size)
		binary.LittleEndian.PutUint32(e[quickStride:], r.stride)
		binary.LittleEndian.PutUint32(e[quickCount:], r.count)
		rest = rest[abi.EffectHeaderSize+binary.LittleEndian.Uint32(e[quickData:]):]
	}
}

// readyEffect is the beginning of an effect, up to the length of the packet. An array needs no look at its bounds.
type readyEffect [quickLength + 2]byte

// sameStart says whether b begins with header. It does without a call, and looks at eight bytes at a time.
func sameStart(b, header []byte) bool {
	if len(header) < 8 || len(b) < len(header) {
		return false
	}
	var diff uint64
	last := len(header) - 8
	for i := 0; i < last; i += 8 {
		diff |= binary.LittleEndian.Uint64(b[i:]) ^ binary.LittleEndian.Uint64(header[i:])
	}
	diff |= binary.LittleEndian.Uint64(b[last:]) ^ binary.LittleEndian.Uint64(header[last:])
	return diff == 0
}

// maxRemaining is the largest remaining length that two bytes can hold.
const maxRemaining = 1<<14 - 1

// quickGroup is a delivery to all sessions of a route that get the same bytes, while it is made.
type quickGroup struct {
	effect []byte // the whole effect
	sample uint32 // number of one of its matches
	alias  uint16 // of the topic, 0 is none
	fixed  uint32 // the remaining length of the packet less that of the payload
}

// quickGroupSize is how many bytes a quickGroup takes in memory.
const quickGroupSize = 40

// fillQuick makes the effects of a route ready.
func (c *Core) fillQuick(id uint32) {
	rt, q := c.routes.at(id), c.routes.quickOf(id)
	c.refresh(rt)
	q.made, q.only = c.readiness(), 0
	c.routes.making = c.routes.making[:0]
	room, all := c.makeGroups(rt)
	if room == 0 {
		all, c.routes.making = receivers{}, c.routes.making[:0]
	}
	q.room = uint16(room)
	if all == (receivers{targets: 1}) {
		c.chooseOnly(rt, q)
	}
	c.keepGroups(q, all)
}

// chooseOnly makes the one receiver of a route its only one, if it gets neither identifiers nor an alias.
func (c *Core) chooseOnly(rt *route, q *quick) {
	g := &c.routes.making[0]
	m := &rt.matches[g.sample]
	if m.count != 0 || g.alias != 0 || q.size > quickName {
		return
	}
	q.only, q.behind = c.sessions.at(m.session).conn, 0
	if m.form&formV5 != 0 {
		q.behind = 1
	}
	c.routes.making = c.routes.making[:0]
}

// makeGroups makes the effects of a route, and returns how large payloads must not be: 0 if who gets a message, or what,
// is to be found out for each.
func (c *Core) makeGroups(rt *route) (room uint32, all receivers) {
	if len(rt.groups) > 0 {
		return 0, all
	}
	c.work += uint32(len(rt.matches))
	room = maxRemaining + 1
	group := -1
	for i := range rt.matches {
		m := &rt.matches[i]
		s := c.sessions.at(m.session)
		switch {
		case m.whose != everybodys: // who gets it depends on who sends it
			return 0, all
		case s.conn == 0:
			continue
		case s.blocked:
			all.missing++
			c.noteDropped(s)
			continue
		}
		var alias uint16
		if m.form&formAlias != 0 {
			var free bool
			if alias, free = c.aliasIn(rt, m.session, s); free { // the next message sets it
				return 0, all
			}
		}
		if group < 0 || c.routes.making[group].alias != alias || !rt.sameBytes(m, c.routes.making[group].sample) {
			group = c.quickGroupOf(rt, uint32(i), alias)
		}
		g := &c.routes.making[group]
		if g.fixed > maxRemaining || s.maxPacket < g.fixed+3 { // not even an empty payload
			return 0, all
		}
		g.effect = abi.AppendTarget(g.effect, s.conn, 0)
		all.targets++
		room = min(room, maxRemaining-g.fixed+1, s.maxPacket-g.fixed-2)
	}
	return room, all
}

// keepGroups makes the record of a route of its receivers, its topic and the effects that were made, if it needs one.
func (c *Core) keepGroups(q *quick, all receivers) {
	r := &c.routes
	r.beginRecord(q, all)
	for i := range r.making {
		abi.EndDeliver(r.making[i].effect, 0)
		r.record = append(r.record, r.making[i].effect...)
	}
	if len(r.record) == recordTopic && (q.only != 0 || all == receivers{}) {
		r.record = r.record[:0]
	}
	r.keepRecord(q)
}

// beginRecord begins the record of a route.
func (r *routes) beginRecord(q *quick, all receivers) {
	r.record = binary.LittleEndian.AppendUint32(r.record[:0], all.targets)
	r.record = binary.LittleEndian.AppendUint32(r.record, all.missing)
	if q.size > quickName {
		r.record = append(r.record, r.nameOf(q)...)
	}
}

// keepRecord replaces the record of a route by what is in r.record.
func (r *routes) keepRecord(q *quick) {
	b := r.recordOf(q)
	if size := uint32(len(r.record)); size != b.size {
		r.ready.release(b)
		b = r.ready.alloc(size)
	}
	copy(r.ready.bytes(b), r.record)
	q.chunk, q.at, q.effects = b.chunk, b.at, 0
	if b.size > 0 {
		q.effects = b.size - q.effectsAt()
	}
}

// nameQuick gives a route that has no record its topic.
func (r *routes) nameQuick(q *quick, topic []byte) {
	if q.size = uint16(len(topic)); q.size <= quickName {
		copy(q.name[:], topic)
		return
	}
	r.record = append(append(r.record[:0], make([]byte, recordTopic)...), topic...)
	r.keepRecord(q)
}

// reshape makes each effect of a route have as many bytes for the remaining length of the packet as it takes with a
// payload of so many bytes.
func (c *Core) reshape(q *quick, size uint32) {
	r := &c.routes
	r.beginRecord(q, r.receiversOf(q))
	for rest := r.effectsOf(q); len(rest) > 0; {
		n := abi.EffectHeaderSize + binary.LittleEndian.Uint32(rest[quickData:])
		e := rest[:n]
		rest = rest[n:]
		at := len(r.record)
		r.record = append(r.record, e[:quickLength]...)
		lengths := uint32(1)
		if e[quickLength] >= 0x80 {
			lengths = 2
		}
		fixed := binary.LittleEndian.Uint32(e[quickHeadLen:]) - 1 - lengths
		wanted := lengthOf(fixed + size)
		r.record = append(r.record, []byte{0x80, 0}[2-wanted:]...)
		r.record = append(r.record, e[quickLength+lengths:]...)
		binary.LittleEndian.PutUint32(r.record[at+quickHeadLen:], 1+wanted+fixed)
		abi.EndDeliver(r.record, at)
	}
	r.keepRecord(q)
}

// lengthOf returns how many bytes a remaining length takes, which is not more than maxRemaining.
func lengthOf(remaining uint32) uint32 {
	if remaining < 0x80 {
		return 1
	}
	return 2
}

// sameBytes says whether a match gets the same bytes as match number i if the message is of QoS 0: then the granted
// QoS makes no difference.
func (rt *route) sameBytes(m *match, i uint32) bool {
	other := &rt.matches[i]
	return (m.form^other.form)&formV5 == 0 && m.count == other.count && slices.Equal(rt.idsOf(*m), rt.idsOf(*other))
}

// quickGroupOf returns the number of the group of match i, and makes it if there is none.
func (c *Core) quickGroupOf(rt *route, i uint32, alias uint16) int {
	r, m := &c.routes, &rt.matches[i]
	for k := range r.making {
		if r.making[k].alias == alias && rt.sameBytes(m, r.making[k].sample) {
			return k
		}
	}
	n := len(r.making)
	if n < cap(r.making) { // keep the slice of a group that was here before
		r.making = r.making[:n+1]
	} else {
		r.making = append(r.making, quickGroup{})
	}
	c.buildHead(&content{topic: rt.name, alias: alias}, versionOf(m.form), 0, false, rt.idsOf(*m))
	g := &r.making[n]
	g.sample, g.alias = i, alias
	g.fixed = uint32(len(c.head)) - 1 - lengthBytes(c.head)
	g.effect, _ = abi.BeginDeliver(g.effect[:0], 0, 0, 0, abi.Ref{}, c.head)
	return n
}

// lengthBytes returns how many bytes the remaining length of a packet takes.
func lengthBytes(packet []byte) uint32 {
	n := uint32(1)
	for packet[n]&0x80 != 0 {
		n++
	}
	return n
}
