package broker

import "github.com/vouchmq/vouchmq/internal/abi"

// Messages of a shared subscription that no member can take wait in the queue of the group: because no member has a
// connection, or because all that have one are blocked or have as many messages in flight as they may. A member takes
// from there as soon as it can, see drain.
//
// A message comes back to the queue, for another member, if its member's connection ends before the message has been
// sent; if it was sent at QoS 1 and not acknowledged, when the session ends (4.8.2). One that was sent at QoS 2
// stays with its member [MQTT-4.8.2-4] and never goes to another [MQTT-4.8.2-5], nor does one that a client has refused
// [MQTT-4.8.2-6].

// wait keeps a message that no member of a group can take now. busy is the subscription of one that will be able to
// when its connection goes on.
func (c *Core) wait(id uint32, g *group, m *content, busy uint32) {
	if m.qos == 0 || g.keepers == 0 {
		if busy != 0 {
			c.missed(c.sessions.at(c.subscriptions.at(busy).session))
		}
		return
	}
	if busy == 0 && g.online > 0 && g.online == g.count {
		return // it is too large for all of them: as if it had been sent [MQTT-3.1.2-25]
	}
	if !c.mayWait(g, m, busy) {
		c.stats.DroppedQueue++
		c.noteMissed(busy)
	} else {
		n, d := c.deliveries.alloc()
		d.message, d.count, d.group, d.serial = c.keep(m), 1, id, g.serial
		c.enqueueWaiting(g, n, d)
	}
	if messages, bytes := c.slowAt(); busy != 0 && g.longer(messages, bytes) {
		session := c.subscriptions.at(busy).session
		c.pauseFor(session, c.sessions.at(session), m.source)
	}
}

// noteMissed is noteDropped for the session of a subscription, if there is one.
func (c *Core) noteMissed(subscription uint32) {
	if subscription != 0 {
		c.noteDropped(c.sessions.at(c.subscriptions.at(subscription).session))
	}
}

// mayWait says whether a message may wait with a group, and applies the overflow rule. The bounds are those of a
// session's queue. busy is as in wait; its connection is not ended, for it is not to blame alone.
func (c *Core) mayWait(g *group, m *content, busy uint32) bool {
	if c.hasRoom(g, m) {
		return true
	}
	c.dropExpiredWaiting(g)
	if c.hasRoom(g, m) {
		return true
	}
	if busy != 0 {
		c.metLater(abi.LimitQueue, c.subscriptions.at(busy).session)
	} else {
		c.met(abi.LimitQueue, nil, nil)
	}
	l := &c.config.Limits
	if c.config.Options.Overflow != abi.DropOldest || l.MaxQueued == 0 || m.size() > l.MaxQueuedBytes {
		return false
	}
	for g.firstQueued != 0 && !c.hasRoom(g, m) {
		c.discard(c.dequeueWaiting(g))
		c.stats.DroppedQueue++
		c.noteMissed(busy)
	}
	return true
}

// hasRoom says whether a message fits into the queue of a group.
func (c *Core) hasRoom(g *group, m *content) bool {
	l := &c.config.Limits
	return g.queued < l.MaxQueued && g.queuedBytes+m.size() <= l.MaxQueuedBytes
}

// dropExpiredWaiting is dropExpired for a group.
func (c *Core) dropExpiredWaiting(g *group) {
	if g.queueExpires == 0 || g.queueExpires > c.now {
		return
	}
	g.queueExpires = 0
	for last, n := g.lastQueued, uint32(0); n != last; {
		var d *delivery
		n, d = c.dequeueWaiting(g)
		if c.expired(d) {
			c.stats.Expired++
			c.discard(n, d)
		} else {
			c.enqueueWaiting(g, n, d)
		}
	}
}

// longer says whether more waits with a group than so many messages, or bytes of them.
func (g *group) longer(messages, bytes uint32) bool {
	return g.queued > messages || g.queuedBytes > bytes
}

// groupsLonger says whether more waits with one of the groups of a session than so many messages, or bytes of them.
func (c *Core) groupsLonger(s *session, messages, bytes uint32) bool {
	if c.groups.waiting == 0 {
		return false
	}
	for id := c.firstShared(s); id != 0; id = c.nextShared(id) {
		if c.groups.all.at(c.subscriptions.at(id).group).longer(messages, bytes) {
			return true
		}
	}
	return false
}

func (c *Core) enqueueWaiting(g *group, n uint32, d *delivery) {
	if g.lastQueued != 0 {
		c.deliveries.at(g.lastQueued).next = n
	} else {
		g.firstQueued = n
	}
	g.lastQueued = n
	g.queued++
	g.queuedBytes += c.weight(d)
	g.queueExpires = earlier(g.queueExpires, c.messages.at(d.message).expires)
	c.groups.waiting++
}

func (c *Core) dequeueWaiting(g *group) (n uint32, d *delivery) {
	n = g.firstQueued
	d = c.deliveries.at(n)
	g.firstQueued, d.next = d.next, 0
	if g.firstQueued == 0 {
		g.lastQueued = 0
	}
	g.queued--
	g.queuedBytes -= c.weight(d)
	c.groups.waiting--
	return n, d
}

// dropWaiting gives up what waits with a group.
func (c *Core) dropWaiting(g *group) {
	for g.firstQueued != 0 {
		c.discard(c.dequeueWaiting(g))
	}
}

// fetch takes a message that waits with one of the groups of a session, which is ready, and says whether there was one.
func (c *Core) fetch(s *session) bool {
	if c.groups.waiting == 0 {
		return false
	}
	looked := uint32(0)
	for id := c.firstShared(s); id != 0; id = c.nextShared(id) {
		if looked++; looked%chooseWork == 0 {
			c.work++
		}
		sub := c.subscriptions.at(id)
		if g := c.groups.all.at(sub.group); g.firstQueued != 0 && sub.options.qos() > 0 {
			c.handWaiting(g, sub)
			c.moveBehindShared(id, sub, s) // so that each group has its turn
			return true
		}
	}
	return false
}

// handWaiting gives a member, which can take it, the first message that waits with its group, unless that has expired
// or is larger than its client takes.
func (c *Core) handWaiting(g *group, sub *subscription) {
	n, d := c.dequeueWaiting(g)
	var m content
	c.load(d.message, &m)
	switch {
	case m.expired(c.now): // [MQTT-3.3.2-5]
		c.stats.Expired++
		c.discard(n, d)
	case !c.smallEnough(c.sessions.at(sub.session), sub, &m): // [MQTT-3.1.2-25]
		c.discard(n, d)
	default:
		c.handDelivery(n, d, sub, &m)
	}
}

// feed hands out what waits with a group as long as there is a member that can take it.
func (c *Core) feed(g *group) {
	for g.firstQueued != 0 && !c.groups.closed {
		var m content
		c.load(c.deliveries.at(g.firstQueued).message, &m)
		member, _ := c.choose(g, &m, 1)
		if member == 0 {
			return
		}
		c.handWaiting(g, c.subscriptions.at(member))
	}
}

// feedAll is feed for all groups.
func (c *Core) feedAll() {
	if c.groups.waiting == 0 {
		return
	}
	for id := uint32(1); id < c.groups.all.next; id++ {
		c.feed(c.groups.all.at(id)) // nothing waits with one that is free
	}
	c.work += c.groups.all.next / chooseWork
}

// groupOf returns the group that a delivery can go back to, or nil.
func (c *Core) groupOf(d *delivery) *group {
	if d.group == 0 {
		return nil
	}
	g := c.groups.all.at(d.group)
	if g.serial != d.serial || g.keepers == 0 {
		return nil
	}
	return g
}

// giveBack gives a delivery, which is in no list, to another member of its group. It returns false if there is none.
func (c *Core) giveBack(n uint32, d *delivery) bool {
	g := c.groupOf(d)
	if g == nil {
		return false
	}
	c.store.release(d.ids)
	*d = delivery{message: d.message, count: 1, group: d.group, serial: d.serial}
	idle := g.firstQueued == 0 // otherwise nobody can take it now
	c.enqueueWaiting(g, n, d)
	if idle {
		c.feed(g)
	}
	return true
}

// giveQueueBack gives to other members what waits in the queue of a session: all that came by groups if it has no
// connection, or else what came by those that it has left.
func (c *Core) giveQueueBack(session uint32) {
	s := c.sessions.at(session)
	c.work += s.queued / chooseWork
	for last, n := s.lastQueued, uint32(0); n != last; {
		var d *delivery
		n, d = c.dequeue(s)
		if s.conn != 0 && c.cameByOwn(session, d) || !c.giveBack(n, d) {
			c.enqueue(s, n, d)
		}
	}
}

// cameByOwn says whether a delivery came by a group of which the session is a member.
func (c *Core) cameByOwn(session uint32, d *delivery) bool {
	g := c.groupOf(d)
	if g == nil {
		return false
	}
	id, _ := c.findSubscription(session, g.node, d.group)
	return id != 0
}

// mayGoElsewhere says whether a delivery of a session that ends may go to another member: a message that was sent at
// QoS 2 may not [MQTT-4.8.2-5].
func (d *delivery) mayGoElsewhere() bool {
	return d.message != 0 && (d.qos == 1 || d.state == deliveryQueued)
}
