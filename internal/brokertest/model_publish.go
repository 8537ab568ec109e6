package brokertest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// topic is never empty.
func (p *modelPlay) topic() string { return cmp.Or(RandomTopic(p.r), "a") }

// message makes a message that a client may publish.
func (p *modelPlay) message(c *modelClient) *modelMessage {
	msg := p.plain(c, p.topic(), byte(p.r.IntN(3)))
	msg.retain = p.r.IntN(4) == 0
	if p.tight && (c.number >= modelSharing || msg.qos == 0) {
		msg.retain = false // a refusal has no answer in MQTT 3.1.1 and at QoS 0
	}
	if p.r.IntN(12) == 0 {
		msg.big = true
		msg.payload += strings.Repeat("x", 2*modelSmall)
	}
	if c.version == mqtt.V5 && p.r.IntN(4) == 0 {
		msg.user = "v"
		if !p.tight || !msg.retain { // how retained messages that have expired count is not for the model to say
			msg.life = 1000 * int64(p.r.IntN(4))
		}
	}
	return msg
}

// plain makes a message without anything special. All have another payload of the same size.
func (p *modelPlay) plain(c *modelClient, topic string, qos byte) *modelMessage {
	p.count++
	return &modelMessage{from: c.id, topic: topic, payload: fmt.Sprintf("%s.%06d", c.id, p.count), qos: qos, life: modelNever}
}

func (msg *modelMessage) properties() *mqtt.Properties {
	props := &mqtt.Properties{}
	if msg.user != "" {
		props.Has = props.Has.With(mqtt.PropUserProperty)
		props.User = mqtt.AppendUser(nil, []byte("k"), []byte(msg.user))
	}
	if msg.life != modelNever {
		props.Has = props.Has.With(mqtt.PropMessageExpiryInterval)
		props.MessageExpiryInterval = uint32(msg.life / 1000)
	}
	return props
}

// publish publishes one message, sometimes an empty one that clears the retained message, and at QoS 2 sometimes twice.
// Messages for groups must be told from each other, the empty ones by their user properties.
func (p *modelPlay) publish(c *modelClient, msg *modelMessage) {
	if msg.retain && p.r.IntN(3) == 0 && (c.number < modelSharing || strings.HasPrefix(msg.topic, "$")) {
		if c.version == mqtt.V5 {
			msg.user = msg.payload[:len("c0.000000")]
		}
		msg.payload, msg.big = "", false
	}
	id := p.start(c, msg)
	p.send(c, msg, id, false)
	if msg.qos == 2 && p.r.IntN(6) == 0 {
		p.send(c, msg, id, true)
	}
}

// publishMany publishes messages that differ in their payloads and packet ids only, most of them to one topic. Cores take
// many of these at once where no group gets them, so most topics are out of reach of the groups' filters.
func (p *modelPlay) publishMany(c *modelClient) {
	topics := []string{"a/b", "$x/runs/a", "$x/runs/b"}
	topic, qos := topics[p.r.IntN(3)], byte(p.r.IntN(3))
	var packets [][]byte
	for range 2 + p.r.IntN(30) {
		if p.r.IntN(30) == 0 {
			topic = topics[p.r.IntN(3)]
		}
		msg := p.plain(c, topic, qos)
		packets = append(packets, p.prepare(c, msg, p.start(c, msg), false))
	}
	c.conn.Packets(packets...)
}

// start gives a message of QoS 1 or 2 a packet id, if there is one left; else it becomes QoS 0.
func (p *modelPlay) start(c *modelClient, msg *modelMessage) uint16 {
	if len(c.sent) >= modelIDs/2 {
		msg.qos = 0
		msg.retain = msg.retain && !p.tight // see message
	}
	if msg.qos == 0 {
		return 0
	}
	for c.lastID = c.lastID%modelIDs + 1; c.unfinished(c.lastID) != nil; {
		c.lastID = c.lastID%modelIDs + 1
	}
	c.sent = append(c.sent, &modelSent{id: c.lastID, msg: msg})
	return c.lastID
}

func (p *modelPlay) send(c *modelClient, msg *modelMessage, id uint16, dup bool) {
	c.conn.Packets(p.prepare(c, msg, id, dup))
}

// prepare makes the packet, and tells the model.
func (p *modelPlay) prepare(c *modelClient, msg *modelMessage, id uint16, dup bool) []byte {
	p.note("%s publishes %s=%.16q qos=%d id=%d retain=%v dup=%v life=%d user=%q", c.id, msg.topic, msg.payload, msg.qos, id, msg.retain, dup, msg.life, msg.user)
	packet := mqtt.Publish{Topic: []byte(msg.topic), Payload: []byte(msg.payload), QoS: msg.qos, Retain: msg.retain, PacketID: id, Dup: dup}
	if c.version == mqtt.V5 {
		packet.Props = *msg.properties()
		if !dup {
			p.alias(c, &packet)
		}
	}
	p.model.take(c.session, msg, id)
	return mqtt.AppendPublish(nil, c.version, &packet)
}

// alias lets a topic alias stand for the topic, sometimes.
func (p *modelPlay) alias(c *modelClient, packet *mqtt.Publish) {
	alias := p.r.IntN(modelAliases + 1)
	if alias == 0 || p.r.IntN(3) > 0 || packet.Props.Has == 0 && p.r.IntN(2) == 0 {
		return
	}
	packet.Props.Has = packet.Props.Has.With(mqtt.PropTopicAlias)
	packet.Props.TopicAlias = uint16(alias)
	if topic := string(packet.Topic); c.aliases[alias] == topic {
		packet.Topic = nil
	} else {
		c.aliases[alias] = topic
	}
}

// take is what a broker does with a PUBLISH.
func (m *model) take(s *modelSession, msg *modelMessage, id uint16) {
	reason, kind := mqtt.Success, mqtt.PUBACK
	if msg.qos == 2 {
		kind = mqtt.PUBREC
	}
	if msg.qos < 2 || !s.incoming[id] { // [MQTT-4.3.3-10]
		receivers, ok := m.publish(msg.born(m.now), false)
		switch {
		case !ok:
			reason = mqtt.QuotaExceeded
		case receivers == 0 && s.version == mqtt.V5:
			reason = mqtt.NoMatchingSubscribers
		}
		if ok && msg.qos == 2 {
			s.incoming[id] = true
		}
	}
	if msg.qos > 0 {
		s.answers = append(s.answers, answerText(kind, id, byte(reason)))
	}
}

// publishOwn lets the host publish.
func (p *modelPlay) publishOwn() {
	msg := p.plain(&modelClient{id: ""}, p.topic(), byte(p.r.IntN(3)))
	p.note("the host publishes %s=%q qos=%d", msg.topic, msg.payload, msg.qos)
	p.rig.Event(abi.EventPublish, 0, 0, abi.AppendPublication(nil, &abi.Publication{Topic: msg.topic, Payload: []byte(msg.payload), QoS: msg.qos}))
	p.model.publish(msg.born(p.model.now), false)
}

// acknowledge sends so many of the acknowledgements that a client owes, in or out of order, as one event.
func (p *modelPlay) acknowledge(c *modelClient, n int) {
	if p.r.IntN(4) == 0 {
		p.r.Shuffle(len(c.owed), func(i, j int) { c.owed[i], c.owed[j] = c.owed[j], c.owed[i] })
	}
	var packets [][]byte
	for _, o := range c.owed[:n] {
		reason := mqtt.Success
		if c.version == mqtt.V5 && p.r.IntN(20) == 0 && (o.kind == mqtt.PUBACK || o.kind == mqtt.PUBREC) {
			reason = mqtt.UnspecifiedError
		}
		packets = append(packets, p.acknowledgement(c, o, reason))
	}
	c.owed = slices.Clone(c.owed[n:])
	if len(packets) > 0 {
		c.conn.Packets(packets...)
	}
}

// acknowledgement makes a packet, and tells the model.
func (p *modelPlay) acknowledgement(c *modelClient, o modelOwed, reason mqtt.ReasonCode) []byte {
	p.note("%s acknowledges with %d id=%d reason=%d", c.id, o.kind, o.id, reason)
	if o.kind == mqtt.PUBREL {
		answer := mqtt.Success
		if !c.session.incoming[o.id] && c.version == mqtt.V5 {
			answer = mqtt.PacketIdentifierNotFound
		}
		delete(c.session.incoming, o.id)
		c.session.answers = append(c.session.answers, answerText(mqtt.PUBCOMP, o.id, byte(answer)))
	} else {
		c.session.acknowledge(o.kind, o.id, reason.Failed())
	}
	return mqtt.AppendAck(nil, c.version, o.kind, o.id, reason, nil)
}

func (p *modelPlay) release(c *modelClient, id uint16) {
	c.conn.Packets(p.acknowledgement(c, modelOwed{mqtt.PUBREL, id}, mqtt.Success))
}
