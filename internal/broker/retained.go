package broker

import (
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// retainedTotals bound the retained messages.
type retainedTotals struct {
	count uint32
	bytes uint32
}

// setRetained keeps a message as the retained message of its topic, or removes that if the payload is empty
// [MQTT-3.3.1-5], [MQTT-3.3.1-6].
func (c *Core) setRetained(m *content) mqtt.ReasonCode {
	if m.clears() {
		if n := c.tree.find(m.topic); n != 0 {
			c.dropRetained(n)
		}
		return mqtt.Success
	}
	if !c.roomForRetained(m) {
		c.metBy(abi.LimitMemory, c.connectionOf(m.source))
		return mqtt.QuotaExceeded
	}
	l := &c.config.Limits
	node := c.tree.ensure(m.topic)
	old := c.tree.nodes.at(node).retained
	var count, bytes uint32 = 1, m.size()
	if old != 0 {
		count = 0
		bytes -= min(bytes, c.messages.at(old).body.size)
	}
	if c.retained.count+count > l.MaxRetained || c.retained.bytes+bytes > l.MaxRetainedBytes {
		c.tree.prune(node)
		c.metBy(abi.LimitRetained, c.connectionOf(m.source))
		return mqtt.QuotaExceeded
	}
	id := c.keep(m)
	c.unretain(node)
	c.tree.nodes.at(node).retained = id
	c.retained.count++
	c.retained.bytes += c.messages.at(id).body.size
	if m.expires != 0 {
		c.watchRetained(node, c.messages.at(id))
	}
	return mqtt.Success
}

// watchRetained sees to it that a retained message goes when it has expired [MQTT-3.3.2-5], within a second: many may
// expire at about the same time, and are then one step.
func (c *Core) watchRetained(node uint32, m *message) {
	m.timer = c.timers.create(timerRetained, node)
	c.timers.set(m.timer, (m.expires+999)/1000*1000)
}

// retainedDue removes a retained message that has expired.
func (c *Core) retainedDue(node uint32) {
	c.stats.Expired++
	c.dropRetained(node)
}

// unretain takes the retained message from a node, which stays.
func (c *Core) unretain(node uint32) {
	n := c.tree.nodes.at(node)
	if n.retained == 0 {
		return
	}
	c.retained.count--
	m := c.messages.at(n.retained)
	c.retained.bytes -= m.body.size
	if m.timer != 0 {
		c.timers.remove(m.timer)
		m.timer = 0
	}
	c.giveUp(n.retained)
	n.retained = 0
}

// dropRetained removes the retained message of a topic.
func (c *Core) dropRetained(node uint32) {
	c.unretain(node)
	c.tree.prune(node)
}

// scan is the task of sending a session the retained messages that match a new subscription. It goes in portions,
// by the numbers of the nodes, and waits after each until the client has taken it: a filter can match a
// million topics.
type scan struct {
	session    uint32
	filter     block
	identifier uint32
	cursor     uint32 // node that comes next
	options    options
	waiting    bool // for the connection to take the last portion
}

const (
	scanMessages = 256      // messages of one portion
	scanBytes    = 64 << 10 // bytes after which a portion ends
	scanNodes    = 4096     // nodes that are looked at in one portion
	scanWork     = 16       // units of work for looking
)

// addScan notes that a session is owed the retained messages that match a filter. A scan for the same filter that is
// not complete begins anew.
func (c *Core) addScan(session uint32, filter []byte, opts options, identifier uint32) {
	if c.retained.count == 0 {
		return
	}
	if i := c.findScan(session, filter); i >= 0 {
		sc := &c.scans[i]
		sc.options, sc.identifier, sc.cursor = opts, identifier, 0
		return
	}
	c.scans = append(c.scans, scan{session: session, filter: c.store.keep(filter), options: opts, identifier: identifier})
}

// startScans sends the first portions of the scans from number first on, but not for all of a long list of filters:
// runScans goes on with the others.
func (c *Core) startScans(first int) {
	enough := c.work + scanMessages
	for i := first; i < len(c.scans) && c.work < enough; {
		if c.scanPortion(&c.scans[i]) {
			c.endScan(i)
		} else {
			i++
		}
	}
}

// runScans goes on with all scans that need not wait, and says whether any is left of them.
func (c *Core) runScans() (more bool) {
	for i := 0; i < len(c.scans); {
		if c.busy() {
			return true
		}
		sc := &c.scans[i]
		if !sc.waiting && c.scanPortion(sc) {
			c.endScan(i)
			continue
		}
		more = more || !sc.waiting
		i++
	}
	return more
}

// findScan returns the number of the scan of a session for a filter, or -1.
func (c *Core) findScan(session uint32, filter []byte) int {
	for i := range c.scans {
		if c.scans[i].session == session && string(c.store.bytes(c.scans[i].filter)) == string(filter) {
			return i
		}
	}
	return -1
}

func (c *Core) endScan(i int) {
	c.store.release(c.scans[i].filter)
	c.scans = slices.Delete(c.scans, i, i+1)
}

// dropScans ends the scans of a session.
func (c *Core) dropScans(session uint32) {
	c.unparkScans(session)
	for i := 0; i < len(c.scans); {
		if c.scans[i].session == session {
			c.endScan(i)
		} else {
			i++
		}
	}
}

// parkScans puts aside the scans of a session that has lost its connection: they go on when it comes back. What was
// sent at QoS 0 and did not arrive is lost, as all of QoS 0 is.
func (c *Core) parkScans(session uint32) { c.scans, c.parked = moveScans(c.scans, c.parked, session) }

// unparkScans lets the scans of a session that has a connection again go on.
func (c *Core) unparkScans(session uint32) { c.parked, c.scans = moveScans(c.parked, c.scans, session) }

// moveScans moves the scans of a session from one list to the end of another.
func moveScans(from, to []scan, session uint32) (rest, moved []scan) {
	rest = from[:0]
	for _, sc := range from {
		if sc.session == session {
			sc.waiting = false
			to = append(to, sc)
		} else {
			rest = append(rest, sc)
		}
	}
	return rest, to
}

// synced says that a connection has taken all that was written to it.
func (c *Core) synced(conn abi.Conn) {
	if p := c.connectionOf(conn); p != nil && p.session != 0 {
		c.wakeScans(p.session)
	}
}

// wakeScans lets the scans of a session go on.
func (c *Core) wakeScans(session uint32) {
	for i := range c.scans {
		if c.scans[i].session == session {
			c.scans[i].waiting = false
		}
	}
}

// scanPortion sends one portion, and says whether it was the last.
func (c *Core) scanPortion(sc *scan) (done bool) {
	s := c.sessions.at(sc.session)
	if s.firstQueued != 0 || s.blocked { // until drain has emptied the queue
		sc.waiting = true
		return false
	}
	filter := c.store.bytes(sc.filter)
	nodes, all := c.retainedNodes(filter, sc.cursor)
	var count, bytes uint32
	for _, n := range nodes {
		if count == scanMessages || bytes >= scanBytes || c.longQueue(s) {
			all = false
			break
		}
		sc.cursor = n + 1
		bytes += c.sendRetained(s, sc, n)
		count++
	}
	c.work += scanWork + count
	if !all && len(nodes) == 0 {
		sc.cursor += scanNodes
	}
	if all {
		return true
	}
	if count > 0 {
		sc.waiting = true
		c.effect(abi.EffectSync, s.conn, 0, nil)
	}
	return false
}

// sendRetained sends a session the retained message of a node and returns its size.
func (c *Core) sendRetained(s *session, sc *scan, node uint32) uint32 {
	var m content
	c.load(c.tree.nodes.at(node).retained, &m)
	if m.expired(c.now) {
		c.retainedDue(node)
		return 0
	}
	c.ids = c.ids[:0]
	if sc.identifier != 0 && s.version == mqtt.V5 {
		c.ids = append(c.ids, sc.identifier)
	}
	m.retain = true // [MQTT-3.3.1-8]
	if s.aliasCount != 0 {
		c.useAlias(s, &m)
	}
	qos := min(m.qos, sc.options.qos())
	size := c.sizeFor(s, &m, qos, true, c.ids)
	var packetID uint16
	switch {
	case size > s.maxPacket || s.conn == 0:
		return 0
	case qos > 0:
		if packetID = c.offer(sc.session, s, &m, qos, c.ids, true, size); packetID == 0 {
			return size
		}
	}
	c.deliverOne(s, &m, qos, true, c.ids, packetID)
	return size
}

// retainedNodes returns nodes from number cursor on, in order, that have a retained message and match a filter;
// all says whether these are all that there are.
func (c *Core) retainedNodes(filter []byte, cursor uint32) (nodes []uint32, all bool) {
	if !mqtt.HasWildcard(filter) {
		c.nodes = c.nodes[:0]
		if n := c.tree.find(filter); n != 0 && n >= cursor && c.tree.nodes.at(n).retained != 0 {
			c.nodes = append(c.nodes, n)
		}
		return c.nodes, true
	}
	if nodes, ok := c.walkRetained(filter); ok {
		slices.Sort(nodes)
		first, _ := slices.BinarySearch(nodes, cursor)
		return nodes[first:], true
	}
	return c.sweepRetained(filter, cursor)
}

// walkRetained finds the nodes that match a filter by walking down the tree. It gives up, with ok false, where that
// leads to too many.
func (c *Core) walkRetained(filter []byte) (found []uint32, ok bool) {
	here, ahead := append(c.nodes[:0], root), c.nodesAhead[:0]
	looked := 0
	for more := true; more; {
		var level []byte
		level, filter, more = mqtt.CutLevel(filter)
		if len(level) == 1 && level[0] == '#' {
			// "a/#" matches "a" too: what is here stays, and all that is below comes to it.
			for i := 0; i < len(here) && len(here) <= scanNodes; i++ {
				here = c.tree.appendChildren(here, here[i])
			}
			break
		}
		ahead = ahead[:0]
		for _, id := range here {
			if len(level) == 1 && level[0] == '+' {
				ahead = c.tree.appendChildren(ahead, id)
			} else if child := c.tree.childOf(id, level); child != 0 {
				ahead = append(ahead, child)
			}
			if looked += 1; looked+len(ahead) > scanNodes {
				break
			}
		}
		here, ahead = ahead, here
	}
	c.nodes, c.nodesAhead = here, ahead
	if looked+len(here) > scanNodes {
		return nil, false
	}
	return slices.DeleteFunc(here, func(id uint32) bool { return c.tree.nodes.at(id).retained == 0 }), true
}

// appendChildren appends the children of a node that are levels of topic names.
func (t *tree) appendChildren(to []uint32, id uint32) []uint32 {
	n := t.nodes.at(id)
	for child := n.child; child != 0; {
		ch := t.nodes.at(child)
		name := t.nameOf(ch)
		hidden := id == root && len(name) > 0 && name[0] == '$' // [MQTT-4.7.2-1]
		if child != n.plus && child != n.pound && !hidden {
			to = append(to, child)
		}
		child = ch.next
	}
	return to
}

// sweepRetained looks at some of the nodes from number cursor on.
func (c *Core) sweepRetained(filter []byte, cursor uint32) (found []uint32, all bool) {
	c.nodes = c.nodes[:0]
	end := min(max(cursor, 1)+scanNodes, c.tree.nodes.next)
	for id := max(cursor, 1); id < end; id++ {
		if r := c.tree.nodes.at(id).retained; r != 0 {
			m := c.messages.at(r)
			if mqtt.Match(filter, c.store.bytes(m.body)[:m.topic]) {
				c.nodes = append(c.nodes, id)
			}
		}
	}
	return c.nodes, end == c.tree.nodes.next
}
