package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// How memory is bounded
//
// [abi.Limits.MaxModuleMemory] bounds the bytes that the core's tables take. What counts is what they have taken from
// the module's memory, used or not, because that is what runs out. New work that needs more than there is, is refused:
//
//	from 7/8 of the limit on   new sessions and new subscriptions (0x97)
//	at the limit               messages of QoS 1 and 2, retained messages, wills (0x97); a message that was accepted is
//	                           dropped for those sessions in whose queues there is no room left, and counted
//	never                      QoS 0, acknowledgements, sessions that come back, what makes room: UNSUBSCRIBE, an empty
//	                           retained message; all this takes from an eighth more, which the host must leave free
//
// What is freed stays with its table, to be used again. Therefore work that finds room in the tables as they are is
// never refused, however much they take: a broker that was full of sessions takes new ones as soon as old ones end.
// Room that is free in one table is of no use to another, though. So a core that has taken three quarters of the
// limit looks, once in a second, for pages of slabs, chunks of the store and indexes that are empty, and gives them back
// to Go's collector: see trim. What a few that live keep from being given back is counted as taken, which is the truth:
// work of another kind is then refused until they go.

// A table that may become large is one of these, or counted in memory itself: a test looks that none is missing.

// memory returns how many bytes the tables of the core take.
func (c *Core) memory() uint64 {
	return c.store.size() + c.tree.nodes.size() + c.tree.children.size() +
		c.sessions.size() + c.byClientID.size() + c.subscriptions.size() + c.bySessionAndNode.size() + c.permits.size() + c.byFilters.size() +
		c.messages.size() + c.deliveries.size() + c.received.size() + c.byReceivedID.size() +
		c.scans.size() + c.groups.all.size() + c.groups.byName.size() + c.aliasesOut.size() + c.byAliasOut.size() + c.timers.size() +
		c.routes.size() + c.connectionBytes() + c.scratchBytes()
}

// connectionBytes returns how many bytes the pages of connections take. They stay.
func (c *Core) connectionBytes() uint64 {
	var pages uint64
	for _, page := range c.connections {
		if page != nil {
			pages++
		}
	}
	return pages*pageSize*connectionSize + 8*uint64(cap(c.connections))
}

// Sizes of what is in no slab; a test compares them.
const (
	connectionSize = 128
	blockSize      = 12
)

// scratchBytes returns how many bytes batch, effects and scratch take.
func (c *Core) scratchBytes() uint64 {
	bytes := cap(c.batch) + cap(c.out) + cap(c.acks) + cap(c.rows) + cap(c.head) + cap(c.encoded) + cap(c.reasons) + cap(c.clientID)
	numbers := cap(c.ids) + cap(c.nodes) + cap(c.nodesAhead) + cap(c.tree.here) + cap(c.tree.ahead) + cap(c.dropped) + cap(c.overflowed)
	return uint64(bytes + 4*numbers + blockSize*cap(c.freed) + 8*cap(c.limitsMet))
}

// fits says whether the tables may take so many bytes more, if that leaves the last eighths of the limit.
func (c *Core) fits(need uint64, eighths uint64) bool {
	most := uint64(c.config.Limits.MaxModuleMemory)
	if need == 0 || most == 0 {
		return true
	}
	taken := c.memory()
	if taken >= most/4*3 {
		c.lookAt = 0
	}
	return taken+c.reserved()+need <= most-most/8*eighths
}

// reserved returns how many bytes more the messages in bundles take once each of them is a delivery of its own. That may
// happen at any time, and cannot be refused.
func (c *Core) reserved() uint64 {
	messages := c.waiting + uint64(c.groups.waiting)
	return (messages - min(messages, uint64(c.deliveries.live))) * c.deliveries.pageBytes() / pageSize
}

// roomForClient says whether a client may come, with its will, to its session, which is to be a new one if id is 0;
// otherwise which limit is in the way.
func (c *Core) roomForClient(id uint32, clientID []byte, req *mqtt.Connect) (limit abi.LimitKind, ok bool) {
	if id == 0 {
		if c.sessions.live >= c.config.Limits.MaxSessions {
			return abi.LimitSessions, false
		}
		need := c.sessions.growth() + c.byClientID.growth() + c.timers.growth() + c.store.growth(len(clientID))
		if c.full() || !c.fits(need, 1) {
			return abi.LimitMemory, false
		}
	}
	return abi.LimitMemory, !req.HasWill || c.roomForMessage(len(req.Will.Topic)+len(req.Will.Payload))
}

// roomForSubscription says whether a session may subscribe to a filter. What it has subscribed to already it may. Only
// when there is little left it matters what exactly is needed.
func (c *Core) roomForSubscription(session uint32, filter []byte) bool {
	name, filter, shared, _ := mqtt.ParseShared(filter)
	node, group := c.findFilter(name, filter, shared)
	need := c.subscriptions.growth() + c.bySessionAndNode.growth() + c.scans.growth()
	if shared {
		need += c.growthOfGroup(group, name)
	}
	if !c.full() && c.fits(need+c.tree.mostGrowth(), 1) {
		return true
	}
	if node != 0 {
		if id, _ := c.findSubscription(session, node, group); id != 0 {
			return true
		}
	}
	return !c.full() && c.fits(need+c.tree.growth(filter), 1)
}

// growthOfGroup returns how many bytes more a group takes with one more member, or with its first if it is 0.
func (c *Core) growthOfGroup(group uint32, name []byte) uint64 {
	if group == 0 {
		return c.groups.all.growth() + c.groups.byName.growth() + c.store.growth(len(name)) + c.store.growth(4*firstMembers)
	}
	if g := c.groups.all.at(group); g.count*4 == g.members.size {
		return c.store.growth(int(2 * g.members.size))
	}
	return 0
}

// mostGrowth returns how many bytes more a topic name or filter takes at most, about.
func (t *tree) mostGrowth() uint64 { return chunkSize + t.nodes.growth() + t.children.growth() }

// growth returns about how many bytes more the nodes of a topic name or filter take.
func (t *tree) growth(topic []byte) uint64 {
	var names uint64
	at, missing := uint32(root), false
	for more := true; more; {
		var level []byte
		level, topic, more = mqtt.CutLevel(topic)
		if at != 0 {
			at = t.childOf(at, level)
		}
		if at == 0 {
			missing = true
			names = max(names, t.nameGrowth(level))
		}
	}
	if !missing {
		return 0
	}
	return names + t.nodes.growth() + t.children.growth()
}

// roomForMessage says whether a message of so many bytes may be kept.
func (c *Core) roomForMessage(size int) bool {
	return !c.full() && c.fits(c.messages.growth()+c.store.growth(size), 0)
}

// roomForPublish says whether a message of QoS 1 or 2 may be accepted.
func (c *Core) roomForPublish(m *content) bool {
	if m.qos == 2 && !c.fits(c.received.growth()+c.byReceivedID.growth(), 0) {
		return false
	}
	return c.roomForMessage(int(m.size()))
}

// roomForRetained says whether a message may be retained.
func (c *Core) roomForRetained(m *content) bool {
	var need uint64
	if m.expires != 0 {
		need = c.timers.growth()
	}
	fits := c.fits(need+c.tree.mostGrowth(), 0) || c.fits(need+c.tree.growth(m.topic), 0)
	return fits && c.roomForMessage(int(m.size()))
}

// roomForDelivery says whether a message may be on its way to one more session. Whether there is room for the message
// itself was asked when it was accepted.
func (c *Core) roomForDelivery() bool {
	return c.deliveries.room() || c.fits(c.deliveries.growth(), 0)
}

// roomForBundles says whether the messages of a run may be kept for all receivers of a route. While there is much room
// the tables are added up once for many runs.
func (c *Core) roomForBundles(rt *route, count, stride uint32) bool {
	most := uint64(c.config.Limits.MaxModuleMemory)
	size := uint64(count+1) * uint64(stride)
	if uint64(c.config.Limits.MaxMemory) < c.store.live+size {
		return false
	}
	// Each message counts as a delivery of its own, see reserved; blocks may be half as large again.
	deliveries := uint64(count) * uint64(len(rt.matches)) * c.deliveries.pageBytes() / pageSize
	need := size/2*3 + deliveries
	if most == 0 || need <= c.budget {
		c.budget -= min(c.budget, need)
		return true
	}
	need += c.deliveries.pageBytes() + c.messages.growth() + c.received.growth() + c.byReceivedID.growth() + chunkSize
	if c.fits(need+most/budgetShare, 0) {
		c.budget = most / budgetShare
		return true
	}
	return c.fits(need, 0)
}

// budgetShare is which part of the limit runs may take before the tables are added up again.
const budgetShare = 64

// full says whether the core keeps as many bytes of messages as it may.
func (c *Core) full() bool { return c.store.live >= uint64(c.config.Limits.MaxMemory) }

// How long after tables were made smaller they are left alone, and how often the core looks whether they should be, in
// milliseconds: to add up what all of them take is dear for a step that does little else. When one grows it looks anyway.
const (
	trimEvery = 1000
	trimLook  = 100
)

// trim gives back memory that nothing lives in, if there is little left. It comes at the beginning of a step, when no
// effect refers to anything.
func (c *Core) trim() {
	most := uint64(c.config.Limits.MaxModuleMemory)
	if most == 0 || c.now < max(c.trimAt, c.lookAt) {
		return
	}
	c.lookAt = c.now + trimLook
	if c.memory() < most/4*3 {
		return
	}
	c.trimAt = c.now + trimEvery
	if ready := &c.routes.ready; ready.held > ready.live+most/64 {
		c.dropRoutes()
	}
	if c.store.held > c.store.live+most/8 {
		c.dropRoutes() // else the name of a topic might keep a chunk
		c.store.trim(most / 64)
	}
	c.tree.nodes.trim()
	c.tree.children.trim()
	c.sessions.trim()
	c.byClientID.trim()
	c.permits.trim()
	c.byFilters.trim()
	c.subscriptions.trim()
	c.bySessionAndNode.trim()
	c.scans.trim()
	c.groups.all.trim()
	c.groups.byName.trim()
	c.messages.trim()
	c.deliveries.trim()
	c.received.trim()
	c.byReceivedID.trim()
	c.aliasesOut.trim()
	c.byAliasOut.trim()
	c.timers.trim()
}

// dropRoutes gives back all routes: they are made again as they are needed.
func (c *Core) dropRoutes() {
	if r := &c.routes; r.count > 0 {
		c.forgetRoutes()
		r.pages, r.quick, r.count, r.lists, r.byTopic, r.ready = nil, nil, 0, 0, index{}, store{}
		r.making, r.record = nil, nil
	}
}
