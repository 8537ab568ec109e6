package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Topic aliases from the core to clients that allow them (3.3.2.3.4). They save the bytes of topic names that a client
// gets again and again.
//
// An alias is set by the second message on a topic, when the topic is worth being remembered (see routes.go), and stands
// for it until the connection ends: it is never set anew, so that effects that are ready made stay true. When a client's
// aliases are used up, its other topics go without.
//
// What sets an alias must be certain to be written, or all that uses it would be misread. Deliveries of QoS 1 and 2
// are, as is all that goes with EffectSend; deliveries of QoS 0 are not, for the host may drop them. Therefore a message
// of QoS 0 that sets an alias goes as EffectSend. What uses an alias may be dropped.
//
// Clients whose messages have the same form and whose alias is the same share a delivery, as all do; the others do not
// know of any of this.

// aliasOut is a topic that a session's client knows an alias for, on the connection that it has.
type aliasOut struct {
	session uint32
	hash    uint32 // of session and topic
	next    uint32 // of the session
	topic   block
	alias   uint16
}

const (
	minAliasTopic  = 4        // bytes of a topic that is not worth an alias, which takes three
	maxAliasSetter = 16 << 10 // bytes of a payload that may be copied to set one
	minAliasPacket = 1 << 17  // a smaller maximum packet size goes without aliases: those who set one are a little larger
)

// allowAliases notes how many aliases the client of a session wants [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11].
func (c *Core) allowAliases(s *session, req *mqtt.Connect) {
	var most uint16
	if req.Version == mqtt.V5 && req.Props.Has.Has(mqtt.PropTopicAliasMaximum) && s.maxPacket >= minAliasPacket {
		most = min(req.Props.TopicAliasMaximum, c.config.Limits.MaxAliasesOut)
	}
	if (most == 0) != (s.aliasMost == 0) && s.firstSubscription != 0 {
		c.generation++ // the form of its deliveries changes
	}
	s.aliasMost = most
}

// aliasOf returns the alias that a session's client knows for a topic with that hash, or 0.
func (c *Core) aliasOf(session uint32, topic []byte, topicHash uint32) uint16 {
	hash := hashPair(c.seed, session, topicHash)
	for n := c.byAliasOut.first(hash); n != 0; n = c.byAliasOut.next(n, hash) {
		a := c.aliasesOut.at(n)
		if a.session == session && string(c.store.bytes(a.topic)) == string(topic) {
			return a.alias
		}
	}
	return 0
}

// useAlias lets a message that goes to one session alone, which has aliases, use that of its topic, if there is one.
func (c *Core) useAlias(s *session, m *content) {
	m.alias = c.aliasOf(c.connectionOf(s.conn).session, m.topic, hashBytes(c.seed, m.topic))
}

// aliasIn returns the alias that a session's client knows for the topic of a route, or 0; open says that it may be
// given one.
func (c *Core) aliasIn(rt *route, id uint32, s *session) (alias uint16, open bool) {
	if rt.number == 0 || len(rt.name) <= minAliasTopic || s.conn == 0 {
		return 0, false
	}
	if s.aliasCount != 0 {
		alias = c.aliasOf(id, rt.name, rt.hash)
	}
	return alias, alias == 0 && s.aliasCount < s.aliasMost &&
		c.fits(c.aliasesOut.growth()+c.byAliasOut.growth()+c.store.growth(len(rt.name)), 0)
}

// maySet says whether a message may set an alias: it must be sent now, and as it is.
func (c *Core) maySet(s *session, m *content, qos uint8) bool {
	return m.payload.Size <= maxAliasSetter && (qos == 0 || s.ready())
}

// sendSetter sends a message to one session, with the alias that its topic has from now on.
func (c *Core) sendSetter(rt *route, mt *match, s *session, m *content, qos uint8) {
	m.alias, m.setsAlias = s.aliasCount+1, true // from 1 on [MQTT-3.3.2-8]
	ids, asPublished := rt.idsOf(*mt), mt.form&formRetain != 0
	at := c.buildHead(m, mqtt.V5, qos, m.retain && asPublished, ids)
	size := uint32(len(c.head)) + m.payload.Size
	if size > s.maxPacket { // it might still be taken without an alias
		m.alias, m.setsAlias = 0, false
		at = c.buildHead(m, mqtt.V5, qos, m.retain && asPublished, ids)
		size = uint32(len(c.head)) + m.payload.Size
	}
	sets := m.setsAlias
	m.alias, m.setsAlias = 0, false
	var packetID uint16
	if qos > 0 {
		packetID = c.offer(mt.session, s, m, qos, ids, asPublished, size)
	}
	if qos > 0 && packetID == 0 || size > s.maxPacket {
		return
	}
	if sets {
		c.setAliasOut(rt, mt.session, s)
	}
	if sets && qos == 0 {
		c.sendPlain(s, m)
		return
	}
	open := 0
	c.out, open = abi.BeginDeliver(c.out, m.source, qos, at, m.payload, c.head)
	c.out = abi.AppendTarget(c.out, s.conn, packetID)
	c.endDelivery(open)
}

// sendPlain sends the packet whose head is in c.head as bytes that the host does not drop.
func (c *Core) sendPlain(s *session, m *content) {
	c.sendAt = 0
	c.beginSend(s.conn)
	c.out = append(append(c.out, c.head...), c.payloadOf(m.payload)...)
	c.endSend()
	c.sendAt = 0
	c.work++
	c.stats.Sent++
}

// setAliasOut remembers that the next alias of a session stands for the topic of a route. What is ready made for the
// route is no longer right.
func (c *Core) setAliasOut(rt *route, id uint32, s *session) {
	s.aliasCount++
	n, a := c.aliasesOut.alloc()
	a.session, a.alias, a.next = id, s.aliasCount, s.firstAlias
	a.hash = hashPair(c.seed, id, rt.hash)
	a.topic = c.store.keep(rt.name)
	s.firstAlias = n
	c.byAliasOut.insert(a.hash, n)
	c.routes.quickOf(rt.number).made = 0
}

// dropAliasesOut forgets what a client knows aliases for: its connection has ended [MQTT-3.3.2-7].
func (c *Core) dropAliasesOut(s *session) {
	for n := s.firstAlias; n != 0; {
		a := c.aliasesOut.at(n)
		next := a.next
		c.byAliasOut.remove(a.hash, n)
		c.store.release(a.topic)
		c.aliasesOut.release(n)
		n = next
	}
	s.firstAlias, s.aliasCount = 0, 0
}
