package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// connection is what the core knows of a network connection. Its number is the slot of the host's number.
type connection struct {
	conn     abi.Conn // 0 if there is none in this slot
	version  mqtt.Version
	session  uint32 // 0 before CONNECT
	lastSeen int64
	overdue  int64 // milliseconds without a packet after which it is ended; 0 is never
	timer    uint32
	peer     block // as it came with EventOpen, but for the user that the host has named since

	maxPacket uint32 // the largest packet that the client takes
	terse     bool   // the client wants no reason strings
	gated     bool   // the host is to be asked about the client, and hands over one packet at a time until then
	auth      authState
	method    block // of enhanced authentication, no bytes if the client uses none
	held      block // the CONNECT, while the client is being authenticated for it

	permits     uint32 // what the rules allow, see permits.go; 0 is nothing
	rulesSerial uint32
	judged      uint64 // of the permits; no permits at all have another number each time
	denialNoted bool
	limitsTold  uint8           // limits that a note has told of, a bit for each abi.LimitKind
	orderly     bool            // the client has sent DISCONNECT
	ended       mqtt.ReasonCode // why the core has ended it
	aliases     block           // topics by alias, see alias.go
	aliasMost   uint16          // the topic alias maximum that the client was told
	receiveMost uint16          // the receive maximum that it was told

	pausedBy   uint32   // the session that has paused it, see pace.go
	pausedNext abi.Conn // the next connection that the same session has paused
	pausedPrev abi.Conn // the one before it; 0 is none
	recent     [numRecent]recent
	route      uint32 // of the topic that it published to last, 0 is none that is remembered
	inOrder    bool   // that topic had come behind the one before it the last time, too
}

// recent remembers that a connection may publish to the topic of a route.
type recent struct {
	hash   uint32 // of the topic
	route  uint32
	serial uint32 // of the route; 0 is nothing
}

const numRecent = 4

type connectionPage [pageSize]connection

// connectionOf returns the connection that the host calls conn, or nil.
func (c *Core) connectionOf(conn abi.Conn) *connection {
	slot := conn.Slot()
	page := slot >> pageBits
	if page >= uint32(len(c.connections)) || c.connections[page] == nil {
		return nil
	}
	p := &c.connections[page][slot&(pageSize-1)]
	if p.conn != conn || conn == 0 {
		return nil
	}
	return p
}

// open begins a connection.
func (c *Core) open(e *abi.Event) {
	slot := e.Conn.Slot()
	page := slot >> pageBits
	for page >= uint32(len(c.connections)) {
		c.connections = append(c.connections, nil)
	}
	if c.connections[page] == nil {
		c.connections[page] = new(connectionPage)
	}
	p := &c.connections[page][slot&(pageSize-1)]
	if slot == 0 || p.conn != 0 {
		return // the host broke the contract; it will hear nothing of this connection
	}
	c.work += openWork
	*p = connection{conn: e.Conn, lastSeen: c.now, peer: c.store.keep(e.Data)}
	var peer abi.Peer
	p.gated = abi.ReadPeer(e.Data, &peer) != nil || peer.Authenticate
	p.timer = c.timers.create(timerConnection, uint32(e.Conn))
	p.overdue = int64(c.config.Limits.ConnectTimeout)
	c.watch(p)
	if !c.configured {
		c.drop(p, mqtt.ServerUnavailable, "the core has not been configured")
	}
}

// watch sets the timer of a connection to the time at which it has been silent for too long.
func (c *Core) watch(p *connection) {
	if p.overdue == 0 {
		c.timers.unset(p.timer)
		return
	}
	c.timers.set(p.timer, p.lastSeen+p.overdue)
}

// connectionDue ends a connection that has been silent for too long, and watches on one that has not.
func (c *Core) connectionDue(id uint32) {
	p := c.connectionOf(abi.Conn(id))
	if p == nil {
		return
	}
	if c.now < p.lastSeen+p.overdue {
		c.watch(p)
		return
	}
	switch {
	case p.session != 0:
		c.fail(p, mqtt.KeepAliveTimeout, "no packet came within one and a half times the keep-alive") // [MQTT-3.1.2-22]
	case p.held.size != 0:
		c.refuse(p, mqtt.MaximumConnectTime, "the client was not authenticated in time")
	default:
		c.drop(p, mqtt.MaximumConnectTime, "no CONNECT came in time") // 3.1.4
	}
}

// packets handles a run of packets that a connection sent, or as many of them as one step should.
func (c *Core) packets(e *abi.Event) (done bool) {
	at, end, left := e.At, e.At+uint32(len(e.Data)), e.Arg
	if c.resume != 0 {
		at, left = c.resume, c.resumeNum
		c.resume = 0
	}
	p := c.connectionOf(e.Conn)
	for at < end && p != nil && p.conn == e.Conn {
		if c.busy() {
			c.flushAcks(e.Conn)
			c.resume, c.resumeNum = at, left
			return false
		}
		if next, handled := c.shortWay(p, at, end, e.Kind == abi.EventPublishes); handled > 0 {
			at, left = next, left-handled
			continue
		}
		size, ok, fault := mqtt.FrameSize(c.batch[at:end])
		if fault != nil || !ok || uint32(size) > end-at {
			c.fail(p, mqtt.MalformedPacket, "the host handed over less than a packet")
			break
		}
		c.work++
		if c.packet(p, at, at+uint32(size)); c.filters.open {
			continue // with the same packet, in the next step
		}
		at += uint32(size)
		left--
	}
	c.endPackets(p, e.Conn)
	return true
}

// endPackets ends what a connection sent: p is nil, or another one's by now, if it was not there or is gone.
func (c *Core) endPackets(p *connection, conn abi.Conn) {
	if p != nil && p.conn == conn {
		if p.session != 0 { // the time to connect does not begin anew
			p.lastSeen = c.now
		}
		c.flushAcks(conn)
	}
	c.acks, c.rows, c.lastRow, c.filters.open = c.acks[:0], c.rows[:0], 0, false
}

// shortWay handles packets from offset at on that can go a short way, and returns the offset of the first that cannot
// and how many it handled. All are alike in an abi.EventPublishes.
func (c *Core) shortWay(p *connection, at, end uint32, alike bool) (next, handled uint32) {
	switch c.batch[at] {
	case publishPlain:
		return c.quickRun(p, at, end)
	case publishPlain | 2, publishPlain | 4:
		return c.quickAcked(p, at, end, alike)
	case firstPuback, firstPubrec, firstPubrel, firstPubcomp:
		return c.quickAcks(p, at, end)
	}
	return at, 0
}

// packet handles one packet. The dispatch is long because MQTT has many packets.
func (c *Core) packet(p *connection, start, end uint32) {
	frame := c.batch[start:end]
	kind := mqtt.TypeOf(frame)
	if p.session == 0 {
		if p.auth != authIdle {
			c.packetDuringAuth(p, frame)
		} else {
			c.firstPacket(p, frame)
		}
		return
	}
	var fault *mqtt.Fault
	switch kind {
	case mqtt.PUBLISH:
		c.handlePublish(p, frame, start)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		c.handleAck(p, frame, kind)
	case mqtt.SUBSCRIBE:
		c.handleSubscribe(p, frame)
	case mqtt.UNSUBSCRIBE:
		c.handleUnsubscribe(p, frame)
	case mqtt.PINGREQ:
		if fault = mqtt.ParsePingreq(frame, p.version); fault == nil {
			c.acks = mqtt.AppendPingresp(c.acks) // [MQTT-3.12.4-1]
		}
	case mqtt.DISCONNECT:
		c.handleDisconnect(p, frame)
	case mqtt.CONNECT:
		c.fail(p, mqtt.ProtocolError, "a second CONNECT") // [MQTT-3.1.0-2]
	case mqtt.AUTH:
		c.handleAuth(p, frame)
	case 0:
		c.fail(p, mqtt.MalformedPacket, "the packet type is reserved") // 2.1.2
	default:
		c.fail(p, mqtt.ProtocolError, "a packet that only a server sends")
	}
	if fault != nil {
		c.failFault(p, fault)
	}
}

// badPacket ends a connection that sent what is not a packet.
func (c *Core) badPacket(conn abi.Conn, reason mqtt.ReasonCode) {
	p := c.connectionOf(conn)
	if p == nil {
		return
	}
	text := "the bytes are not an MQTT packet"
	if reason == mqtt.PacketTooLarge {
		text = "a packet is larger than allowed"
	}
	c.fail(p, reason, text)
}

// failFault ends a connection that broke the protocol.
func (c *Core) failFault(p *connection, fault *mqtt.Fault) {
	c.fail(p, fault.Reason, fault.Text)
}

// fail ends a connection with a reason: it tells an MQTT 5 client [MQTT-4.13.1-1], and the will is published.
func (c *Core) fail(p *connection, reason mqtt.ReasonCode, text string) {
	c.stats.Faults++
	c.note(abi.NoteProtocol, p.conn, []byte(text))
	c.disconnectClient(p, reason, text)
}

// disconnectClient tells an MQTT 5 client why, and ends the connection as if the client were gone.
func (c *Core) disconnectClient(p *connection, reason mqtt.ReasonCode, text string) {
	c.sendAway(p, reason, text, "")
}

// sendAway is disconnectClient with a reference to another server, if it is not "".
func (c *Core) sendAway(p *connection, reason mqtt.ReasonCode, text, reference string) {
	c.flushAcks(p.conn)
	switch {
	case p.session != 0 && p.version == mqtt.V5:
		c.sendDisconnect(p, reason.ForDisconnect(), text, reference)
	case p.held.size != 0: // its CONNECT has not been answered
		c.sendRefusal(p, reason.ForConnack(), text, reference)
	}
	c.drop(p, reason, text)
}

// drop asks the host to close a connection and forgets it; what its session is owed happens now.
func (c *Core) drop(p *connection, reason mqtt.ReasonCode, text string) {
	c.effect(abi.EffectClose, p.conn, uint32(reason), []byte(text))
	p.ended = reason
	c.forget(p)
}

// closed says that the host has lost or closed a connection.
func (c *Core) closed(conn abi.Conn) {
	if p := c.connectionOf(conn); p != nil {
		c.forget(p)
	}
}

// Units of work for a connection that comes and for one that goes, with or without its session.
const (
	openWork   = 8
	forgetWork = 8
)

// forget frees what belongs to a connection and takes it from its session.
func (c *Core) forget(p *connection) {
	session := p.session
	c.work += forgetWork
	if session != 0 {
		c.noteDisconnected(p)
		c.keepWillPeer(p)
	}
	c.unpause(p)
	c.timers.remove(p.timer)
	c.store.release(p.peer)
	c.dropPermits(p)
	c.store.release(p.method)
	c.releaseHeld(p)
	c.dropAliases(p)
	*p = connection{}
	if session != 0 {
		c.stats.Connections--
		c.leave(session)
	}
}

// setBlocked notes whether a connection takes what is written to it.
func (c *Core) setBlocked(conn abi.Conn, blocked bool) {
	p := c.connectionOf(conn)
	if p == nil || p.session == 0 {
		return
	}
	s := c.sessions.at(p.session)
	s.blocked = blocked
	c.presence++
	s.dropNoted = false
	if blocked {
		c.speedUp(p.session, s)
		return
	}
	c.drain(p.session)
}

// endByHost ends a connection because the host says so.
func (c *Core) endByHost(conn abi.Conn, reason mqtt.ReasonCode) {
	if p := c.connectionOf(conn); p != nil {
		c.disconnectClient(p, reason, "the broker ended the connection")
	}
}

// shutdown ends all connections without publishing wills. Clients are sent elsewhere if the host says where.
func (c *Core) shutdown(reason mqtt.ReasonCode, reference string) {
	c.groups.closed = true
	defer func() { c.groups.closed = false }()
	if reason == mqtt.Success {
		reason = mqtt.ServerShuttingDown
	}
	if reason != mqtt.UseAnotherServer && reason != mqtt.ServerMoved { // 4.11
		reference = ""
	}
	for _, page := range c.connections {
		if page == nil {
			continue
		}
		for i := range page {
			p := &page[i]
			if p.conn == 0 {
				continue
			}
			if p.session != 0 {
				c.dropWill(c.sessions.at(p.session))
			}
			c.sendAway(p, reason, "the broker is shutting down", reference)
		}
	}
}
