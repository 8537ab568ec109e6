package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// share hands a message to one member of each group of a route, and returns for how many groups it is.
func (c *Core) share(rt *route, m *content) (receivers int) {
	for _, id := range rt.groups {
		g := c.groups.all.at(id)
		if m.qos > 0 && g.keepers > 0 && !c.roomForDelivery() {
			c.met(abi.LimitMemory, nil, nil)
			c.stats.DroppedQueue++
			continue
		}
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

// mostAround is more than what a packet has around the topic, the properties and the payload of a message.
const mostAround = 32

// smallEnough says whether a member's client takes a message of that size. If not, another may get it (3.1.2.11.4).
func (c *Core) smallEnough(s *session, sub *subscription, m *content) bool {
	if s.maxPacket >= m.size()+mostAround {
		return true
	}
	c.work++
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
	d.message, d.count, d.group, d.serial = c.keep(m), 1, sub.group, c.groups.all.at(sub.group).serial
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
