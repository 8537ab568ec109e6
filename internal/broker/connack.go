package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// refuse answers a CONNECT with a failure and ends the connection [MQTT-3.1.4-2], [MQTT-3.2.2-7].
func (c *Core) refuse(p *connection, reason mqtt.ReasonCode, text string) {
	c.sendRefusal(p, reason.ForConnack(), text, "")
	c.refuseSilently(p, reason, text)
}

// refuseFull refuses a client because a limit is met, and sends it elsewhere if there is an elsewhere (4.11).
func (c *Core) refuseFull(p *connection, limit abi.LimitKind, clientID []byte) {
	c.met(limit, p, clientID)
	const text = "the broker keeps as much as it may"
	reference := c.config.Options.ServerReference
	if p.version == mqtt.V5 && reference != "" && c.sendRefusal(p, mqtt.UseAnotherServer, text, reference) {
		c.refuseSilently(p, mqtt.UseAnotherServer, text)
		return
	}
	c.refuse(p, mqtt.QuotaExceeded, text)
}

// refuseSilently ends a connection that gets no answer, or has got one.
func (c *Core) refuseSilently(p *connection, reason mqtt.ReasonCode, text string) {
	c.stats.Refused++
	c.note(abi.NoteRefused, p.conn, []byte(text))
	c.drop(p, reason, text)
}

// sendRefusal sends a CONNACK that is a failure, with a server reference if there is one. Without room for the
// reference nothing is sent.
func (c *Core) sendRefusal(p *connection, reason mqtt.ReasonCode, text, reference string) bool {
	c.connack.SessionPresent, c.connack.Reason = false, reason // [MQTT-3.2.2-6]
	props := &c.connack.Props
	props.Reset()
	c.refer(props, reference)
	c.explain(p, props, text)
	if c.sendConnack(p) {
		return true
	}
	props.Has = props.Has.Without(mqtt.PropReasonString) // [MQTT-3.2.2-19]
	return c.sendConnack(p)
}

// sendConnack sends c.connack if the client takes a packet of that size.
func (c *Core) sendConnack(p *connection) bool {
	return c.sendBounded(p, mqtt.AppendConnack(c.encoded[:0], p.version, &c.connack))
}

// sendDisconnect tells an MQTT 5 client why its connection ends, in as many words as it takes [MQTT-3.14.2-3].
func (c *Core) sendDisconnect(p *connection, reason mqtt.ReasonCode, text, reference string) {
	props := &c.parting
	props.Reset()
	c.refer(props, reference)
	c.explain(p, props, text)
	for _, least := range [...]mqtt.PropertySet{0, 1 << mqtt.PropReasonString, ^mqtt.PropertySet(0)} {
		props.Has &^= least
		if c.sendBounded(p, mqtt.AppendDisconnect(c.encoded[:0], p.version, reason, props)) {
			return
		}
	}
}

// sendBounded sends a packet, which it keeps as c.encoded, if the client takes one of that size [MQTT-3.1.2-24].
func (c *Core) sendBounded(p *connection, packet []byte) bool {
	c.encoded = packet
	if len(packet) == 0 || uint32(len(packet)) > p.maxPacket {
		return false
	}
	c.beginSend(p.conn)
	c.out = append(c.out, packet...)
	c.endSend()
	return true
}

// explain adds a reason string, unless the client wants none (3.1.2.11.7).
func (c *Core) explain(p *connection, props *mqtt.Properties, text string) {
	c.text = append(c.text[:0], text...)
	if p.version == mqtt.V5 && !p.terse && text != "" && mqtt.ValidText(c.text) {
		props.Has = props.Has.With(mqtt.PropReasonString)
		props.ReasonString = c.text
	}
}

// refer adds a server reference.
func (c *Core) refer(props *mqtt.Properties, reference string) {
	c.reference = append(c.reference[:0], reference...)
	if reference != "" && mqtt.ValidText(c.reference) {
		props.Has = props.Has.With(mqtt.PropServerReference)
		props.ServerReference = c.reference
	}
}

// accept answers a CONNECT with success.
func (c *Core) accept(p *connection, req *mqtt.Connect, present, madeID bool, answer *abi.AuthAnswer) {
	s := c.sessions.at(p.session)
	c.noteConnected(p, s, req, present)
	c.fillConnack(p, req, c.store.bytes(s.clientID), madeID, answer)
	c.connack.SessionPresent = present
	c.sendConnack(p) // takesConnack has seen that it fits
	if p.gated {
		c.effect(abi.EffectProceed, p.conn, 1, nil)
	}
}

// smallestConnack is the size of a CONNACK of MQTT 5 with nothing but a reason.
const smallestConnack = 5

// takesConnack refuses a client whose maximum packet size is less than its CONNACK [MQTT-3.1.2-24]. All other packets
// that have no list in them are smaller, or bounded when they are sent.
func (c *Core) takesConnack(p *connection, req *mqtt.Connect, clientID []byte, madeID bool, answer *abi.AuthAnswer) bool {
	c.fillConnack(p, req, clientID, madeID, answer)
	c.encoded = mqtt.AppendConnack(c.encoded[:0], p.version, &c.connack)
	switch {
	case uint32(len(c.encoded)) <= p.maxPacket:
		return true
	case p.maxPacket < smallestConnack:
		c.refuseSilently(p, mqtt.PacketTooLarge, "the client takes no CONNACK")
	default:
		c.refuse(p, mqtt.PacketTooLarge, "the CONNACK is larger than the client takes")
	}
	return false
}

// fillConnack prepares a CONNACK with success.
func (c *Core) fillConnack(p *connection, req *mqtt.Connect, clientID []byte, madeID bool, answer *abi.AuthAnswer) {
	c.connack.SessionPresent, c.connack.Reason = false, mqtt.Success
	props := &c.connack.Props
	props.Reset()
	if req.Version != mqtt.V5 {
		return
	}
	c.announce(props, req)
	c.announceAuth(p, props, answer)
	c.announceResponse(p, props, req, clientID)
	if madeID { // [MQTT-3.2.2-16]
		props.Has = props.Has.With(mqtt.PropAssignedClientIdentifier)
		props.AssignedClientIdentifier = clientID
	}
}

// announce tells an MQTT 5 client what the broker grants (3.2.2.3).
func (c *Core) announce(props *mqtt.Properties, req *mqtt.Connect) {
	l := &c.config.Limits
	props.Has = props.Has.With(mqtt.PropReceiveMaximum).With(mqtt.PropMaximumPacketSize).
		With(mqtt.PropTopicAliasMaximum).With(mqtt.PropSharedSubscriptionAvailable)
	props.ReceiveMaximum = l.ReceiveMaximum
	props.MaximumPacketSize = l.MaxPacketSize
	props.TopicAliasMaximum = l.TopicAliasMaximum
	props.SharedSubscriptionAvailable = true
	if requested := requestedExpiry(req); requested > l.MaxSessionExpiry {
		props.Has = props.Has.With(mqtt.PropSessionExpiryInterval)
		props.SessionExpiryInterval = l.MaxSessionExpiry
	}
	if keepAlive := c.keepAlive(req); keepAlive != req.KeepAlive {
		props.Has = props.Has.With(mqtt.PropServerKeepAlive)
		props.ServerKeepAlive = keepAlive
	}
}

// announceAuth repeats the method of enhanced authentication, and adds its last data [MQTT-4.12.0-5] and what else the
// host says. A client that has named no method is told none [MQTT-4.12.0-6].
func (c *Core) announceAuth(p *connection, props *mqtt.Properties, answer *abi.AuthAnswer) {
	if p.method.size == 0 {
		return
	}
	props.Has = props.Has.With(mqtt.PropAuthenticationMethod)
	props.AuthenticationMethod = c.store.bytes(p.method)
	if len(answer.Data) > 0 {
		props.Has = props.Has.With(mqtt.PropAuthenticationData)
		props.AuthenticationData = answer.Data
	}
	c.sayToClient(props, answer.Properties)
}

// announceResponse tells a client that asks for it below which topic it may have answers [MQTT-3.1.2-28].
func (c *Core) announceResponse(p *connection, props *mqtt.Properties, req *mqtt.Connect, clientID []byte) {
	prefix := c.config.Options.ResponsePrefix
	if prefix == "" || !req.Props.Has.Has(mqtt.PropRequestResponseInformation) || !req.Props.RequestResponseInformation {
		return
	}
	peer := c.peerOf(p)
	v := variables{clientID: clientID, user: peer.User}
	if len(peer.Identities) > 0 {
		v.identity = peer.Identities[0]
	}
	var ok bool
	if c.text, ok = v.expand(c.text[:0], prefix); ok && mqtt.ValidText(c.text) {
		props.Has = props.Has.With(mqtt.PropResponseInformation)
		props.ResponseInformation = c.text
	}
}
