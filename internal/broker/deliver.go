package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// distribute hands a message to the sessions and groups of a route and returns how many there are. The sessions are sorted
// by the form of what they get, so that each form is one delivery with many targets.
func (c *Core) distribute(rt *route, m *content) (receivers int) {
	c.sendAt = 0
	open := -1      // where the delivery of the current form begins
	var size uint32 // of the packet in this form
	var last *match // the match that the head was built for
	var packetIDAt uint32
	for i := range rt.matches {
		mt := &rt.matches[i]
		if mt.whose != everybodys && !mt.whose.includes(mt.session == m.session) {
			continue
		}
		receivers++
		s := c.sessions.at(mt.session)
		qos := min(m.qos, mt.form&3)
		if qos == 0 && (s.conn == 0 || s.blocked) {
			c.missed(s)
			continue
		}
		var alias uint16
		if mt.form&formAlias != 0 {
			var free bool
			if alias, free = c.aliasIn(rt, mt.session, s); free && c.maySet(s, m, qos) {
				open, last = c.endDelivery(open), nil
				c.sendSetter(rt, mt, s, m, qos)
				continue
			}
		}
		if last == nil || alias != m.alias || !rt.sameForm(last, mt) {
			open = c.endDelivery(open)
			m.alias = alias
			packetIDAt = c.buildHead(m, versionOf(mt.form), qos, m.retain && mt.form&formRetain != 0, rt.idsOf(*mt))
			size = uint32(len(c.head)) + m.payload.Size
			last = mt
		}
		var id uint16
		if qos > 0 {
			if id = c.offer(mt.session, s, m, qos, rt.idsOf(*mt), mt.form&formRetain != 0, size); id == 0 {
				continue
			}
		} else if size > s.maxPacket {
			continue // [MQTT-3.1.2-25]
		}
		if open < 0 {
			c.out, open = abi.BeginDeliver(c.out, m.source, qos, packetIDAt, m.payload, c.head)
		}
		c.out = abi.AppendTarget(c.out, s.conn, id)
	}
	c.endDelivery(open)
	m.alias = 0
	if len(rt.groups) > 0 {
		receivers += c.share(rt, m)
	}
	c.pauseSource()
	return receivers
}

// endDelivery completes the delivery that begins at open, if one does.
func (c *Core) endDelivery(open int) int {
	if open >= 0 {
		n := abi.EndDeliver(c.out, open)
		c.work += uint32(n)
		c.stats.Sent += uint64(n)
	}
	return -1
}

// versionOf returns a protocol version of the generation that a form is for.
func versionOf(form uint8) mqtt.Version {
	if form&formV5 != 0 {
		return mqtt.V5
	}
	return mqtt.V311
}

// missed counts a QoS 0 message that a session does not get because its connection takes nothing.
func (c *Core) missed(s *session) {
	if s.conn == 0 {
		return
	}
	c.stats.DroppedQoS0++
	c.noteDropped(s)
}

// noteDropped tells that a session loses messages, once until it has caught up.
func (c *Core) noteDropped(s *session) {
	if s.dropNoted || s.conn == 0 {
		return
	}
	s.dropNoted = true
	c.dropped = append(c.dropped, s.conn)
}

// deliverOne sends a message to one session alone.
func (c *Core) deliverOne(s *session, m *content, qos uint8, retain bool, ids []uint32, packetID uint16) {
	c.sendAt = 0
	at := c.buildHead(m, s.version, qos, retain, ids)
	open := 0
	c.out, open = abi.BeginDeliver(c.out, m.source, qos, at, m.payload, c.head)
	c.out = abi.AppendTarget(c.out, s.conn, packetID)
	c.endDelivery(open)
}

// sizeFor returns the size of the PUBLISH packet that deliverOne would send.
func (c *Core) sizeFor(s *session, m *content, qos uint8, retain bool, ids []uint32) uint32 {
	c.buildHead(m, s.version, qos, retain, ids)
	return uint32(len(c.head)) + m.payload.Size
}
