package broker

import "github.com/vouchmq/vouchmq/internal/mqtt"

// The packet ids of QoS 2 messages that a client has sent and not released: a PUBLISH with such an id is the same
// message again (4.3.3). Most clients use ids one after the other and release them in that order, so a session has a
// range of ids that follow each other; the others are in a table.

// receivedRange is the ids from first to first+count-1.
type receivedRange struct {
	first, count uint16
}

func (r receivedRange) contains(id uint16) bool { return id >= r.first && id-r.first < r.count }

// receivedID is an id outside its session's range.
type receivedID struct {
	session  uint32
	hash     uint32
	next     uint32 // of the session
	previous uint32
	packetID uint16
}

// findReceived returns the number of a packet id in the table, or 0.
func (c *Core) findReceived(session uint32, packetID uint16) (id, hash uint32) {
	hash = hashPair(c.seed, session, uint32(packetID))
	for id := c.byReceivedID.first(hash); id != 0; id = c.byReceivedID.next(id, hash) {
		if r := c.received.at(id); r.session == session && r.packetID == packetID {
			return id, hash
		}
	}
	return 0, hash
}

// isReceived says whether a client has sent a message with a packet id and not released it.
func (c *Core) isReceived(session uint32, packetID uint16) bool {
	s := c.sessions.at(session)
	if s.receivedRange.contains(packetID) {
		return true
	}
	if s.firstReceived == 0 {
		return false
	}
	id, _ := c.findReceived(session, packetID)
	return id != 0
}

// addReceived remembers a packet id until its PUBREL.
func (c *Core) addReceived(session uint32, packetID uint16) {
	s := c.sessions.at(session)
	s.receivedCount++
	r := &s.receivedRange
	switch {
	case r.count == 0:
		*r = receivedRange{packetID, 1}
	case packetID > r.first && packetID-r.first == r.count:
		r.count++
	default:
		c.addToTable(session, packetID)
	}
}

// addReceivedRun remembers packet ids that follow each other, up to the first that is known already, and returns how many
// it did.
func (c *Core) addReceivedRun(session uint32, first uint16, count uint32) uint32 {
	s := c.sessions.at(session)
	r := &s.receivedRange
	if behind := uint32(r.first) + uint32(r.count); s.firstReceived == 0 && (r.count == 0 || uint32(first) == behind) {
		if r.count == 0 {
			r.first = first
		}
		r.count += uint16(count)
		s.receivedCount += count
		return count
	}
	for k := range count {
		id := first + uint16(k)
		if c.isReceived(session, id) {
			return k
		}
		c.addReceived(session, id)
	}
	return count
}

func (c *Core) addToTable(session uint32, packetID uint16) {
	_, hash := c.findReceived(session, packetID)
	s := c.sessions.at(session)
	id, r := c.received.alloc()
	*r = receivedID{session: session, hash: hash, packetID: packetID, next: s.firstReceived}
	if r.next != 0 {
		c.received.at(r.next).previous = id
	}
	s.firstReceived = id
	c.byReceivedID.insert(hash, id)
}

// release answers a PUBREL [MQTT-4.3.3-11].
func (c *Core) release(p *connection, packetID uint16) {
	reason := mqtt.PacketIdentifierNotFound
	if c.forgetReceived(p.session, packetID) {
		reason = mqtt.Success
	}
	c.reply(p, mqtt.PUBCOMP, packetID, reason)
}

// forgetReceived forgets a packet id, and says whether it was known.
func (c *Core) forgetReceived(session uint32, packetID uint16) bool {
	s := c.sessions.at(session)
	if s.receivedRange.contains(packetID) {
		c.cutRange(session, s, packetID)
		s.receivedCount--
		return true
	}
	id, _ := c.findReceived(session, packetID)
	if id != 0 {
		c.removeFromTable(id)
		s.receivedCount--
	}
	return id != 0
}

// cutRange takes an id out of a session's range. If it lies within, the shorter part goes to the table.
func (c *Core) cutRange(session uint32, s *session, packetID uint16) {
	r := s.receivedRange
	before := packetID - r.first
	after := r.count - before - 1
	if before <= after {
		s.receivedRange = receivedRange{packetID + 1, after}
		for i := range before {
			c.addToTable(session, r.first+i)
		}
		return
	}
	s.receivedRange.count = before
	for i := range after {
		c.addToTable(session, packetID+1+i)
	}
}

func (c *Core) removeFromTable(id uint32) {
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
	c.byReceivedID.remove(r.hash, id)
	c.received.release(id)
}

// dropReceived forgets the packet ids of a session.
func (c *Core) dropReceived(s *session) {
	for s.firstReceived != 0 {
		c.removeFromTable(s.firstReceived)
	}
	s.receivedRange, s.receivedCount = receivedRange{}, 0
}
