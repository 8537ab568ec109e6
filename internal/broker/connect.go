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
	req.Props.Reset() // the packet may be refused before its properties are read
	fault := mqtt.ParseConnect(frame, req)
	p.version = req.Version
	p.heed(&req.Props)
	switch {
	case fault != nil && req.Version == 0:
		c.refuseSilently(p, fault.Reason, fault.Text)
	case fault != nil: // [MQTT-3.1.4-1]
		c.refuse(p, fault.Reason, fault.Text)
	default:
		c.connectClient(p, frame, req)
	}
}

// heed notes how a client wants to be answered.
func (p *connection) heed(props *mqtt.Properties) {
	p.maxPacket = ^uint32(0)
	if props.Has.Has(mqtt.PropMaximumPacketSize) {
		p.maxPacket = props.MaximumPacketSize
	}
	p.terse = props.Has.Has(mqtt.PropRequestProblemInformation) && !props.RequestProblemInformation
}

// connectWork is how many units of work a CONNECT is, more than other packets.
const connectWork = 32

// connectClient handles a CONNECT that is well formed.
func (c *Core) connectClient(p *connection, frame []byte, req *mqtt.Connect) {
	c.work += connectWork
	method := req.Props.Has.Has(mqtt.PropAuthenticationMethod)
	switch {
	case method && !c.knowsMethod(req.Props.AuthenticationMethod):
		c.refuse(p, mqtt.BadAuthenticationMethod, "the authentication method is not known") // [MQTT-4.12.0-1]
	case method || p.gated:
		c.beginAuth(p, frame, req)
	default:
		c.admit(p, req, &abi.AuthAnswer{})
	}
}

// admit gives a client its session, if the rules name it and there is room. answer is what its CONNACK says of
// its authentication.
func (c *Core) admit(p *connection, req *mqtt.Connect, answer *abi.AuthAnswer) {
	clientID, made := req.ClientID, len(req.ClientID) == 0
	if made { // [MQTT-3.1.3-6], [MQTT-3.1.3-7]
		clientID = c.makeClientID()
	}
	if reason, text := c.objection(p, req, clientID); reason != mqtt.Success {
		c.refuse(p, reason, text)
		return
	}
	if !c.takesConnack(p, req, clientID, made, answer) {
		return
	}
	id, hash := c.findSession(clientID)
	if limit, ok := c.roomForClient(id, clientID, req); !ok {
		c.refuseFull(p, limit, clientID)
		return
	}
	present := false
	if id != 0 {
		id, hash = c.inherit(p, id, clientID, req.CleanStart)
		present = id != 0
	}
	if id == 0 {
		id = c.createSession(clientID, hash)
		c.sessions.at(id).owner = c.store.keep(c.ownerOf(p))
	}
	c.enter(id, p, req)
	c.reviewClient(p)
	c.accept(p, req, present, made, answer) // [MQTT-3.1.4-5]
	c.drain(id)
}

// objection says why the rules do not let a client in, or its will.
func (c *Core) objection(p *connection, req *mqtt.Connect, clientID []byte) (reason mqtt.ReasonCode, text string) {
	if !c.judge(p, clientID) {
		return mqtt.NotAuthorized, "no rule names this client"
	}
	if !req.HasWill {
		return mqtt.Success, ""
	}
	w := &req.Will
	switch {
	case !c.mayPublish(p, w.Topic):
		return mqtt.NotAuthorized, "the rules do not allow the topic of the will"
	case c.badTopic(w.Topic):
		c.met(abi.LimitTopic, p, clientID)
		return mqtt.TopicNameInvalid, "the topic of the will is longer or has more levels than allowed"
	case c.config.Options.CheckPayload && falseText(&w.Props, w.Payload): // 3.1.3.2.3
		return mqtt.PayloadFormatInvalid, "the payload of the will is not the UTF-8 that it claims to be"
	}
	return mqtt.Success, ""
}

// inherit takes a session from its connection, if it has one, and returns it for the client that has connected now: 0
// if that is to have a new one.
func (c *Core) inherit(p *connection, id uint32, clientID []byte, cleanStart bool) (_, hash uint32) {
	c.takeOver(c.sessions.at(id))
	if id, hash = c.findSession(clientID); id != 0 && (cleanStart || !c.owns(p, id)) { // [MQTT-3.1.2-4]
		c.endEarly(id)
		id = 0
	}
	return id, hash
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
	s.window, s.maxPacket = uint32(limits.MaxInflight), p.maxPacket
	if req.Props.Has.Has(mqtt.PropReceiveMaximum) { // [MQTT-3.3.4-9]
		s.window = min(s.window, uint32(req.Props.ReceiveMaximum))
	}
	p.aliasMost, p.receiveMost = limits.TopicAliasMaximum, limits.ReceiveMaximum
	c.allowAliases(s, req)
	p.overdue = int64(c.keepAlive(req)) * 1500 // one and a half times [MQTT-3.1.2-22]
	p.lastSeen = c.now
	c.watch(p)
	if req.HasWill {
		c.setWill(p, s, &req.Will)
	}
	c.restartOutbound(s)
	c.wakeScans(id)
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
