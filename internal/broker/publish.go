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
	reason := c.accepted(p, &m)
	if reason == mqtt.Success {
		reason = c.take(p, &m)
	}
	c.answer(p, req.QoS, req.PacketID, reason)
}

// accepted says whether a connection may publish a message now.
func (c *Core) accepted(p *connection, m *content) mqtt.ReasonCode {
	if m.qos == 2 && c.sessions.at(p.session).receivedCount >= uint32(p.receiveMost) {
		return mqtt.ReceiveMaximumExceeded
	}
	if (m.qos > 0 || m.retain) && c.full() {
		return mqtt.QuotaExceeded
	}
	return mqtt.Success
}

// take hands a message to its receivers and says how it went.
func (c *Core) take(p *connection, m *content) mqtt.ReasonCode {
	id, reason := c.permittedRoute(p, m.topic)
	if reason != mqtt.Success {
		return reason
	}
	if m.retain {
		if reason := c.setRetained(m); reason != mqtt.Success {
			return reason
		}
	}
	if c.distribute(&c.routes.all[id], m) == 0 {
		return mqtt.NoMatchingSubscribers
	}
	return mqtt.Success
}

// answer acknowledges a PUBLISH, or says why it was refused.
func (c *Core) answer(p *connection, qos uint8, packetID uint16, reason mqtt.ReasonCode) {
	if p.version != mqtt.V5 {
		c.answerOld(p, qos, packetID, reason)
		return
	}
	switch {
	case reason == mqtt.ReceiveMaximumExceeded:
		c.fail(p, reason, "more QoS 2 messages are on their way than the receive maximum allows") // [MQTT-3.3.4-7]
	case qos == 1:
		c.reply(p, mqtt.PUBACK, packetID, reason)
	case qos == 2:
		if !reason.Failed() {
			c.addReceived(p.session, packetID)
		}
		c.reply(p, mqtt.PUBREC, packetID, reason)
	case reason == mqtt.TopicNameInvalid:
		c.fail(p, reason, "the topic name has too many levels")
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
// remembered with the connection: most clients publish to a few topics again and again.
func (c *Core) permittedRoute(p *connection, topic []byte) (route uint32, reason mqtt.ReasonCode) {
	c.rejudge(p)
	c.trimRoutes()
	r := &p.recent[recentOf(topic)]
	if r.serial != 0 && int(r.route) < len(c.routes.all) {
		rt := &c.routes.all[r.route]
		if rt.serial == r.serial && string(rt.name) == string(topic) {
			c.refresh(rt)
			return r.route, mqtt.Success
		}
	}
	if tooDeep(topic, c.config.Limits.MaxTopicLevels) {
		return 0, mqtt.TopicNameInvalid
	}
	if !c.mayPublish(p, topic) {
		c.deny(p)
		return 0, mqtt.NotAuthorized
	}
	id := c.routeTo(topic)
	*r = recent{route: id, serial: c.routes.all[id].serial}
	return id, mqtt.Success
}

// recentOf returns where a connection remembers a topic.
func recentOf(topic []byte) int { return (len(topic) ^ int(topic[len(topic)-1])) % numRecent }

// tooDeep says whether a topic name or filter has more levels than allowed.
func tooDeep(topic []byte, most uint16) bool {
	levels := 1
	for _, ch := range topic {
		if ch == '/' {
			levels++
		}
	}
	return most != 0 && levels > int(most)
}
