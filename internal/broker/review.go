package broker

// After the rules have changed, all connections are looked at anew before anything else happens: what comes behind the new rules must not go to
// who may not read it any more. A step does only as much of that as of other work, and goes on amid a client's subscriptions if there are many;
// nothing but the review changes them until it ends.

// review is how far the review has come.
type review struct {
	slot   uint32 // of the connection that comes next, or is being looked at
	client clientReview
}

// clientReview is how far the review of one connection has come: first its subscriptions are looked at, then what waits because of them.
type clientReview struct {
	begun   bool
	next    uint32 // subscription that is looked at next
	denied  bool   // it has lost one
	members uint32 // of all groups when it began
	queued  bool   // all subscriptions have been looked at
	last    uint32 // delivery in the queue that is looked at last
}

// inReview says whether the rules have changed, and not all connections have been looked at since.
func (c *Core) inReview() bool { return c.review.slot>>pageBits < uint32(len(c.connections)) }

// runReview goes on with the review of all connections, and says whether there is more. Until it ends, groups hand
// out nothing: their members may be such that have not been looked at.
func (c *Core) runReview() (more bool) {
	if !c.inReview() {
		return false
	}
	c.groups.closed = true
	for ; c.inReview(); c.review.slot++ {
		if c.busy() {
			return true
		}
		page := c.connections[c.review.slot>>pageBits]
		if page == nil {
			c.review.slot |= pageSize - 1
			continue
		}
		if p := &page[c.review.slot&(pageSize-1)]; p.session != 0 && !c.reviewOn(p) {
			return true
		}
	}
	c.groups.closed = false
	c.feedAll()
	return false
}

// reviewOn looks at a connection, or goes on with it, and says whether it has come to the end.
func (c *Core) reviewOn(p *connection) (done bool) {
	r := &c.review.client
	if !r.begun {
		if !c.permitsChange(p) {
			return true
		}
		c.beginReview(p, r)
	}
	for c.reviewNext(p, r) {
		if c.busy() {
			return false
		}
	}
	*r = clientReview{}
	return true
}

// reviewClient ends what the rules do not allow a client any more that comes back.
func (c *Core) reviewClient(p *connection) {
	var r clientReview
	c.beginReview(p, &r)
	for c.reviewNext(p, &r) {
	}
}

// beginReview takes back the will of a connection if it may not publish it, and goes to its first subscription.
func (c *Core) beginReview(p *connection, r *clientReview) {
	c.reviewWill(p)
	*r = clientReview{begun: true, next: c.sessions.at(p.session).firstSubscription, members: c.groups.members}
}

// reviewNext looks at what comes next, and says whether there may be more.
func (c *Core) reviewNext(p *connection, r *clientReview) (more bool) {
	switch {
	case r.next != 0:
		c.reviewSubscription(p, r)
	case !r.queued:
		r.queued = true
		if c.groups.members < r.members {
			c.giveQueueBack(p.session)
		}
		if r.denied {
			r.last = c.sessions.at(p.session).lastQueued
		}
	case r.last != 0:
		c.reviewQueued(p, r)
	default:
		return false
	}
	return true
}

// reviewSubscription ends a subscription if the rules do not allow it.
func (c *Core) reviewSubscription(p *connection, r *clientReview) {
	id := r.next
	sub := c.subscriptions.at(id)
	r.next = sub.following
	c.work++
	c.clientID = c.appendFilter(c.clientID[:0], sub)
	if c.maySubscribe(p, c.clientID) {
		return
	}
	r.denied = true
	c.deny(p, c.clientID)
	c.work += dropWork
	c.dropSubscription(id)
}

// reviewQueued takes the first delivery from the queue of a connection's session, and puts it behind the others if its client may read it: it may
// have been queued while the client was away, after the rules had changed.
func (c *Core) reviewQueued(p *connection, r *clientReview) {
	s := c.sessions.at(p.session)
	n, d := c.dequeue(s)
	if n == r.last {
		r.last = 0
	}
	c.work++
	var m content
	c.load(d.message, &m)
	if c.maySubscribe(p, m.topic) {
		c.enqueue(s, n, d)
		return
	}
	c.stats.Denied += uint64(d.count)
	c.discard(n, d)
}

// reviewWill takes back the will of a connection, if it may not publish it any more.
func (c *Core) reviewWill(p *connection) {
	s := c.sessions.at(p.session)
	if s.will == 0 {
		return
	}
	c.rejudge(p)
	var will content
	c.load(s.will, &will)
	if _, ok := c.permitToPublish(p, will.topic); !ok {
		c.deny(p, will.topic)
		c.dropWill(s)
	}
}
