package broker

import (
	"strconv"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// firstPacket handles the first packet of a connection, which must be a CONNECT [MQTT-3.1.0-1].
func (c *Core) firstPacket(p *connection, frame []byte) {
	if mqtt.TypeOf(frame) != mqtt.CONNECT {
		c.refuseSilently(p, mqtt.ProtocolError, "the first packet is not a CONNECT")
		return
	}
	req := &c.connect
	fault := mqtt.ParseConnect(frame, req)
	p.version = req.Version
	if fault == nil && req.Version == mqtt.V5 && req.Props.Has.Has(mqtt.PropMaximumPacketSize) {
		p.maxPacket = req.Props.MaximumPacketSize
	}
	switch {
	case fault != nil && req.Version == 0:
		c.refuseSilently(p, fault.Reason, fault.Text)
	case fault != nil:
		c.refuse(p, fault.Reason, fault.Text)
	default:
		c.connectClient(p, req)
	}
}

// refuseSilently ends a connection that has not sent a CONNECT worth an answer.
func (c *Core) refuseSilently(p *connection, reason mqtt.ReasonCode, text string) {
	c.stats.Refused++
	c.note(abi.NoteRefused, p.conn, []byte(text))
	c.drop(p, reason, text)
}

// refuse answers a CONNECT with a failure and ends the connection [MQTT-3.2.2-7].
func (c *Core) refuse(p *connection, reason mqtt.ReasonCode, text string) {
	c.connack.SessionPresent, c.connack.Reason = false, reason
	c.connack.Props.Reset()
	c.head = mqtt.AppendConnack(c.head[:0], p.version, &c.connack)
	if p.takes(len(c.head)) { // [MQTT-3.1.2-24]
		c.beginSend(p.conn)
		c.out = append(c.out, c.head...)
		c.endSend()
	}
	c.refuseSilently(p, reason, text)
}

// connectClient handles a CONNECT that is well formed.
func (c *Core) connectClient(p *connection, req *mqtt.Connect) {
	clientID, made := req.ClientID, false
	if len(clientID) == 0 {
		if req.Version != mqtt.V5 && !req.CleanStart { // [MQTT-3.1.3-8] of MQTT 3.1.1
			c.refuse(p, mqtt.ClientIdentifierNotValid, "a client id is needed to keep a session")
			return
		}
		clientID, made = c.makeClientID(), true
	}
	if req.Props.Has.Has(mqtt.PropAuthenticationMethod) {
		c.refuse(p, mqtt.BadAuthenticationMethod, "the authentication method is not known") // [MQTT-4.12.0-1]
		return
	}
	if !c.judge(p, clientID) {
		c.refuse(p, mqtt.NotAuthorized, "no rule names this client")
		return
	}
	if req.HasWill && !c.mayPublish(p, req.Will.Topic) {
		c.refuse(p, mqtt.NotAuthorized, "the rules do not allow the topic of the will")
		return
	}
	if req.HasWill && !c.acceptableWill(p, clientID, &req.Will) {
		return
	}
	id, hash := c.findSession(clientID)
	if id == 0 && !c.roomForSession(p, clientID) {
		c.refuse(p, mqtt.QuotaExceeded, "the broker keeps as many sessions as it may")
		return
	}
	present := false
	if id != 0 {
		c.takeOver(c.sessions.at(id))
		if id, hash = c.findSession(clientID); id != 0 && (req.CleanStart || !c.owns(p, id)) { // [MQTT-3.1.2-4]
			c.endEarly(id)
			id = 0
		}
		present = id != 0
	}
	if id == 0 {
		id = c.createSession(clientID, hash)
		c.sessions.at(id).owner = c.store.keep(c.ownerOf(p))
	}
	c.enter(id, p, req)
	c.review(p)
	c.accept(p, req, present, made)
	if p.session == id {
		c.drain(id)
	}
}

const hexDigits = "0123456789abcdef"

// makeClientID makes a client id that no other client has been given: random, with a number so that no two of
// one batch are the same.
func (c *Core) makeClientID() []byte {
	c.assigned++
	id := append(c.clientID[:0], "vouchmq-"...)
	for _, b := range c.entropy[8:20] {
		id = append(id, hexDigits[b>>4], hexDigits[b&15])
	}
	id = strconv.AppendUint(append(id, '-'), uint64(c.assigned), 36)
	c.clientID = id
	return id
}

// takeOver ends the connection that a session has [MQTT-3.1.4-3].
func (c *Core) takeOver(s *session) {
	if old := c.connectionOf(s.conn); old != nil {
		c.disconnectClient(old, mqtt.SessionTakenOver, "another connection took over the session")
	}
}

// enter gives a session its connection, with what the CONNECT asks for.
func (c *Core) enter(id uint32, p *connection, req *mqtt.Connect) {
	c.resumeSession(id, p)
	s, limits := c.sessions.at(id), &c.config.Limits
	s.expiry = min(requestedExpiry(req), limits.MaxSessionExpiry)
	s.window, s.maxPacket = uint32(limits.MaxInflight), ^uint32(0)
	if has := req.Props.Has; req.Version == mqtt.V5 {
		if has.Has(mqtt.PropReceiveMaximum) { // [MQTT-3.3.4-9]
			s.window = min(s.window, uint32(req.Props.ReceiveMaximum))
		}
		if has.Has(mqtt.PropMaximumPacketSize) {
			s.maxPacket = req.Props.MaximumPacketSize
		}
	}
	p.aliasMost, p.receiveMost = limits.TopicAliasMaximum, limits.ReceiveMaximum
	c.allowAliases(s, req)
	p.overdue = int64(c.keepAlive(req)) * 1500 // one and a half times [MQTT-3.1.2-22]
	p.lastSeen = c.now
	c.watch(p)
	if req.HasWill {
		c.setWill(s, &req.Will)
	}
	c.restartOutbound(s)
	c.unparkScans(id)
}

// requestedExpiry returns the session expiry interval that a CONNECT asks for, in seconds.
func requestedExpiry(req *mqtt.Connect) uint32 {
	switch {
	case req.Version != mqtt.V5 && !req.CleanStart:
		return forever // 3.1.2.4 of MQTT 3.1.1
	case req.Version == mqtt.V5 && req.Props.Has.Has(mqtt.PropSessionExpiryInterval):
		return req.Props.SessionExpiryInterval
	}
	return 0
}

// keepAlive returns the keep-alive of a client in seconds, 0 for none. An MQTT 5 client is told if it is not
// what it asked for; an older one cannot be told.
func (c *Core) keepAlive(req *mqtt.Connect) uint16 {
	most := c.config.Limits.MaxKeepAlive
	if req.Version != mqtt.V5 || most == 0 || req.KeepAlive != 0 && req.KeepAlive <= most {
		return req.KeepAlive
	}
	return most
}

// accept answers a CONNECT with success.
func (c *Core) accept(p *connection, req *mqtt.Connect, present, madeID bool) {
	s := c.sessions.at(p.session)
	clientID := c.store.bytes(s.clientID)
	c.noteConnected(p, s, req, present)
	c.connack.SessionPresent, c.connack.Reason = present, mqtt.Success
	c.connack.Props.Reset()
	if req.Version == mqtt.V5 {
		c.announce(&c.connack.Props, req, s)
		if madeID { // [MQTT-3.2.2-16]
			c.connack.Props.Has = c.connack.Props.Has.With(mqtt.PropAssignedClientIdentifier)
			c.connack.Props.AssignedClientIdentifier = clientID
		}
	}
	c.sendConnack(p)
}

// sendConnack sends c.connack, unless it is larger than the client takes: then there is nothing to say to it
// [MQTT-3.1.2-24].
func (c *Core) sendConnack(p *connection) {
	c.head = mqtt.AppendConnack(c.head[:0], p.version, &c.connack)
	if !p.takes(len(c.head)) {
		c.drop(p, mqtt.PacketTooLarge, "CONNACK is larger than the client takes")
		return
	}
	c.beginSend(p.conn)
	c.out = append(c.out, c.head...)
	c.endSend()
}

// noteConnected tells the host that a client has been accepted.
func (c *Core) noteConnected(p *connection, s *session, req *mqtt.Connect, present bool) {
	var peer abi.Peer
	_ = abi.ReadPeer(c.store.bytes(p.peer), &peer) // was read by judge
	c.encoded = abi.AppendConnected(c.encoded[:0], &abi.Connected{
		ClientID: string(c.store.bytes(s.clientID)), User: peer.User, Version: uint8(p.version), KeepAlive: c.keepAlive(req),
		CleanStart: req.CleanStart, SessionPresent: present, Expiry: s.expiry,
	})
	c.note(abi.NoteConnected, p.conn, c.encoded)
}

// announce tells an MQTT 5 client what the broker grants (3.2.2.3).
func (c *Core) announce(props *mqtt.Properties, req *mqtt.Connect, s *session) {
	l := &c.config.Limits
	props.Has = props.Has.With(mqtt.PropReceiveMaximum).With(mqtt.PropMaximumPacketSize).
		With(mqtt.PropTopicAliasMaximum).With(mqtt.PropSharedSubscriptionAvailable)
	props.ReceiveMaximum = l.ReceiveMaximum
	props.MaximumPacketSize = l.MaxPacketSize
	props.TopicAliasMaximum = l.TopicAliasMaximum
	props.SharedSubscriptionAvailable = false
	if s.expiry != requestedExpiry(req) {
		props.Has = props.Has.With(mqtt.PropSessionExpiryInterval)
		props.SessionExpiryInterval = s.expiry
	}
	if keepAlive := c.keepAlive(req); keepAlive != req.KeepAlive {
		props.Has = props.Has.With(mqtt.PropServerKeepAlive)
		props.ServerKeepAlive = keepAlive
	}
}

// handleDisconnect ends a connection as its client wishes (3.14).
func (c *Core) handleDisconnect(p *connection, frame []byte) {
	req := &c.disconnect
	if fault := mqtt.ParseDisconnect(frame, p.version, req); fault != nil {
		c.failFault(p, fault)
		return
	}
	s := c.sessions.at(p.session)
	if req.Props.Has.Has(mqtt.PropSessionExpiryInterval) {
		if s.expiry == 0 && req.Props.SessionExpiryInterval != 0 { // 3.14.2.2.2
			c.fail(p, mqtt.ProtocolError, "DISCONNECT asks to keep a session that CONNECT did not")
			return
		}
		s.expiry = min(req.Props.SessionExpiryInterval, c.config.Limits.MaxSessionExpiry)
	}
	if req.Reason == mqtt.NormalDisconnection { // [MQTT-3.14.4-3]
		c.dropWill(s)
	}
	c.flushAcks(p.conn)
	p.orderly = true
	c.drop(p, mqtt.NormalDisconnection, "the client disconnected")
}
