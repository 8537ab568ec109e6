package broker

import "github.com/vouchmq/vouchmq/internal/mqtt"

// subscription is a session at a node of the tree, or in a group at that node.
type subscription struct {
	session    uint32
	node       uint32
	group      uint32 // see shared.go; 0 if it is not shared
	place      uint32 // among the members of the group
	identifier uint32 // subscription identifier, 0 is none
	next       uint32 // at the node, if it is not shared
	previous   uint32
	following  uint32 // of the session, those that are shared first
	preceding  uint32
	options    options
}

// options are the subscription options in the form of the SUBSCRIBE packet (3.8.3.1).
type options uint8

func (o options) qos() uint8              { return uint8(o & 3) }
func (o options) noLocal() bool           { return o&4 != 0 }
func (o options) retainAsPublished() bool { return o&8 != 0 }

// findSubscription returns the subscription of a session at a node, in a group there unless that is 0, or 0.
func (c *Core) findSubscription(session, node, group uint32) (id, hash uint32) {
	hash = hashPair(c.seed^uint64(group)*hashMul2, session, node)
	for id := c.bySessionAndNode.first(hash); id != 0; id = c.bySessionAndNode.next(id, hash) {
		if s := c.subscriptions.at(id); s.session == session && s.node == node && s.group == group {
			return id, hash
		}
	}
	return 0, hash
}

// addSubscription makes or replaces the subscription of a session to a filter, which is shared if that begins with
// $share/, and says whether it is new. The reason is a failure if the session has too many.
func (c *Core) addSubscription(session uint32, filter []byte, opts options, identifier uint32) (id uint32, isNew bool, reason mqtt.ReasonCode) {
	sess := c.sessions.at(session)
	name, filter, shared, _ := mqtt.ParseShared(filter)
	if node, group := c.findFilter(name, filter, shared); node != 0 {
		if id, _ := c.findSubscription(session, node, group); id != 0 {
			c.replaceSubscription(c.subscriptions.at(id), opts, identifier)
			return id, false, mqtt.ReasonCode(opts.qos())
		}
	}
	if sess.subscriptions >= c.config.Limits.MaxSubscriptions {
		return 0, false, mqtt.QuotaExceeded
	}
	node, group := c.tree.ensure(filter), uint32(0)
	if shared {
		group = c.ensureGroup(node, name)
	}
	_, hash := c.findSubscription(session, node, group)
	id, sub := c.subscriptions.alloc()
	sub.session, sub.node, sub.group, sub.options, sub.identifier = session, node, group, opts, identifier
	c.bySessionAndNode.insert(hash, id)
	c.linkSubscription(id, sub, sess)
	return id, true, mqtt.ReasonCode(opts.qos())
}

// findFilter returns the node of a filter and, if it is shared, the group with a share name there. The node is 0 if
// there is no such filter.
func (c *Core) findFilter(name, filter []byte, shared bool) (node, group uint32) {
	node = c.tree.find(filter)
	if node == 0 || !shared {
		return node, 0
	}
	if group = c.findGroup(node, name); group == 0 {
		return 0, 0
	}
	return node, group
}

// replaceSubscription gives a subscription the options of one that replaces it [MQTT-3.8.4-3].
func (c *Core) replaceSubscription(sub *subscription, opts options, identifier uint32) {
	old := sub.options
	sub.options, sub.identifier = opts, identifier
	if sub.group != 0 {
		c.changeKeepers(c.groups.all.at(sub.group), old.qos(), opts.qos())
	} else {
		c.generation++
	}
}

// linkSubscription puts a subscription into the lists of its session, and of its node or group.
func (c *Core) linkSubscription(id uint32, sub *subscription, sess *session) {
	sess.subscriptions++
	if sub.group != 0 {
		c.chain(id, sub, sess, 0)
		if sess.lastShared == 0 {
			sess.lastShared = id
		}
		c.addMember(id, sub)
		return
	}
	c.chain(id, sub, sess, sess.lastShared)
	n := c.tree.nodes.at(sub.node)
	sub.next, n.subs = n.subs, id
	if sub.next != 0 {
		c.subscriptions.at(sub.next).previous = id
	}
	c.generation++
}

// chain puts a subscription behind another of its session, or before all if after is 0.
func (c *Core) chain(id uint32, sub *subscription, sess *session, after uint32) {
	place := &sess.firstSubscription
	if after != 0 {
		place = &c.subscriptions.at(after).following
	}
	sub.preceding, sub.following, *place = after, *place, id
	if sub.following != 0 {
		c.subscriptions.at(sub.following).preceding = id
	}
}

// unchain takes a subscription from the list of its session.
func (c *Core) unchain(id uint32, sub *subscription, sess *session) {
	if sess.lastShared == id {
		sess.lastShared = sub.preceding
	}
	if sub.preceding != 0 {
		c.subscriptions.at(sub.preceding).following = sub.following
	} else {
		sess.firstSubscription = sub.following
	}
	if sub.following != 0 {
		c.subscriptions.at(sub.following).preceding = sub.preceding
	}
}

// moveBehindShared makes a shared subscription the last of those of its session.
func (c *Core) moveBehindShared(id uint32, sub *subscription, sess *session) {
	if sess.lastShared == id {
		return
	}
	c.unchain(id, sub, sess)
	c.chain(id, sub, sess, sess.lastShared)
	sess.lastShared = id
}

// removeSubscription ends the subscription of a session to a filter, and says whether there was one. If it
// is shared, giveQueueBack is to follow; what is in flight stays [MQTT-3.10.4-3].
func (c *Core) removeSubscription(session uint32, filter []byte) bool {
	name, filter, shared, _ := mqtt.ParseShared(filter)
	node, group := c.findFilter(name, filter, shared)
	if node == 0 {
		return false
	}
	id, _ := c.findSubscription(session, node, group)
	if id == 0 {
		return false
	}
	c.dropSubscription(id)
	return true
}

// dropSubscriptions ends all subscriptions of a session.
func (c *Core) dropSubscriptions(sess *session) {
	c.work += dropWork * sess.subscriptions
	for sess.firstSubscription != 0 {
		c.dropSubscription(sess.firstSubscription)
	}
}

// dropWork is how many units of work it is to end a subscription.
const dropWork = 2

func (c *Core) dropSubscription(id uint32) {
	sub := c.subscriptions.at(id)
	sess := c.sessions.at(sub.session)
	c.endScanFor(sub.session, id)
	c.unchain(id, sub, sess)
	sess.subscriptions--
	c.bySessionAndNode.remove(c.bySessionAndNode.hashOf(id), id)
	if sub.group != 0 {
		c.removeMember(id, sub)
	} else {
		c.unlinkFromNode(sub)
	}
	node := sub.node
	c.subscriptions.release(id)
	c.tree.prune(node)
}

// unlinkFromNode takes a subscription from the list of its node.
func (c *Core) unlinkFromNode(sub *subscription) {
	if sub.previous != 0 {
		c.subscriptions.at(sub.previous).next = sub.next
	} else {
		c.tree.nodes.at(sub.node).subs = sub.next
	}
	if sub.next != 0 {
		c.subscriptions.at(sub.next).previous = sub.previous
	}
	c.generation++
}
