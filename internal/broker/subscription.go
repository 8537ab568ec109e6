package broker

import "github.com/vouchmq/vouchmq/internal/mqtt"

// subscription is a session at a node of the tree.
type subscription struct {
	session    uint32
	node       uint32
	hash       uint32
	identifier uint32 // subscription identifier, 0 is none
	next       uint32 // at the node
	previous   uint32
	following  uint32 // of the session
	preceding  uint32
	options    options
}

// options are the subscription options in the form of the SUBSCRIBE packet (3.8.3.1).
type options uint8

func (o options) qos() uint8              { return uint8(o & 3) }
func (o options) noLocal() bool           { return o&4 != 0 }
func (o options) retainAsPublished() bool { return o&8 != 0 }

// findSubscription returns the subscription of a session at a node, or 0.
func (c *Core) findSubscription(session, node uint32) (id, hash uint32) {
	hash = hashPair(c.seed, session, node)
	for i := c.bySessionAndNode.first(hash); i != none; i = c.bySessionAndNode.next(i, hash) {
		id := c.bySessionAndNode.ids[i]
		if s := c.subscriptions.at(id); s.session == session && s.node == node {
			return id, hash
		}
	}
	return 0, hash
}

// addSubscription makes or replaces the subscription of a session to a filter, and says whether it is new. The
// reason is a failure if the session has too many.
func (c *Core) addSubscription(session uint32, filter []byte, opts options, identifier uint32) (isNew bool, reason mqtt.ReasonCode) {
	sess := c.sessions.at(session)
	node := c.tree.ensure(filter)
	id, hash := c.findSubscription(session, node)
	if id != 0 { // [MQTT-3.8.4-3] replaces the old one
		sub := c.subscriptions.at(id)
		sub.options, sub.identifier = opts, identifier
		c.generation++
		return false, mqtt.ReasonCode(opts.qos())
	}
	if sess.subscriptions >= c.config.Limits.MaxSubscriptions {
		c.tree.prune(node)
		return false, mqtt.QuotaExceeded
	}
	id, sub := c.subscriptions.alloc()
	sub.session, sub.node, sub.hash, sub.options, sub.identifier = session, node, hash, opts, identifier
	c.bySessionAndNode.insert(hash, id)
	c.linkSubscription(id, sub, sess)
	c.generation++
	return true, mqtt.ReasonCode(opts.qos())
}

func (c *Core) linkSubscription(id uint32, sub *subscription, sess *session) {
	n := c.tree.nodes.at(sub.node)
	sub.next, n.subs = n.subs, id
	if sub.next != 0 {
		c.subscriptions.at(sub.next).previous = id
	}
	sub.following, sess.firstSubscription = sess.firstSubscription, id
	if sub.following != 0 {
		c.subscriptions.at(sub.following).preceding = id
	}
	sess.subscriptions++
}

// removeSubscription ends the subscription of a session to a filter, and says whether there was one.
func (c *Core) removeSubscription(session uint32, filter []byte) bool {
	node := c.tree.find(filter)
	if node == 0 {
		return false
	}
	id, _ := c.findSubscription(session, node)
	if id == 0 {
		return false
	}
	c.dropSubscription(id)
	return true
}

// dropSubscriptions ends all subscriptions of a session.
func (c *Core) dropSubscriptions(sess *session) {
	for sess.firstSubscription != 0 {
		c.dropSubscription(sess.firstSubscription)
	}
}

func (c *Core) dropSubscription(id uint32) {
	sub := c.subscriptions.at(id)
	sess, n := c.sessions.at(sub.session), c.tree.nodes.at(sub.node)
	if sub.previous != 0 {
		c.subscriptions.at(sub.previous).next = sub.next
	} else {
		n.subs = sub.next
	}
	if sub.next != 0 {
		c.subscriptions.at(sub.next).previous = sub.previous
	}
	if sub.preceding != 0 {
		c.subscriptions.at(sub.preceding).following = sub.following
	} else {
		sess.firstSubscription = sub.following
	}
	if sub.following != 0 {
		c.subscriptions.at(sub.following).preceding = sub.preceding
	}
	sess.subscriptions--
	c.bySessionAndNode.remove(sub.hash, id)
	node := sub.node
	c.subscriptions.release(id)
	c.tree.prune(node)
	c.generation++
}
