package broker

import "encoding/binary"

// group is a shared subscription (4.8.2): the sessions that subscribed to one filter under one share name. Of each
// message that matches the filter one of them, a member, gets a copy.
//
// A message that no member can take now waits with the group, not with a member: whoever is ready first fetches it,
// see shared_waiting.go.
type group struct {
	name     block
	hash     uint32
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

	queueExpires int64 // nothing in the queue expires before; 0 is never
}

// groups holds the groups.
type groups struct {
	all     slab[group]
	byName  index // by node and name
	serial  uint32
	members uint32 // of all groups
	waiting uint32 // messages in the queues of all groups
	draws   uint64 // random numbers drawn so far
	closed  bool   // nothing is handed to other members: all connections are about to end
}

const firstMembers = 4

// findGroup returns the group with a share name at a node, or 0.
func (c *Core) findGroup(node uint32, name []byte) uint32 {
	hash := c.hashGroup(node, name)
	ix := &c.groups.byName
	for id := ix.first(hash); id != 0; id = ix.next(id, hash) {
		if g := c.groups.all.at(id); g.node == node && string(c.store.bytes(g.name)) == string(name) {
			return id
		}
	}
	return 0
}

func (c *Core) hashGroup(node uint32, name []byte) uint32 {
	return hashBytes(c.seed^uint64(node)*hashMul1, name)
}

// ensureGroup returns the group with a share name at a node, and makes it if there is none.
func (c *Core) ensureGroup(node uint32, name []byte) uint32 {
	if id := c.findGroup(node, name); id != 0 {
		return id
	}
	id, g := c.groups.all.alloc()
	c.groups.serial++
	g.name, g.node, g.serial = c.store.keep(name), node, c.groups.serial
	g.hash = c.hashGroup(node, name)
	c.groups.byName.insert(g.hash, id)
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
	c.groups.byName.remove(g.hash, id)
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
	c.groups.all.release(id) // a delivery that remembers it finds another serial
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
func (c *Core) leaveGroups(session uint32) {
	s := c.sessions.at(session)
	if c.firstShared(s) == 0 {
		return
	}
	for id := c.firstShared(s); id != 0; id = c.nextShared(id) {
		c.memberGoes(c.subscriptions.at(id))
	}
	c.giveQueueBack(session)
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
