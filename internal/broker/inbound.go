package broker

import "github.com/vouchmq/vouchmq/internal/mqtt"

// receivedID is the packet id of a QoS 2 message that a client sent and has not released: a PUBLISH with the
// same id is the same message again (4.3.3).
type receivedID struct {
	session  uint32
	hash     uint32
	next     uint32 // of the session
	previous uint32
	packetID uint16
}

// findReceived returns the number of a packet id that a session's client has not released, or 0.
func (c *Core) findReceived(session uint32, packetID uint16) (id, hash uint32) {
	hash = hashPair(c.seed, session, uint32(packetID))
	for i := c.byReceivedID.first(hash); i != none; i = c.byReceivedID.next(i, hash) {
		id := c.byReceivedID.ids[i]
		if r := c.received.at(id); r.session == session && r.packetID == packetID {
			return id, hash
		}
	}
	return 0, hash
}

func (c *Core) isReceived(session uint32, packetID uint16) bool {
	id, _ := c.findReceived(session, packetID)
	return id != 0
}

// addReceived remembers a packet id until its PUBREL.
func (c *Core) addReceived(session uint32, packetID uint16) {
	_, hash := c.findReceived(session, packetID)
	s := c.sessions.at(session)
	id, r := c.received.alloc()
	*r = receivedID{session: session, hash: hash, packetID: packetID, next: s.firstReceived}
	if r.next != 0 {
		c.received.at(r.next).previous = id
	}
	s.firstReceived = id
	s.receivedCount++
	c.byReceivedID.insert(hash, id)
}

// release answers a PUBREL [MQTT-4.3.3-11].
func (c *Core) release(p *connection, packetID uint16) {
	id, _ := c.findReceived(p.session, packetID)
	if id == 0 {
		c.reply(p, mqtt.PUBCOMP, packetID, mqtt.PacketIdentifierNotFound)
		return
	}
	c.removeReceived(id)
	c.reply(p, mqtt.PUBCOMP, packetID, mqtt.Success)
}

func (c *Core) removeReceived(id uint32) {
	r := c.received.at(id)
	s := c.sessions.at(r.session)
	if r.previous != 0 {
		c.received.at(r.previous).next = r.next
	} else {
		s.firstReceived = r.next
	}
	if r.next != 0 {
		c.received.at(r.next).previous = r.previous
	}
	s.receivedCount--
	c.byReceivedID.remove(r.hash, id)
	c.received.release(id)
}

// dropReceived forgets the packet ids of a session.
func (c *Core) dropReceived(s *session) {
	for s.firstReceived != 0 {
		c.removeReceived(s.firstReceived)
	}
}
