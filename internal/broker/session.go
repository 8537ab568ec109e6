package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// forever is a session expiry interval that never ends (3.1.2.11.2).
const forever = 0xFFFFFFFF

// session is what MQTT keeps for a client (4.1), with or without a connection.
type session struct {
	clientID  block
	owner     block // see ownerOf
	hash      uint32
	timer     uint32   // will due, or session expired
	conn      abi.Conn // 0 while there is no connection
	version   mqtt.Version
	blocked   bool // the connection does not take what is written to it
	dropNoted bool // a note has told of dropped messages

	expiry    uint32 // seconds that it outlives its connection
	expiresAt int64  // when it ends, while there is no connection; 0 is never
	maxPacket uint32 // the largest packet that the client takes

	firstSubscription uint32
	lastShared        uint32 // the last of the shared ones, which stand first; 0 if there are none
	subscriptions     uint32

	window        uint32 // how many messages may be on their way to the client
	outstanding   uint32 // how many are, on this connection
	inflight      uint32 // how many have a packet id
	firstInflight uint32 // in the order in which they were sent
	lastInflight  uint32
	again         uint32 // the first in flight that must still be sent again on this connection, 0 is none
	slots         block  // deliveries by packet id, see outbound.go
	nextSlot      uint32
	firstQueued   uint32
	lastQueued    uint32
	queued        uint32
	queuedBytes   uint32
	queueExpires  int64 // nothing in the queue expires before; 0 is never

	ackedAt int64    // when the client last acknowledged anything
	stalled bool     // it has not for too long
	paused  abi.Conn // the first of the connections that it has paused, see pace.go

	aliasMost  uint16 // aliases that the client allows, see aliasout.go
	aliasCount uint16 // those that it knows
	firstAlias uint32

	firstScan        uint32 // retained messages that it is still owed, see scan.go
	lastScan         uint32
	scanning         bool // it is in the chain of those that can be sent some now
	nextScanning     uint32
	previousScanning uint32

	firstReceived uint32 // QoS 2 messages that came and are not released, see inbound.go
	receivedCount uint32
	receivedRange receivedRange

	will      uint32 // message to publish when the connection is lost, 0 is none
	willDelay uint32 // seconds
	willAt    int64  // when it is due, while there is no connection; 0 is not
	willPeer  block  // who has left it, while there is no connection
}

// findSession returns the session of a client id, or 0.
func (c *Core) findSession(clientID []byte) (id, hash uint32) {
	hash = hashBytes(c.seed, clientID)
	for id := c.byClientID.first(hash); id != 0; id = c.byClientID.next(id, hash) {
		if string(c.store.bytes(c.sessions.at(id).clientID)) == string(clientID) {
			return id, hash
		}
	}
	return 0, hash
}

// createSession makes a session for a client id that has none.
func (c *Core) createSession(clientID []byte, hash uint32) uint32 {
	id, s := c.sessions.alloc()
	s.clientID = c.store.keep(clientID)
	s.hash = hash
	s.timer = c.timers.create(timerSession, id)
	c.byClientID.insert(hash, id)
	return id
}

// endSession forgets a session and all that it holds.
func (c *Core) endSession(id uint32) {
	s := c.sessions.at(id)
	c.dropWill(s)
	c.dropScans(id)
	c.dropSubscriptions(s)
	c.dropOutbound(s)
	c.dropReceived(s)
	c.forgetLimits(id)
	c.timers.remove(s.timer)
	c.byClientID.remove(s.hash, id)
	c.store.release(s.clientID)
	c.store.release(s.owner)
	c.sessions.release(id)
}

// endEarly ends a session without a connection before its time. A will that waits is published: it waits for the
// end of the session at most (3.1.3.2.2).
func (c *Core) endEarly(id uint32) {
	if c.sessions.at(id).willAt != 0 {
		c.publishWill(id)
	}
	c.endSession(id)
}

// leave notes that a session has lost its connection: its will and its end come due.
func (c *Core) leave(id uint32) {
	s := c.sessions.at(id)
	s.conn, s.blocked, s.dropNoted = 0, false, false
	c.leaveGroups(id)
	if s.firstSubscription != 0 {
		c.presence++
	}
	c.restScans(id)
	c.dropAliasesOut(s)
	c.speedUp(id, s)
	if s.will != 0 {
		s.willAt = c.now + int64(min(s.willDelay, s.expiry))*1000 // 3.1.3.2.2
	}
	if s.expiry != forever {
		s.expiresAt = c.now + int64(s.expiry)*1000
	}
	c.sessionDue(id)
}

// sessionDue publishes the will of a session and ends the session if their time has come, and sets its timer to
// what comes next.
func (c *Core) sessionDue(id uint32) {
	s := c.sessions.at(id)
	if s.conn != 0 {
		c.stallDue(id, s)
		return
	}
	if s.willAt != 0 && s.willAt <= c.now {
		c.publishWill(id)
	}
	if s.expiresAt != 0 && s.expiresAt <= c.now {
		c.endSession(id)
		return
	}
	switch next := earlier(s.willAt, s.expiresAt); next {
	case 0:
		c.timers.unset(s.timer)
	default:
		c.timers.set(s.timer, next)
	}
}

// earlier returns the earlier of two times of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// resumeSession gives a session a connection.
func (c *Core) resumeSession(id uint32, p *connection) {
	s := c.sessions.at(id)
	p.session = id
	if s.firstSubscription != 0 {
		c.presence++
		if s.version != p.version {
			c.generation++ // the form of its deliveries changes
		}
	}
	s.conn, s.version = p.conn, p.version
	c.comeToGroups(s)
	s.willAt, s.expiresAt = 0, 0
	c.dropWill(s)
	c.timers.unset(s.timer)
	c.stats.Connections++
}
