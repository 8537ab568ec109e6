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
// may come from (see the engine's BenchmarkStep and BenchmarkTopics). So a whole run of packets is taken at once, what a
// function needs to know of it stands in memory, in plainRun, and functions are small and without many branches.
// What is not recognised is left to the long way, which does the same for all packets.

// quick is what the short way needs to know of a route. It is a cache line: with ten thousand topics, what a message costs
// is for the most part how many lines of memory it touches.
type quick struct {
	generation uint32 // of the subscriptions and
	presence   uint32 // of the connections when this was made
	serial     uint32 // tells apart the topics that had this number; 0 is none
	name       uint32 // size of the topic
	judged     uint64 // the judgement by which a connection may publish to it, the last that was asked; 0 is none
	record     block  // the topic, and behind it
	effects    uint32 // so many bytes of effects, ready but for the numbers
	room       uint32 // payloads must be smaller: all receivers take them, and the packet's length takes two bytes
	groups     uint32 // effects
	targets    uint32 // in all effects
	missing    uint32 // receivers that take nothing now
	_          [8]byte
}

// quickSize is how many bytes a quick takes in memory.
const quickSize = 64

// nameOf returns the topic of a route.
func (r *routes) nameOf(q *quick) []byte {
	return r.ready.chunks[q.record.chunk-1][q.record.at : q.record.at+q.name]
}

// effectsOf returns the effects of a route.
func (r *routes) effectsOf(q *quick) []byte {
	at := q.record.at + q.name
	return r.ready.chunks[q.record.chunk-1][at : at+q.effects]
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
	for c.work < c.config.Limits.StepWork && c.readPlain(p, at, end) {
		id := c.knownRoute(p, c.batch[r.topicAt:r.topicEnd])
		if id == 0 {
			break
		}
		q := c.routes.quickOf(id)
		if q.generation != c.generation || q.presence != c.presence {
			c.fillQuick(id)
		}
		if r.size >= q.room {
			break
		}
		if end-r.stop >= r.stride {
			c.countPlain(q, end)
		}
		if q.effects > 0 {
			c.appendReady(p.conn, q)
		}
		at += r.count * r.stride
		handled += r.count
		c.account(q, r.count)
	}
	if handled > 0 {
		c.sendAt = 0
	}
	c.stats.Received += uint64(handled)
	return at, handled
}

// account counts n messages of the short way.
func (c *Core) account(q *quick, n uint32) {
	c.work += 1 + n*(1+q.targets)/quickly
	c.stats.Sent += uint64(n) * uint64(q.targets)
	c.stats.DroppedQoS0 += uint64(n) * uint64(q.missing)
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
func (c *Core) countPlain(q *quick, end uint32) {
	r, batch := &c.plain, c.batch[:end]
	// A first look that costs little. All headers of batches and events are longer than eight bytes.
	if binary.LittleEndian.Uint64(batch[r.payloadAt-8:]) != binary.LittleEndian.Uint64(batch[r.payloadAt-8+r.stride:]) {
		return
	}
	limit := c.config.Limits.StepWork
	fit := 1 + (limit-min(c.work, limit))*quickly/(q.targets+1)
	header := batch[r.start:r.payloadAt]
	for at := r.stop; r.count < fit && end-at >= r.stride && sameStart(batch[at:], header); at += r.stride {
		r.count++
	}
}

// quickly is how many deliveries of the short way are one unit of work.
const quickly = 8

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
	q.generation, q.presence = c.generation, c.presence
	q.targets, q.missing = 0, 0
	c.routes.making = c.routes.making[:0]
	room := c.makeGroups(rt, q)
	if room == 0 {
		q.targets, q.missing, c.routes.making = 0, 0, c.routes.making[:0]
	}
	q.room = room
	c.keepGroups(rt, q)
}

// makeGroups makes the effects of a route, and returns how large payloads must not be: 0 if who gets a message, or what,
// is to be found out for each.
func (c *Core) makeGroups(rt *route, q *quick) (room uint32) {
	if len(rt.groups) > 0 {
		return 0
	}
	c.work += uint32(len(rt.matches))
	room = maxRemaining + 1
	group := -1
	for i := range rt.matches {
		m := &rt.matches[i]
		s := c.sessions.at(m.session)
		switch {
		case m.whose != everybodys: // who gets it depends on who sends it
			return 0
		case s.conn == 0:
			continue
		case s.blocked:
			q.missing++
			c.noteDropped(s)
			continue
		}
		var alias uint16
		if m.form&formAlias != 0 {
			var free bool
			if alias, free = c.aliasIn(rt, m.session, s); free { // the next message sets it
				return 0
			}
		}
		if group < 0 || c.routes.making[group].alias != alias || !rt.sameBytes(m, c.routes.making[group].sample) {
			group = c.quickGroupOf(rt, uint32(i), alias)
		}
		g := &c.routes.making[group]
		if g.fixed > maxRemaining || s.maxPacket < g.fixed+3 { // not even an empty payload
			return 0
		}
		g.effect = abi.AppendTarget(g.effect, s.conn, 0)
		q.targets++
		room = min(room, maxRemaining-g.fixed+1, s.maxPacket-g.fixed-2)
	}
	return room
}

// keepGroups makes the record of a route of its topic and of the effects that were made.
func (c *Core) keepGroups(rt *route, q *quick) {
	r := &c.routes
	r.record = append(r.record[:0], rt.name...)
	for i := range r.making {
		abi.EndDeliver(r.making[i].effect, 0)
		r.record = append(r.record, r.making[i].effect...)
	}
	q.groups = uint32(len(r.making))
	c.keepRecord(q)
}

// keepRecord replaces the record of a route by what is in c.routes.record.
func (c *Core) keepRecord(q *quick) {
	r := &c.routes
	if uint32(len(r.record)) != q.record.size {
		r.ready.release(q.record)
		q.record = r.ready.alloc(uint32(len(r.record)))
	}
	copy(r.ready.bytes(q.record), r.record)
	q.effects = uint32(len(r.record)) - q.name
}

// reshape makes each effect of a route have as many bytes for the remaining length of the packet as it takes with a
// payload of so many bytes.
func (c *Core) reshape(q *quick, size uint32) {
	r := &c.routes
	r.record = append(r.record[:0], r.nameOf(q)...)
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
	c.keepRecord(q)
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
