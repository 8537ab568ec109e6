package broker

import (
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The core decides nothing about who a client is. Where the host wants to, it is asked: at CONNECT, at each AUTH of
// enhanced authentication (4.12), and when a client that is connected authenticates anew (4.12.1). The CONNECT is kept
// until the answer is there, and read again then.

// authState tells who is to speak next while a client is being authenticated.
type authState uint8

const (
	authIdle   authState = iota // nobody
	authHost                    // the host: it has been asked
	authClient                  // the client: it has been challenged
)

// knowsMethod says whether the host knows a method of enhanced authentication.
func (c *Core) knowsMethod(method []byte) bool {
	return len(method) > 0 && slices.Contains(c.config.Options.Methods, string(method))
}

// heldShare is which part of the memory for messages may be taken by CONNECTs of clients that nobody knows yet: they must
// not be able to fill it.
const heldShare = 8

// beginAuth keeps a CONNECT and asks the host about it.
func (c *Core) beginAuth(p *connection, frame []byte, req *mqtt.Connect) {
	if id, _ := c.findSession(req.ClientID); id == 0 && c.full() {
		c.refuseFull(p, abi.LimitMemory, req.ClientID)
		return
	}
	if c.heldBytes+len(frame) > int(c.config.Limits.MaxMemory/heldShare) {
		c.refuse(p, mqtt.ServerBusy, "too many clients are being authenticated")
		return
	}
	c.heldBytes += len(frame)
	p.held = c.store.keep(frame)
	if req.Props.Has.Has(mqtt.PropAuthenticationMethod) {
		p.method = c.store.keep(req.Props.AuthenticationMethod)
	}
	c.askHost(p, authRequest(abi.AuthConnect, req))
}

// authRequest returns what a CONNECT says of its client.
func authRequest(stage abi.AuthStage, req *mqtt.Connect) *abi.AuthRequest {
	a := &abi.AuthRequest{
		Stage: stage, ClientID: string(req.ClientID),
		HasUser: req.HasUsername, User: string(req.Username), HasPassword: req.HasPassword, Password: req.Password,
	}
	if has := req.Props.Has; has.Has(mqtt.PropAuthenticationMethod) {
		a.Method = string(req.Props.AuthenticationMethod)
		if has.Has(mqtt.PropAuthenticationData) {
			a.Data = req.Props.AuthenticationData
		}
	}
	return a
}

// askHost asks who the client of a connection is.
func (c *Core) askHost(p *connection, a *abi.AuthRequest) {
	p.auth = authHost
	c.encoded = abi.AppendAuthRequest(c.encoded[:0], a)
	c.effect(abi.EffectAuthenticate, p.conn, 0, c.encoded)
}

// packetDuringAuth handles a packet that comes between CONNECT and CONNACK.
func (c *Core) packetDuringAuth(p *connection, frame []byte) {
	switch mqtt.TypeOf(frame) {
	case mqtt.AUTH:
		c.handleAuth(p, frame)
	case mqtt.DISCONNECT:
		c.drop(p, mqtt.NormalDisconnection, "the client disconnected before it was authenticated")
	default: // [MQTT-3.1.2-30], [MQTT-3.1.4-6]
		c.refuse(p, mqtt.ProtocolError, "a packet other than AUTH or DISCONNECT before CONNACK")
	}
}

// handleAuth handles an AUTH (3.15).
func (c *Core) handleAuth(p *connection, frame []byte) {
	req := &c.auth
	if fault := mqtt.ParseAuth(frame, p.version, req); fault != nil {
		c.failAuth(p, fault.Reason, fault.Text)
		return
	}
	switch {
	case p.method.size == 0: // [MQTT-4.12.0-7]
		c.failAuth(p, mqtt.ProtocolError, "AUTH without an authentication method in CONNECT")
	case string(req.Props.AuthenticationMethod) != string(c.store.bytes(p.method)): // [MQTT-4.12.0-5], [MQTT-4.12.1-1]
		c.failAuth(p, mqtt.ProtocolError, "AUTH with another authentication method than CONNECT")
	case req.Reason == mqtt.ContinueAuthentication && p.auth == authClient: // [MQTT-4.12.0-3]
		c.askAgain(p, abi.AuthContinue, req)
	case req.Reason == mqtt.ReAuthenticate && p.auth == authIdle && p.session != 0:
		c.askAgain(p, abi.AuthReconnect, req)
	default:
		c.failAuth(p, mqtt.ProtocolError, "AUTH out of turn")
	}
}

// failAuth ends a connection because of an AUTH: with CONNACK or with DISCONNECT, whichever is due.
func (c *Core) failAuth(p *connection, reason mqtt.ReasonCode, text string) {
	if p.session == 0 {
		c.refuse(p, reason, text)
		return
	}
	c.fail(p, reason, text)
}

// askAgain asks the host about an AUTH.
func (c *Core) askAgain(p *connection, stage abi.AuthStage, req *mqtt.Auth) {
	a := &abi.AuthRequest{Stage: stage}
	if p.session == 0 {
		mqtt.ParseConnect(c.store.bytes(p.held), &c.connect) // cannot fail: it did not before
		a.ClientID = string(c.connect.ClientID)
	} else {
		a.ClientID = string(c.store.bytes(c.sessions.at(p.session).clientID))
		a.User = c.peerOf(p).User
		a.HasUser = a.User != ""
	}
	a.Method = string(c.store.bytes(p.method))
	if req.Props.Has.Has(mqtt.PropAuthenticationData) {
		a.Data = req.Props.AuthenticationData
	}
	c.askHost(p, a)
}

// authenticated handles the host's answer. One that nobody waits for any more means nothing.
func (c *Core) authenticated(e *abi.Event) {
	p := c.connectionOf(e.Conn)
	if p == nil || p.auth != authHost {
		return
	}
	c.work++
	p.auth = authIdle
	var answer abi.AuthAnswer
	reason := mqtt.ReasonCode(e.Arg)
	if abi.ReadAuthAnswer(e.Data, &answer) != nil || !p.allowsAnswer(e.Arg) {
		reason, answer = mqtt.UnspecifiedError, abi.AuthAnswer{}
	}
	switch {
	case reason == mqtt.ContinueAuthentication:
		c.challenge(p, &answer)
	case reason.Failed():
		c.reject(p, reason, answer.Reason)
	case p.session == 0:
		c.letIn(p, &answer)
	default:
		c.renew(p, &answer)
	}
}

// allowsAnswer says whether the host may answer with a reason code.
func (p *connection) allowsAnswer(reason uint32) bool {
	switch reason {
	case uint32(mqtt.Success):
		return true
	case uint32(mqtt.ContinueAuthentication):
		return p.method.size > 0 // [MQTT-4.12.0-6]
	}
	return reason >= uint32(mqtt.UnspecifiedError) && reason <= 0xFF
}

// challenge sends a client what it is to answer [MQTT-4.12.0-2].
func (c *Core) challenge(p *connection, answer *abi.AuthAnswer) {
	if !c.sendAuth(p, mqtt.ContinueAuthentication, answer) {
		return
	}
	p.auth = authClient
	if p.gated && p.session == 0 {
		c.effect(abi.EffectProceed, p.conn, 0, nil)
	}
}

// letIn goes on with the CONNECT that was kept.
func (c *Core) letIn(p *connection, answer *abi.AuthAnswer) {
	conn := p.conn
	c.stats.Authenticated++
	c.setUser(p, answer.User)
	mqtt.ParseConnect(c.store.bytes(p.held), &c.connect) // cannot fail: it did not before
	c.admit(p, &c.connect, answer)
	if p.conn == conn {
		c.releaseHeld(p)
	}
}

// renew ends a re-authentication that went well.
func (c *Core) renew(p *connection, answer *abi.AuthAnswer) {
	if answer.User != c.peerOf(p).User {
		c.reject(p, mqtt.NotAuthorized, "the user is another one than before")
		return
	}
	c.stats.Authenticated++
	c.sendAuth(p, mqtt.Success, answer)
}

// reject ends a connection whose client is not who it should be [MQTT-4.12.0-4], [MQTT-4.12.1-2]. text is for the
// client.
func (c *Core) reject(p *connection, reason mqtt.ReasonCode, text string) {
	const forLog = "the client was not authenticated"
	if p.session != 0 {
		c.stats.Refused++
		c.note(abi.NoteRefused, p.conn, []byte(forLog))
		c.sendDisconnect(p, reason.ForDisconnect(), text, "")
		c.drop(p, reason, forLog)
		return
	}
	c.sendRefusal(p, reason.ForConnack(), text, "")
	c.refuseSilently(p, reason, forLog)
}

// sendAuth sends an AUTH, with the method [MQTT-4.12.0-5]. It returns false if it had to end the connection because its
// client takes no packet of that size.
func (c *Core) sendAuth(p *connection, reason mqtt.ReasonCode, answer *abi.AuthAnswer) bool {
	props := &c.parting
	props.Reset()
	props.Has = props.Has.With(mqtt.PropAuthenticationMethod)
	props.AuthenticationMethod = c.store.bytes(p.method)
	if len(answer.Data) > 0 {
		props.Has = props.Has.With(mqtt.PropAuthenticationData)
		props.AuthenticationData = answer.Data
	}
	if reason == mqtt.Success {
		c.sayToClient(props, answer.Properties)
	}
	c.explain(p, props, answer.Reason) // not to a client that wants none [MQTT-3.1.2-29]
	if c.sendBounded(p, mqtt.AppendAuth(c.encoded[:0], reason, props)) {
		return true
	}
	props.Has = props.Has.Without(mqtt.PropReasonString).Without(mqtt.PropUserProperty) // [MQTT-3.15.2-2], [MQTT-3.15.2-3]
	if c.sendBounded(p, mqtt.AppendAuth(c.encoded[:0], reason, props)) {
		return true
	}
	c.reject(p, mqtt.PacketTooLarge, "the data for authentication is larger than a packet that the client takes")
	return false
}

// peerOf returns what the host knows of the other side of a connection.
func (c *Core) peerOf(p *connection) (peer abi.Peer) {
	_ = abi.ReadPeer(c.store.bytes(p.peer), &peer) // what cannot be read is nobody: judge refuses it
	return peer
}

// setUser notes who the client of a connection is.
func (c *Core) setUser(p *connection, user string) {
	peer := c.peerOf(p)
	peer.User = user
	c.encoded = abi.AppendPeer(c.encoded[:0], &peer)
	c.store.release(p.peer)
	p.peer = c.store.keep(c.encoded)
}

// releaseHeld forgets the CONNECT of a connection, and the password in it.
func (c *Core) releaseHeld(p *connection) {
	c.heldBytes -= int(p.held.size)
	clear(c.store.bytes(p.held))
	c.store.release(p.held)
	p.held = block{}
}
