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
// The shape of this file is forced by speed: as WebAssembly every call and every access costs several times what
// it does natively (see BenchmarkPublish and the engine's BenchmarkStep), so one function takes a whole run of
// packets and calls nothing but the comparison of topics and the copying of bytes. What it does not recognise it
// leaves to the long way, which does the same for all packets.

// quickGroup is a delivery to all sessions of a route that get the same bytes, ready but for the numbers.
type quickGroup struct {
	effect  []byte // the whole effect
	sample  uint32 // number of one of its matches
	alias   uint16 // of the topic, 0 is none
	fixed   uint32 // the remaining length of the packet less that of the payload
	lengths uint32 // how many bytes the remaining length takes in effect
}

// quick is what the short way needs to know of a route.
type quick struct {
	generation uint32 // of the subscriptions and
	presence   uint32 // of the connections when this was made
	groups     []quickGroup
	usable     bool
	limit      uint32 // the largest payload that all receivers take, and whose packet's length takes two bytes
	targets    uint32 // in all groups
	missing    uint32 // receivers that take nothing now
}

// Offsets in an effect of the numbers that are filled in.
const (
	quickSource  = 4
	quickOffset  = abi.EffectHeaderSize + 4
	quickSize    = abi.EffectHeaderSize + 8
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
	batch, out := c.batch[:end], c.out
	limit := c.config.Limits.StepWork
	extra := uint32(0) // bytes between topic and payload
	if p.version == mqtt.V5 {
		extra = 1
	}
	for c.work < limit && end-at >= 8 && batch[at] == publishPlain {
		length, i := uint32(batch[at+1]), at+2
		if length >= 0x80 {
			length = length&0x7F | uint32(batch[i])<<7
			i++
			if length >= 1<<14 {
				break
			}
		}
		stop := i + length
		topicEnd := i + 2 + uint32(batch[i])<<8 + uint32(batch[i+1])
		if stop > end || topicEnd+extra > stop || topicEnd == i+2 || extra == 1 && batch[topicEnd] != 0 {
			break
		}
		id := c.knownRoute(p, batch[i+2:topicEnd])
		if id == 0 {
			break
		}
		rt := &c.routes.all[id]
		if rt.quick.generation != c.generation || rt.quick.presence != c.presence {
			c.fillQuick(rt)
		}
		payloadAt := topicEnd + extra
		size := stop - payloadAt
		if !rt.quick.usable || size > rt.quick.limit {
			break
		}
		for k := range rt.quick.groups {
			rt.quick.groups[k].prepare(p.conn, size)
		}
		// The packets behind it that have the same header and topic, byte for byte.
		header, total := batch[at:payloadAt], stop-at
		fit := 1 + (limit-min(c.work, limit))*quickly/(rt.quick.targets+1)
		n := uint32(1)
		for at += total; n < fit && end-at >= total && sameStart(batch[at:at+total], header); at += total {
			n++
		}
		for k := range rt.quick.groups {
			out = rt.quick.groups[k].appendRun(out, n, payloadAt, total)
		}
		handled += n
		c.work += 1 + n*(1+rt.quick.targets)/quickly
		c.stats.Sent += uint64(n) * uint64(rt.quick.targets)
		c.stats.DroppedQoS0 += uint64(n) * uint64(rt.quick.missing)
	}
	if handled > 0 {
		c.sendAt = 0
	}
	c.out = out
	c.stats.Received += uint64(handled)
	return at, handled
}

// quickly is how many deliveries of the short way are one unit of work.
const quickly = 8

// appendRun appends the effect for n payloads that follow each other at a distance.
func (g *quickGroup) appendRun(out []byte, n, payloadAt, distance uint32) []byte {
	at := len(out)
	out = append(out, g.effect...)
	binary.LittleEndian.PutUint32(out[at+quickOffset:], payloadAt)
	abi.SetRun(out, at, n, distance)
	return out
}

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

// prepare fills in the numbers that are the same for packets of one connection and size.
func (g *quickGroup) prepare(source abi.Conn, size uint32) {
	remaining := g.fixed + size
	if (remaining < 0x80) != (g.lengths == 1) {
		g.setLengthBytes(3 - g.lengths)
	}
	if g.lengths == 1 {
		g.effect[quickLength] = byte(remaining)
	} else {
		g.effect[quickLength] = byte(remaining) | 0x80
		g.effect[quickLength+1] = byte(remaining >> 7)
	}
	binary.LittleEndian.PutUint32(g.effect[quickSource:], uint32(source))
	binary.LittleEndian.PutUint32(g.effect[quickSize:], size)
}

// maxRemaining is the largest remaining length that two bytes can hold.
const maxRemaining = 1<<14 - 1

// fillQuick makes the effects of a route ready.
func (c *Core) fillQuick(rt *route) {
	c.refresh(rt)
	q := &rt.quick
	q.generation, q.presence = c.generation, c.presence
	q.groups, q.usable, q.limit, q.targets, q.missing = q.groups[:0], true, maxRemaining, 0, 0
	if len(rt.groups) > 0 { // who gets it is chosen for each message
		q.usable = false
		return
	}
	c.work += uint32(len(rt.matches))
	group := -1
	for i := range rt.matches {
		m := &rt.matches[i]
		s := c.sessions.at(m.session)
		switch {
		case m.whose != everybodys: // who gets it depends on who sends it
			q.groups, q.usable = q.groups[:0], false
			return
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
				q.groups, q.usable = q.groups[:0], false
				return
			}
		}
		if group < 0 || q.groups[group].alias != alias || !rt.sameBytes(m, q.groups[group].sample) {
			group = c.quickGroupOf(rt, uint32(i), alias)
		}
		g := &q.groups[group]
		if g.fixed > maxRemaining || s.maxPacket < g.fixed+3 { // not even an empty payload
			q.groups, q.usable = q.groups[:0], false
			return
		}
		g.effect = abi.AppendTarget(g.effect, s.conn, 0)
		q.targets++
		q.limit = min(q.limit, maxRemaining-g.fixed, s.maxPacket-g.fixed-3)
	}
	for i := range q.groups {
		abi.EndDeliver(q.groups[i].effect, 0)
	}
}

// sameBytes says whether a match gets the same bytes as match number i if the message is of QoS 0: then the granted
// QoS makes no difference.
func (rt *route) sameBytes(m *match, i uint32) bool {
	other := &rt.matches[i]
	return (m.form^other.form)&formV5 == 0 && m.count == other.count && slices.Equal(rt.idsOf(*m), rt.idsOf(*other))
}

// quickGroupOf returns the number of the group of match i, and makes it if there is none.
func (c *Core) quickGroupOf(rt *route, i uint32, alias uint16) int {
	q, m := &rt.quick, &rt.matches[i]
	for k := range q.groups {
		if q.groups[k].alias == alias && rt.sameBytes(m, q.groups[k].sample) {
			return k
		}
	}
	if len(q.groups) < cap(q.groups) { // keep the slice of a group that was here before
		q.groups = q.groups[:len(q.groups)+1]
	} else {
		q.groups = append(q.groups, quickGroup{})
	}
	c.buildHead(&content{topic: rt.name, alias: alias}, versionOf(m.form), 0, false, rt.idsOf(*m))
	g := &q.groups[len(q.groups)-1]
	g.sample, g.alias, g.lengths = i, alias, lengthBytes(c.head)
	g.fixed = uint32(len(c.head)) - 1 - g.lengths
	g.effect, _ = abi.BeginDeliver(g.effect[:0], 0, 0, 0, abi.Ref{}, c.head)
	return len(q.groups) - 1
}

// lengthBytes returns how many bytes the remaining length of a packet takes.
func lengthBytes(packet []byte) uint32 {
	n := uint32(1)
	for packet[n]&0x80 != 0 {
		n++
	}
	return n
}

// setLengthBytes makes room for a remaining length of n bytes in a group's effect.
func (g *quickGroup) setLengthBytes(n uint32) {
	from := quickLength + g.lengths
	g.effect = append(g.effect, 0)
	size := len(g.effect) - 1 + int(n) - int(g.lengths)
	copy(g.effect[quickLength+n:], g.effect[from:len(g.effect)-1])
	g.effect = g.effect[:size]
	g.lengths = n
	binary.LittleEndian.PutUint32(g.effect[quickHeadLen:], 1+n+g.fixed)
	abi.EndDeliver(g.effect, 0)
}
