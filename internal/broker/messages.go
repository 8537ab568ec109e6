package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// content is a message on its way through a step: parts of the batch or of the store.
type content struct {
	topic   []byte
	props   *mqtt.Properties // those that go on to receivers; nil if there are none
	payload abi.Ref

	propsSize uint32 // bytes of the encoded properties, as far as size has measured them

	expires int64 // when it is worth nothing any more, in milliseconds; 0 is never
	qos     uint8
	retain  bool
	dup     bool

	source  abi.Conn // the connection that it came from, 0 if there is none
	session uint32   // its session
	kept    uint32   // number of the message in which it is kept, 0 if it is not

	alias     uint16 // what stands for the topic in the next head, 0 is nothing; see aliasout.go
	setsAlias bool   // from that head on
}

// message is a content that is kept: by deliveries, as a retained message, or as a will. It may have several payloads:
// it is then a run of messages that came together and differ in nothing else, see bundle.go.
type message struct {
	body    block // topic, encoded properties, payloads
	topic   uint32
	props   uint32
	payload uint32 // size of each payload
	stride  uint32 // from one payload to the next
	users   uint32 // how many keep it
	timer   uint32 // of its expiry, while it is retained; 0 is none
	expires int64
	qos     uint8
	retain  bool
}

// payloadOf returns the bytes that a reference names.
func (c *Core) payloadOf(r abi.Ref) []byte {
	if r.Size == 0 {
		return nil
	}
	if r.Space == 0 {
		return c.batch[r.Offset : r.Offset+r.Size]
	}
	return c.store.chunks[r.Space-1][r.Offset : r.Offset+r.Size]
}

// keep makes a message of a content, if it is not one already, for one more user.
func (c *Core) keep(m *content) uint32 {
	if m.kept == 0 {
		m.kept = c.createMessage(m, c.payloadOf(m.payload))
	}
	c.messages.at(m.kept).users++
	return m.kept
}

// createMessage makes a message that nobody uses yet.
func (c *Core) createMessage(m *content, payload []byte) uint32 {
	c.encoded = c.encoded[:0]
	if m.props != nil {
		c.encoded = mqtt.AppendProperties(c.encoded, m.props)
	}
	id, kept := c.messages.alloc()
	kept.topic, kept.props = uint32(len(m.topic)), uint32(len(c.encoded))
	kept.expires, kept.qos, kept.retain = m.expires, m.qos, m.retain
	kept.payload = uint32(len(payload))
	kept.body = c.store.alloc(kept.topic + kept.props + kept.payload)
	b := c.store.bytes(kept.body)
	n := copy(b, m.topic)
	n += copy(b[n:], c.encoded)
	copy(b[n:], payload)
	return id
}

// giveUp says that a user of a message no longer needs it. Its bytes stay until the next step: a delivery of this
// one may refer to them.
func (c *Core) giveUp(id uint32) {
	m := c.messages.at(id)
	m.users--
	if m.users == 0 {
		c.freed = append(c.freed, m.body)
		c.messages.release(id)
	}
}

// freeBodies frees the bytes of the messages that were given up in the last step: the host has carried out its
// effects.
func (c *Core) freeBodies() {
	for _, b := range c.freed {
		c.store.release(b)
	}
	c.freed = c.freed[:0]
}

// load makes a content of a message. Its properties are in c.props, until the next load.
func (c *Core) load(id uint32, m *content) { c.loadPart(id, 0, m) }

// loadPart is load with one of several payloads, from 0.
func (c *Core) loadPart(id uint32, part uint16, m *content) {
	kept := c.messages.at(id)
	b := c.store.bytes(kept.body)
	*m = content{topic: b[:kept.topic], expires: kept.expires, qos: kept.qos, retain: kept.retain, kept: id}
	start := kept.topic + kept.props
	at := kept.body.at + start + uint32(part)*kept.stride
	m.payload = abi.Ref{Space: kept.body.chunk, Offset: at, Size: kept.payload}
	if kept.props > 0 {
		mqtt.ParseProperties(b[kept.topic:start], mqtt.PublishProperties, &c.props) // what AppendProperties wrote
		m.props, m.propsSize = &c.props, kept.props
	}
}

// expired says whether a content is worth nothing any more.
func (m *content) expired(now int64) bool { return m.expires != 0 && m.expires <= now }

// clears says whether a message removes what is retained for its topic [MQTT-3.3.1-6].
func (m *content) clears() bool { return m.retain && m.payload.Size == 0 }

// expiryOf returns when a message with these properties expires.
func (c *Core) expiryOf(p *mqtt.Properties) int64 {
	if !p.Has.Has(mqtt.PropMessageExpiryInterval) {
		return 0
	}
	return c.now + int64(p.MessageExpiryInterval)*1000
}

// buildHead writes to c.head what comes before the payload of a PUBLISH, and returns where its packet id is.
func (c *Core) buildHead(m *content, v mqtt.Version, qos uint8, retain bool, ids []uint32) (packetIDAt uint32) {
	head := &c.outgoing
	head.Dup, head.QoS, head.Retain, head.Topic = m.dup, qos, retain, m.topic
	head.Props.Has = 0
	if v == mqtt.V5 && (m.props != nil || len(ids) > 0 || m.alias != 0) {
		c.headProperties(m, ids, &head.Props)
	}
	if m.alias != 0 && !m.setsAlias {
		head.Topic = nil // 3.3.2.1
	}
	var at int
	c.head, at = mqtt.AppendPublishHead(c.head[:0], v, head, int(m.payload.Size))
	return uint32(max(at, 0))
}

// headProperties fills p with the properties of a message as one receiver gets them.
func (c *Core) headProperties(m *content, ids []uint32, p *mqtt.Properties) {
	if m.props != nil {
		*p = *m.props
		p.Has &= mqtt.ForwardProperties
	}
	if m.expires != 0 { // [MQTT-3.3.2-6]
		left := max(m.expires-c.now, 0)
		p.Has = p.Has.With(mqtt.PropMessageExpiryInterval)
		p.MessageExpiryInterval = uint32((left + 999) / 1000)
	}
	if m.alias != 0 {
		p.Has = p.Has.With(mqtt.PropTopicAlias)
		p.TopicAlias = m.alias
	}
	p.SubscriptionIDs = ids
	if len(ids) > 0 { // [MQTT-3.3.4-3]
		p.Has = p.Has.With(mqtt.PropSubscriptionIdentifier)
	}
}

// keepIDs keeps subscription identifiers in the store.
func (c *Core) keepIDs(ids []uint32) block {
	b := c.store.alloc(uint32(4 * len(ids)))
	p := c.store.bytes(b)
	for i, id := range ids {
		binary.LittleEndian.PutUint32(p[4*i:], id)
	}
	return b
}

// loadIDs returns subscription identifiers that keepIDs kept, until the next call.
func (c *Core) loadIDs(b block) []uint32 {
	c.ids = c.ids[:0]
	for p := c.store.bytes(b); len(p) > 0; p = p[4:] {
		c.ids = append(c.ids, binary.LittleEndian.Uint32(p))
	}
	return c.ids
}
