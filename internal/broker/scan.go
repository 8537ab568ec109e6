package broker

import "github.com/vouchmq/vouchmq/internal/abi"

// scan is the task of sending a session the retained messages that match a new subscription. It goes in portions,
// by the numbers of the nodes, and waits after each until the client has taken it: a filter can match a
// million topics. Those of a session go one after the other, in the order of its subscriptions.
type scan struct {
	subscription uint32
	next         uint32 // of the same session
	cursor       uint32 // node that comes next
}

const (
	scanMessages = 256      // messages of one portion
	scanBytes    = 64 << 10 // bytes after which a portion ends
	scanNodes    = 4096     // nodes that are looked at in one portion
	scanWork     = 16       // units of work for a portion
	nodesForWork = 4        // nodes that are looked at for one unit more
)

// scanning is the chain of the sessions that can be sent a portion now: those that have a connection and a scan, and
// need not wait until their client has taken the last portion.
type scanning struct {
	first, last uint32
}

// addScan notes that a session is owed the retained messages that match a subscription. A scan for one that is not new
// begins anew if it is not complete.
func (c *Core) addScan(session, subscription uint32, isNew bool) {
	if c.retained.count == 0 {
		return
	}
	s := c.sessions.at(session)
	if !isNew {
		if n, _ := c.findScan(s, subscription); n != 0 {
			c.scans.at(n).cursor = 0
			return
		}
	}
	n, sc := c.scans.alloc()
	sc.subscription = subscription
	if s.firstScan == 0 {
		s.firstScan = n
		c.wakeScans(session)
	} else {
		c.scans.at(s.lastScan).next = n
	}
	s.lastScan = n
}

// findScan returns the number of the scan for a subscription of a session and of that before it, 0 if there is none.
func (c *Core) findScan(s *session, subscription uint32) (n, before uint32) {
	looked := uint32(0)
	for n = s.firstScan; n != 0; n = c.scans.at(n).next {
		if c.scans.at(n).subscription == subscription {
			break
		}
		before = n
		looked++
	}
	c.work += looked / chooseWork
	return n, before
}

// endScan ends a scan of a session: before is the one in front of it, 0 if it is the first.
func (c *Core) endScan(session uint32, s *session, n, before uint32) {
	next := c.scans.at(n).next
	if before == 0 {
		s.firstScan = next
	} else {
		c.scans.at(before).next = next
	}
	if s.lastScan == n {
		s.lastScan = before
	}
	c.scans.release(n)
	if s.firstScan == 0 {
		c.restScans(session)
	}
}

// endScanFor ends the scan for a subscription that ends, if it has one [MQTT-3.10.4-2].
func (c *Core) endScanFor(session, subscription uint32) {
	s := c.sessions.at(session)
	if n, before := c.findScan(s, subscription); n != 0 {
		c.endScan(session, s, n, before)
	}
}

// dropScans ends the scans of a session.
func (c *Core) dropScans(session uint32) {
	s := c.sessions.at(session)
	for s.firstScan != 0 {
		c.endScan(session, s, s.firstScan, 0)
	}
}

// wakeScans lets the scans of a session, which has a connection, go on if there are any.
func (c *Core) wakeScans(session uint32) {
	s := c.sessions.at(session)
	if s.scanning || s.firstScan == 0 {
		return
	}
	s.scanning = true
	s.previousScanning = c.scanning.last
	if s.previousScanning != 0 {
		c.sessions.at(s.previousScanning).nextScanning = session
	} else {
		c.scanning.first = session
	}
	c.scanning.last = session
}

// restScans lets the scans of a session wait. If its connection ends they go on with the next: what was sent at QoS 0
// and did not arrive is lost, as all of QoS 0 is.
func (c *Core) restScans(session uint32) {
	s := c.sessions.at(session)
	if !s.scanning {
		return
	}
	if s.previousScanning != 0 {
		c.sessions.at(s.previousScanning).nextScanning = s.nextScanning
	} else {
		c.scanning.first = s.nextScanning
	}
	if s.nextScanning != 0 {
		c.sessions.at(s.nextScanning).previousScanning = s.previousScanning
	} else {
		c.scanning.last = s.previousScanning
	}
	s.scanning, s.nextScanning, s.previousScanning = false, 0, 0
}

// startScans sends a session the first portions, but not for all of a long list of filters: runScans goes on.
func (c *Core) startScans(session uint32) {
	s := c.sessions.at(session)
	for enough := c.work + scanMessages; s.scanning && c.work < enough; {
		c.scanOn(session, s)
	}
}

// runScans sends portions to each session in its turn as long as there is one that need not wait, and says whether any is left.
func (c *Core) runScans() (more bool) {
	for c.scanning.first != 0 && !c.busy() {
		id := c.scanning.first
		s := c.sessions.at(id)
		if c.scanOn(id, s); s.scanning {
			c.restScans(id)
			c.wakeScans(id)
		}
	}
	return c.scanning.first != 0
}

// synced says that a connection has taken all that was written to it.
func (c *Core) synced(conn abi.Conn) {
	if p := c.connectionOf(conn); p != nil && p.session != 0 {
		c.wakeScans(p.session)
	}
}

// scanOn sends a session the next portion.
func (c *Core) scanOn(id uint32, s *session) {
	if s.firstQueued != 0 || s.blocked { // until drain has emptied the queue
		c.restScans(id)
		return
	}
	sent, all := c.scanPortion(s, c.scans.at(s.firstScan))
	switch {
	case all:
		c.endScan(id, s, s.firstScan, 0)
	case sent:
		c.restScans(id)
		c.effect(abi.EffectSync, s.conn, 0, nil)
	}
}

// scanPortion sends one portion, and says whether there was anything in it and whether it was the last.
func (c *Core) scanPortion(s *session, sc *scan) (sent, all bool) {
	sub := c.subscriptions.at(sc.subscription)
	c.clientID = c.tree.appendPath(c.clientID[:0], sub.node)
	nodes, all := c.retainedNodes(c.clientID, sc.cursor)
	var count, bytes uint32
	for _, n := range nodes {
		if count == scanMessages || bytes >= scanBytes || c.longQueue(s) {
			all = false
			break
		}
		sc.cursor = n + 1
		bytes += c.sendRetained(s, sub, n)
		count++
	}
	c.work += scanWork + count
	if !all && len(nodes) == 0 {
		sc.cursor = max(sc.cursor, 1) + scanNodes // as many as were looked at
	}
	return count > 0, all
}

// sendRetained sends a session the retained message of a node and returns its size.
func (c *Core) sendRetained(s *session, sub *subscription, node uint32) uint32 {
	var m content
	c.load(c.tree.nodes.at(node).retained, &m)
	if m.expired(c.now) {
		c.retainedDue(node)
		return 0
	}
	ids := c.idsFor(s, sub)
	m.retain = true // [MQTT-3.3.1-8]
	if s.aliasCount != 0 {
		c.useAlias(s, &m)
	}
	qos := min(m.qos, sub.options.qos())
	size := c.sizeFor(s, &m, qos, true, ids)
	var packetID uint16
	switch {
	case size > s.maxPacket || s.conn == 0:
		return 0
	case qos > 0:
		if packetID = c.offer(sub.session, s, &m, qos, ids, true, size); packetID == 0 {
			return size
		}
	}
	c.deliverOne(s, &m, qos, true, ids, packetID)
	return size
}
