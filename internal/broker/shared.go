package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// group is a shared subscription (4.8.2): the sessions that subscribed to one filter under one share name. Of each
// message that matches the filter one of them, a member, gets a copy.
//
// A message that no member can take now waits with the group, not with a member: whoever is ready first fetches it,
// see waiting.go.
type group struct {
	name     block
	node     uint32
	next     uint32 // at the node
	previous uint32
	serial   uint32 // tells apart the groups that had this number

	members block  // numbers of subscriptions, those of connected sessions first
	count   uint32 // members
	online  uint32 // those that have a connection
	keepers uint32 // those whose granted QoS is above 0: for them a message may wait

	turn      uint32 // round robin: place of the member whose turn it is
	favourite uint32 // sticky: the subscription that gets the messages, 0 is none

	firstQueued uint32 // messages that wait until a member can take them
	lastQueued  uint32
	queued      uint32
	queuedBytes uint32
}

// groups holds the groups.
type groups struct {
	all     slab[group]
	serial  uint32
	members uint32 // of all groups
	waiting uint32 // messages in the queues of all groups
	draws   uint64 // random numbers drawn so far
}

const firstMembers = 4

// findGroup returns the group with a share name at a node, or 0.
func (c *Core) findGroup(node uint32, name []byte) uint32 {
	id := c.tree.nodes.at(node).groups
	for id != 0 && string(c.store.bytes(c.groups.all.at(id).name)) != string(name) {
		id = c.groups.all.at(id).next
	}
	return id
}

// ensureGroup returns the group with a share name at a node, and makes it if there is none.
func (c *Core) ensureGroup(node uint32, name []byte) uint32 {
	if id := c.findGroup(node, name); id != 0 {
		return id
	}
	id, g := c.groups.all.alloc()
	c.groups.serial++
	g.name, g.node, g.serial = c.store.keep(name), node, c.groups.serial
	n := c.tree.nodes.at(node)
	g.next, n.groups = n.groups, id
	if g.next != 0 {
		c.groups.all.at(g.next).previous = id
	}
	c.generation++
	return id
}

// endGroup forgets a group that has no members, and what waits for them.
func (c *Core) endGroup(id uint32) {
	g := c.groups.all.at(id)
	c.dropWaiting(g)
	if g.previous != 0 {
		c.groups.all.at(g.previous).next = g.next
	} else {
		c.tree.nodes.at(g.node).groups = g.next
	}
	if g.next != 0 {
		c.groups.all.at(g.next).previous = g.previous
	}
	c.store.release(g.name)
	c.store.release(g.members)
	*g = group{} // a delivery that remembers it finds another serial
	c.groups.all.release(id)
	c.generation++
}

// member returns the number of the subscription at a place of a group.
func (c *Core) member(g *group, place uint32) uint32 {
	return binary.LittleEndian.Uint32(c.store.bytes(g.members)[4*place:])
}

// setMember puts a subscription at a place of its group.
func (c *Core) setMember(g *group, place, id uint32) {
	binary.LittleEndian.PutUint32(c.store.bytes(g.members)[4*place:], id)
	c.subscriptions.at(id).place = place
}

// swapMembers exchanges the members at two places.
func (c *Core) swapMembers(g *group, a, b uint32) {
	x, y := c.member(g, a), c.member(g, b)
	c.setMember(g, a, y)
	c.setMember(g, b, x)
}

// addMember makes a subscription a member of its group.
func (c *Core) addMember(id uint32, sub *subscription) {
	g := c.groups.all.at(sub.group)
	if g.count*4 == g.members.size {
		grown := c.store.alloc(max(2*g.members.size, 4*firstMembers))
		copy(c.store.bytes(grown), c.store.bytes(g.members))
		c.store.release(g.members)
		g.members = grown
	}
	c.setMember(g, g.count, id)
	g.count++
	c.groups.members++
	if sub.options.qos() > 0 {
		g.keepers++
	}
	if c.sessions.at(sub.session).conn != 0 {
		c.memberComes(sub)
	}
}

// memberComes notes that the session of a member has got a connection.
func (c *Core) memberComes(sub *subscription) {
	g := c.groups.all.at(sub.group)
	c.swapMembers(g, sub.place, g.online)
	g.online++
}

// memberGoes notes that the session of a member has lost its connection.
func (c *Core) memberGoes(sub *subscription) {
	g := c.groups.all.at(sub.group)
	g.online--
	c.swapMembers(g, sub.place, g.online)
}

// removeMember takes a subscription out of its group, which ends with its last member.
func (c *Core) removeMember(id uint32, sub *subscription) {
	g := c.groups.all.at(sub.group)
	if sub.place < g.online {
		c.memberGoes(sub)
	}
	g.count--
	c.swapMembers(g, sub.place, g.count)
	c.groups.members--
	if g.favourite == id {
		g.favourite = 0
	}
	if g.count == 0 {
		c.endGroup(sub.group)
		return
	}
	c.changeKeepers(g, sub.options.qos(), 0)
}

// changeKeepers notes that a member's granted QoS changes. What waits when the last that could keep it has gone is
// given up, as a session's queue is when the session ends.
func (c *Core) changeKeepers(g *group, from, to uint8) {
	if from > 0 {
		g.keepers--
	}
	if to > 0 {
		g.keepers++
	}
	if g.keepers == 0 {
		c.dropWaiting(g)
	}
}

// comeToGroups notes that a session has got a connection.
func (c *Core) comeToGroups(s *session) {
	for id := c.firstShared(s); id != 0; id = c.nextShared(id) {
		c.memberComes(c.subscriptions.at(id))
	}
}

// leaveGroups notes that a session has lost its connection: what it has not been sent goes to other members.
func (c *Core) leaveGroups(s *session) {
	if c.firstShared(s) == 0 {
		return
	}
	for id := c.firstShared(s); id != 0; id = c.nextShared(id) {
		c.memberGoes(c.subscriptions.at(id))
	}
	c.giveQueueBack(s, 0)
}

// firstShared returns the first shared subscription of a session, or 0. They stand before the others.
func (c *Core) firstShared(s *session) uint32 {
	if s.lastShared == 0 {
		return 0
	}
	return s.firstSubscription
}

// nextShared returns the shared subscription of the same session behind another, or 0.
func (c *Core) nextShared(id uint32) uint32 {
	sub := c.subscriptions.at(id)
	if c.sessions.at(sub.session).lastShared == id {
		return 0
	}
	return sub.following
}

// appendFilter appends the filter of a subscription as its client wrote it: with $share/NAME/ if it is shared.
func (c *Core) appendFilter(b []byte, sub *subscription) []byte {
	if sub.group != 0 {
		b = append(b, "$share/"...)
		b = append(append(b, c.store.bytes(c.groups.all.at(sub.group).name)...), '/')
	}
	return c.tree.appendPath(b, sub.node)
}

// share hands a message to one member of each group of a route, and returns for how many groups it is.
func (c *Core) share(rt *route, m *content) (receivers int) {
	for _, id := range rt.groups {
		g := c.groups.all.at(id)
		member, busy := c.choose(g, m, 0)
		if member != 0 {
			c.hand(member, m)
		} else {
			c.wait(id, g, m, busy)
		}
	}
	return len(rt.groups)
}

// choose returns the subscription that gets a message: of those that can take it now the first from the place that
// the strategy says. If there is none, busy is one that will be able to later, if there is one. Members whose granted
// QoS is below least do not count.
func (c *Core) choose(g *group, m *content, least uint8) (chosen, busy uint32) {
	if g.online == 0 {
		return 0, 0
	}
	place := c.startPlace(g, m)
	for looked := range g.online {
		id := c.member(g, place)
		sub := c.subscriptions.at(id)
		s := c.sessions.at(sub.session)
		if place++; place == g.online {
			place = 0
		}
		if sub.options.qos() < least || !c.smallEnough(s, sub, m) {
			continue
		}
		if c.canTake(s, sub, m) {
			c.work += looked / chooseWork
			g.turn = place
			return id, 0
		}
		if busy == 0 || c.sessions.at(c.subscriptions.at(busy).session).blocked {
			busy = id
		}
	}
	c.work += g.online / chooseWork
	return 0, busy
}

// chooseWork is how many members are looked at for one unit of work.
const chooseWork = 8

// startPlace returns the place of the member that the strategy wants for a message.
func (c *Core) startPlace(g *group, m *content) uint32 {
	switch c.config.Options.Shared {
	case abi.SharedRandom:
		return uint32(c.draw() % uint64(g.online))
	case abi.SharedSticky:
		return c.favouritePlace(g)
	case abi.SharedHashClient:
		var clientID []byte
		if m.session != 0 {
			clientID = c.store.bytes(c.sessions.at(m.session).clientID)
		}
		return hashBytes(c.seed, clientID) % g.online
	case abi.SharedHashTopic:
		return hashBytes(c.seed, m.topic) % g.online
	}
	return g.turn % g.online
}

// favouritePlace returns the place of the member that gets all messages of a group until it leaves.
func (c *Core) favouritePlace(g *group) uint32 {
	if g.favourite != 0 {
		if place := c.subscriptions.at(g.favourite).place; place < g.online {
			return place
		}
	}
	place := g.turn % g.online
	g.favourite = c.member(g, place)
	return place
}

// draw returns a random number, from the entropy of the batch.
func (c *Core) draw() uint64 {
	c.groups.draws++
	return mix(binary.LittleEndian.Uint64(c.entropy[:]) ^ c.groups.draws*hashMul1)
}

// smallEnough says whether a member's client takes a message of that size. If not, another may get it (3.1.2.11.4).
func (c *Core) smallEnough(s *session, sub *subscription, m *content) bool {
	if s.maxPacket == ^uint32(0) {
		return true
	}
	qos, retain := sub.options.shape(m)
	return c.sizeFor(s, m, qos, retain, c.idsFor(s, sub)) <= s.maxPacket
}

// canTake says whether a member whose session has a connection can take a message now.
func (c *Core) canTake(s *session, sub *subscription, m *content) bool {
	switch {
	case s.blocked:
		return false
	case s.ready() || min(m.qos, sub.options.qos()) == 0:
		return true
	}
	return c.loyal() && !c.longQueue(s) && c.mayQueue(s, m)
}

// loyal says whether the strategy is there to keep messages together: then a member may have a queue, and only one
// whose queue is long is passed over. Otherwise a member is passed over as soon as it has as many messages in flight
// as it may.
func (c *Core) loyal() bool {
	return c.config.Options.Shared != abi.SharedRoundRobin && c.config.Options.Shared != abi.SharedRandom
}

// shape returns the QoS and the retain flag with which a message goes to a subscription.
func (o options) shape(m *content) (qos uint8, retain bool) {
	return min(m.qos, o.qos()), m.retain && o.retainAsPublished() // [MQTT-4.8.2-3]
}

// idsFor returns the subscription identifiers of a packet for a subscription alone, until the next call.
func (c *Core) idsFor(s *session, sub *subscription) []uint32 {
	c.ids = c.ids[:0]
	if sub.identifier != 0 && s.version == mqtt.V5 {
		c.ids = append(c.ids, sub.identifier)
	}
	return c.ids
}

// hand gives a message to a member that can take it.
func (c *Core) hand(id uint32, m *content) {
	sub := c.subscriptions.at(id)
	s := c.sessions.at(sub.session)
	if qos, retain := sub.options.shape(m); qos == 0 {
		c.deliverOne(s, m, 0, retain, c.idsFor(s, sub), 0)
		return
	}
	n, d := c.deliveries.alloc()
	d.message, d.group, d.serial = c.keep(m), sub.group, c.groups.all.at(sub.group).serial
	c.handDelivery(n, d, sub, m)
}

// handDelivery gives a delivery of QoS 1 or 2, which is in no list, to a member that can take it.
func (c *Core) handDelivery(n uint32, d *delivery, sub *subscription, m *content) {
	s := c.sessions.at(sub.session)
	d.qos, d.retain = sub.options.shape(m)
	ids := c.idsFor(s, sub)
	d.ids = c.keepIDs(ids)
	if s.ready() {
		c.deliverOne(s, m, d.qos, d.retain, ids, c.launch(s, n, d))
		return
	}
	c.enqueue(s, n, d)
	c.slowDown(sub.session, s, m.source)
}
