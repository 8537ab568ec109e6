package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// handlePublish handles a PUBLISH that begins at offset start of the batch.
func (c *Core) handlePublish(p *connection, frame []byte, start uint32) {
	req := &c.publish
	if fault := mqtt.ParsePublish(frame, p.version, req); fault != nil {
		c.failFault(p, fault)
		return
	}
	c.stats.Received++
	if p.version == mqtt.V5 && !c.resolveAlias(p, req) {
		return
	}
	if req.QoS == 2 && c.isReceived(p.session, req.PacketID) {
		c.reply(p, mqtt.PUBREC, req.PacketID, mqtt.Success) // a duplicate [MQTT-4.3.3-10]
		return
	}
	m := content{topic: req.Topic, qos: req.QoS, retain: req.Retain, source: p.conn, session: p.session}
	m.payload = abi.Ref{Offset: start + uint32(req.PayloadAt), Size: uint32(len(req.Payload))}
	if req.Props.Has&mqtt.ForwardProperties != 0 {
		req.Props.Has &= mqtt.ForwardProperties
		m.props, m.expires = &req.Props, c.expiryOf(&req.Props)
	}
	reason := c.accepted(p, &m, req)
	if reason == mqtt.Success {
		reason = c.take(p, &m)
	}
	c.answer(p, req.QoS, req.PacketID, reason)
}

// accepted says whether a connection may publish a message now. What is refused goes to nobody: a PUBACK or PUBREC
// with a failure ends the message (4.3.2, 4.3.3), and its sender may send it again.
func (c *Core) accepted(p *connection, m *content, req *mqtt.Publish) mqtt.ReasonCode {
	if c.config.Options.CheckPayload && falseText(&req.Props, req.Payload) {
		return mqtt.PayloadFormatInvalid
	}
	if m.qos == 0 {
		return mqtt.Success
	}
	// Messages of QoS 1 are acknowledged as they come; older clients know of no bound for them [MQTT-3.3.4-7].
	if c.sessions.at(p.session).receivedCount >= uint32(p.receiveMost) && (m.qos == 2 || p.version == mqtt.V5) {
		c.metBy(abi.LimitReceiveMaximum, p)
		return mqtt.ReceiveMaximumExceeded
	}
	if (c.full() || c.config.Limits.MaxModuleMemory != 0 && !c.roomForPublish(m)) && !m.clears() {
		c.metBy(abi.LimitMemory, p)
		return mqtt.QuotaExceeded
	}
	return mqtt.Success
}

// take hands a message to its receivers and says how it went.
func (c *Core) take(p *connection, m *content) mqtt.ReasonCode {
	id, stamp, reason := c.permittedRoute(p, m.topic)
	if reason != mqtt.Success {
		return reason
	}
	if m.props != nil || stamp != nil {
		m.props, m.propsSize = c.mark(m.props, stamp, &c.publish.Props), 0
	}
	if m.retain {
		if reason := c.setRetained(m); reason != mqtt.Success && !c.goesOn(m) {
			return reason
		}
	}
	if c.distribute(c.routes.at(id), m) == 0 {
		return mqtt.NoMatchingSubscribers
	}
	return mqtt.Success
}

// goesOn says whether a message goes to those who are subscribed although there is no room to retain it: at QoS 0 its
// sender cannot be told that it was refused, and a broker may discard a retained message of QoS 0 at any time
// ([MQTT-3.3.1-7] of MQTT 3.1.1). What was retained before goes too: it would pass for the latest.
func (c *Core) goesOn(m *content) bool {
	if m.qos > 0 {
		return false
	}
	if n := c.tree.find(m.topic); n != 0 {
		c.dropRetained(n)
	}
	return true
}

// answer acknowledges a PUBLISH, or says why it was refused.
func (c *Core) answer(p *connection, qos uint8, packetID uint16, reason mqtt.ReasonCode) {
	if p.version != mqtt.V5 {
		c.answerOld(p, qos, packetID, reason)
		return
	}
	switch {
	case reason == mqtt.ReceiveMaximumExceeded:
		c.fail(p, reason, "more messages are on their way than the receive maximum allows") // 3.3.4
	case qos == 1:
		c.reply(p, mqtt.PUBACK, packetID, reason)
	case qos == 2:
		if !reason.Failed() {
			c.addReceived(p.session, packetID)
		}
		c.reply(p, mqtt.PUBREC, packetID, reason)
	case reason == mqtt.TopicNameInvalid: // where there is no acknowledgement, only DISCONNECT can tell (3.14.2.1, 4.13.2)
		c.fail(p, reason, "the topic name is longer or has more levels than allowed")
	case reason == mqtt.PayloadFormatInvalid: // 3.3.2.3.2
		c.fail(p, reason, "the payload is not the UTF-8 that it claims to be")
	}
}

// answerOld is answer for MQTT 3.1 and 3.1.1, which have no word for a refusal: what the rules refuse is
// acknowledged and goes nowhere [MQTT311-3.3.5-2]; what the broker has no room for is not
// acknowledged, and the connection ends.
func (c *Core) answerOld(p *connection, qos uint8, packetID uint16, reason mqtt.ReasonCode) {
	if reason.Failed() && reason != mqtt.NotAuthorized && qos > 0 {
		c.fail(p, reason, "the message cannot be taken")
		return
	}
	switch qos {
	case 1:
		c.reply(p, mqtt.PUBACK, packetID, mqtt.Success)
	case 2:
		c.addReceived(p.session, packetID)
		c.reply(p, mqtt.PUBREC, packetID, mqtt.Success)
	}
}

// permittedRoute returns the route of a topic that a connection publishes to, if the rules allow it. The answer is
// remembered with the connection: most clients publish to a few topics again and again. Where messages are to be stamped it
// is not, so that none of them goes the short way.
func (c *Core) permittedRoute(p *connection, topic []byte) (route uint32, stamp []byte, reason mqtt.ReasonCode) {
	c.rejudge(p)
	c.trimRoutes()
	if id := c.knownRoute(p, topic); id != 0 {
		c.refresh(c.routes.at(id))
		return id, nil, mqtt.Success
	}
	if c.badTopic(topic) {
		c.metBy(abi.LimitTopic, p)
		return 0, nil, mqtt.TopicNameInvalid
	}
	stamp, ok := c.permitToPublish(p, topic)
	if !ok {
		c.deny(p, topic)
		return 0, nil, mqtt.NotAuthorized
	}
	id := c.routeTo(topic)
	if stamp == nil {
		p.recent[recentOf(topic)] = recent{hash: hashBytes(c.seed, topic), route: id, serial: c.routes.quickOf(id).serial}
	}
	return id, stamp, mqtt.Success
}

// recentOf returns where a connection remembers a topic.
func recentOf(topic []byte) int { return (len(topic) ^ int(topic[len(topic)-1])) % numRecent }
