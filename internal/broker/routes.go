package broker

import (
	"cmp"
	"slices"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Bounds of what is remembered: topic names, and the bytes of names and receivers together.
const (
	maxRoutes     = 1<<16 - 1
	maxRouteBytes = 64 << 20
)

// How routes are found by topic. Tags are the bits above those of their numbers; with few topics to a bucket, where a search ends
// can be foreseen.
const (
	routeTags   = ^uint32(maxRoutes)
	routeSpread = 1
)

// route is a topic name with the sessions, and groups of them, that get what is published to it. Matching a topic against the tree
// is the dearest part of a publish, so its result is kept until a subscription changes.
type route struct {
	topic      block
	name       []byte // its bytes
	hash       uint32
	generation uint32 // of the subscriptions when matches was made
	number     uint32 // its own; 0 is not remembered
	matches    []match
	ids        []uint32 // subscription identifiers of the matches
	groups     []uint32 // shared subscriptions that match, of which one member each gets the message
}

// match is a session that gets messages of a route.
type match struct {
	session uint32
	ids     uint32 // where its subscription identifiers begin in the route's
	count   uint16 // how many there are
	form    uint8  // see formOf: sessions with the same form and no identifiers get the same bytes
	whose   whose  // messages it gets
}

// whose says whose messages a match is for. A session with a filter that is no-local, and others that are not, has two
// matches: its own messages come by the others only.
type whose uint8

const (
	everybodys whose = iota
	othersOnly
	ownOnly
)

// includes says whether a match is for a message that is, or is not, of the session itself [MQTT-3.8.3-3].
func (w whose) includes(own bool) bool { return w == everybodys || own == (w == ownOnly) }

// matchSize is how many bytes a match takes in memory.
const matchSize = 12

// A form is what makes a PUBLISH to one session differ from that to another: the protocol's generation, the
// granted QoS, whether the retain flag stays as it was published, and whether the client wants topic aliases.
const (
	formV5     = 1 << 2
	formRetain = 1 << 3
	formAlias  = 1 << 4
	numForms   = 1 << 5
)

func formOf(s *session, o options) uint8 {
	form := o.qos()
	if s.version == mqtt.V5 {
		form |= formV5
	}
	if s.aliasMost != 0 {
		form |= formAlias
	}
	if o.retainAsPublished() {
		form |= formRetain
	}
	return form
}

// routes holds the routes and finds them by topic.
type routes struct {
	pages   []*[pageSize]route
	quick   []*[pageSize]quick // of each route
	count   uint32             // numbers in use; number 0 is for topics that are not remembered
	byTopic index
	ready   store // records of the short way, see quick.go
	making  []quickGroup
	record  []byte
	serial  uint32
	oldest  uint32   // the number that was forgotten last; those behind it are the oldest
	seen    []uint16 // parts of the hashes of topics that were published to of late, at places that other parts give
	names   int      // bytes of all names
	most    int      // bound of names, lists and records together
	lists   int      // bytes of all lists of receivers, and of those that are kept for routes to come
	nodes   []uint32 // scratch: the nodes whose filters match
	sorted  []match  // scratch of groupByForm
}

// at returns the route with a number.
func (r *routes) at(id uint32) *route { return &r.pages[id>>pageBits][id&(pageSize-1)] }

// quickOf returns what the short way needs of the route with a number.
func (r *routes) quickOf(id uint32) *quick { return &r.quick[id>>pageBits][id&(pageSize-1)] }

// next takes the next number.
func (r *routes) next() uint32 {
	id := r.count
	if id>>pageBits == uint32(len(r.pages)) {
		r.pages, r.quick = append(r.pages, new([pageSize]route)), append(r.quick, new([pageSize]quick))
	}
	r.count++
	return id
}

// routeTo returns the number of the route of a topic, up to date.
func (c *Core) routeTo(topic []byte) uint32 {
	c.trimRoutes()
	hash := hashBytes(c.seed, topic)
	r := &c.routes
	for id := r.byTopic.firstLike(hash); id != 0; id = r.byTopic.nextLike(id, hash) {
		if rt := r.at(id); string(rt.name) == string(topic) {
			c.refresh(rt)
			return id
		}
	}
	if r.count == 0 {
		r.next()
	}
	if r.seen == nil {
		r.seen = make([]uint16, numSeen)
	}
	if last := &r.seen[hash%numSeen]; *last != uint16(hash>>16)|1 { // 0 is nothing
		*last = uint16(hash>>16) | 1
		return c.passingRoute(topic)
	}
	return c.addRoute(topic, hash)
}

// knownRoute returns the number of the route of a topic that a connection may publish to, if both are remembered, or 0.
// The permits of the connection must be up to date. The route may not be.
//
// Who publishes to many topics mostly does so in the same order again and again. A route knows which came behind it last, and as
// long as that goes well for a connection, it is tried first: that needs no hash, and no line of memory but the topic's own,
// which the processor can fetch while it is still at the message before.
func (c *Core) knownRoute(p *connection, topic []byte) uint32 {
	r := &c.routes
	if p.route < r.count {
		before := r.quickOf(p.route)
		id := uint32(before.next)
		if p.inOrder && r.mayFollow(p, id, topic) {
			p.route = id
			return id
		}
		id = c.findKnown(p, topic)
		p.inOrder = uint32(before.next) == id
		before.next = uint16(id)
		p.route = id
		return id
	}
	p.route, p.inOrder = 0, false // forgotten
	return 0
}

// mayFollow says whether a route is that of a topic, and the connection may publish to it.
func (r *routes) mayFollow(p *connection, id uint32, topic []byte) bool {
	q := r.quickOf(id)
	return q.judged == p.judged && r.isTopic(q, topic)
}

// findKnown is knownRoute for topics in any order.
func (c *Core) findKnown(p *connection, topic []byte) uint32 {
	r := &c.routes
	hash := hashBytes(c.seed, topic)
	id := r.byTopic.firstLike(hash)
	if q := r.quickOf(id); q.judged == p.judged && r.isTopic(q, topic) {
		return id
	}
	for id != 0 && !r.isTopic(r.quickOf(id), topic) {
		id = r.byTopic.nextLike(id, hash)
	}
	if id == 0 || r.quickOf(id).judged != p.judged && !c.admits(p, id, hash, topic) {
		return 0
	}
	return id
}

// admits says whether a connection may publish to the topic of a route, and remembers it in both.
func (c *Core) admits(p *connection, id, hash uint32, topic []byte) bool {
	known, q := &p.recent[recentOf(topic)], c.routes.quickOf(id)
	if *known == (recent{hash, id, q.serial}) {
		return true
	}
	if c.badTopic(topic) || !c.mayPublishUnstamped(p, topic) {
		return false
	}
	q.judged = p.judged
	*known = recent{hash, id, q.serial}
	return true
}

// numSeen is of how many topics the core knows that they were published to once, if their hashes are kind. Only the second
// time a topic is worth being remembered: many topics have one message ever, and would drive out the others.
const numSeen = 1 << 16

// passingRoute fills route 0 for a topic. It is good until the next call.
func (c *Core) passingRoute(topic []byte) uint32 {
	rt := c.routes.at(0)
	rt.name = topic
	c.fill(rt)
	return 0
}

func (c *Core) addRoute(topic []byte, hash uint32) uint32 {
	r := &c.routes
	id := c.nextRoute()
	r.serial++
	r.names += len(topic)
	r.byTopic.tags, r.byTopic.spread = routeTags, routeSpread
	r.byTopic.insert(hash, id)
	rt := r.at(id) // with the slices of a route that was here before
	rt.topic, rt.hash, rt.number = c.store.keep(topic), hash, id
	rt.name = c.store.bytes(rt.topic)
	q := r.quickOf(id)
	*q = quick{serial: r.serial}
	r.nameQuick(q, topic)
	c.fill(rt)
	return id
}

// nextRoute returns the number for another route: when there are as many as may be, that of the oldest, which is forgotten.
func (c *Core) nextRoute() uint32 {
	if r := &c.routes; r.count <= r.mostRoutes() {
		return r.next()
	}
	return c.forgetOldest()
}

// forgetOldest forgets the route that was made first, and returns its number.
func (c *Core) forgetOldest() uint32 {
	r := &c.routes
	if r.oldest++; r.oldest >= r.count {
		r.oldest = 1
	}
	c.forgetRoute(r.oldest)
	return r.oldest
}

// forgetRoute forgets a route, but for its slices, which another may use.
func (c *Core) forgetRoute(id uint32) {
	r := &c.routes
	rt, q := r.at(id), r.quickOf(id)
	if q.serial == 0 {
		return
	}
	r.byTopic.remove(rt.hash, id)
	r.names -= len(rt.name)
	c.store.release(rt.topic)
	r.ready.release(r.recordOf(q))
	rt.topic, rt.name, *q = block{}, nil, quick{}
}

// forgetRoutes forgets all routes.
func (c *Core) forgetRoutes() {
	r := &c.routes
	for id := uint32(1); id < r.count; id++ {
		c.forgetRoute(id)
	}
	r.count, r.oldest = 1, 0
}

// large says whether the routes occupy more than they should.
func (r *routes) large() bool { return r.names+r.lists+int(r.ready.live) > r.most }

// bound sets how much routes may occupy: they are made for QoS 0 too, which no limit refuses, so that they get a
// sixteenth of the memory that the core may take; 0 is no bound.
func (r *routes) bound(memory uint32) {
	r.most = maxRouteBytes
	if memory != 0 {
		r.most = min(maxRouteBytes, int(memory/16))
	}
}

// mostRoutes is how many topics may be remembered.
func (r *routes) mostRoutes() uint32 { return min(maxRoutes, uint32(r.most/routeBytes)) }

// Sizes of a route, and about what it takes besides its name, lists and record, with its place in the index.
const (
	routeSize  = 128
	routeBytes = 256
)

// size returns how many bytes the routes take, but for the names, which are in the store.
func (r *routes) size() uint64 {
	making := cap(r.record) + quickGroupSize*cap(r.making)
	for _, g := range r.making[:cap(r.making)] {
		making += cap(g.effect)
	}
	return pageSize*(routeSize+quickSize)*uint64(len(r.pages)) + pointerBytes*uint64(cap(r.pages)+cap(r.quick)) + uint64(r.lists) +
		r.byTopic.size() + r.ready.size() + uint64(making) + 2*uint64(cap(r.seen)) + 4*uint64(cap(r.nodes)) + matchSize*uint64(cap(r.sorted))
}

// trimmed is how many routes are forgotten at a time: a step must not become long.
const trimmed = 64

// trimRoutes forgets the oldest routes, with their slices, if they have become too large; and all if what records of other
// sizes have left behind has.
func (c *Core) trimRoutes() {
	r := &c.routes
	if !r.large() {
		return
	}
	c.forgetLists(0)
	for n := 0; n < trimmed && r.large(); n++ {
		c.forgetLists(c.forgetOldest())
	}
	if r.ready.held > r.ready.live+uint64(r.most) {
		c.dropRoutes()
	}
}

// forgetLists lets go the slices of a route that is forgotten.
func (c *Core) forgetLists(id uint32) {
	rt := c.routes.at(id)
	c.routes.lists -= rt.listBytes()
	*rt = route{}
}

// refresh brings a route up to date.
func (c *Core) refresh(rt *route) {
	if rt.generation != c.generation {
		c.fill(rt)
	}
}

// fill finds the sessions that get what is published to the topic of a route.
func (c *Core) fill(rt *route) {
	before := rt.listBytes()
	c.routes.nodes = c.tree.match(rt.name, c.routes.nodes[:0])
	rt.matches, rt.ids, rt.groups = rt.matches[:0], rt.ids[:0], rt.groups[:0]
	forms := 0
	for _, id := range c.routes.nodes {
		n := c.tree.nodes.at(id)
		forms |= c.addMatches(rt, n.subs)
		for g := n.groups; g != 0; g = c.groups.all.at(g).next {
			rt.groups = append(rt.groups, g)
		}
	}
	if len(c.routes.nodes) > 1 {
		mergeMatches(rt)
	}
	switch {
	case len(rt.ids) > 0:
		slices.SortFunc(rt.matches, func(a, b match) int { return compareForms(rt, a, b) })
	case forms&(forms-1) != 0 || len(c.routes.nodes) > 1:
		c.groupByForm(rt)
	}
	rt.generation = c.generation
	c.routes.lists += rt.listBytes() - before
	c.work += fillWork + lookWork*c.tree.looked + uint32(len(rt.matches)+len(rt.groups))
}

// What it takes to find out who gets a topic, beside its receivers, in units of a step's work: a good deal more than a delivery
// does, so that a step of topics that nobody has published to before must not be as long as others in messages.
const (
	fillWork = 16
	lookWork = 4 // for each node of the tree
)

// listBytes is how many bytes the lists of a route take.
func (rt *route) listBytes() int { return cap(rt.matches)*matchSize + 4*(cap(rt.ids)+cap(rt.groups)) }

// addMatches adds the subscriptions of a node and returns which forms they have, as a set of bits.
func (c *Core) addMatches(rt *route, sub uint32) (forms int) {
	for sub != 0 {
		s := c.subscriptions.at(sub)
		m := match{session: s.session, ids: uint32(len(rt.ids))}
		if s.options.noLocal() {
			m.whose = othersOnly
		}
		m.form = formOf(c.sessions.at(s.session), s.options)
		if s.identifier != 0 && m.form&formV5 != 0 {
			rt.ids = append(rt.ids, s.identifier)
			m.count = 1
		}
		rt.matches = append(rt.matches, m)
		forms |= 1 << m.form
		sub = s.next
	}
	return forms
}

// mergeMatches makes one match of those of the same session: it gets one copy, at the highest QoS, with all
// the identifiers (3.3.4), [MQTT-3.3.4-2].
func mergeMatches(rt *route) {
	slices.SortFunc(rt.matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.session, b.session), cmp.Compare(a.ids, b.ids))
	})
	old := rt.ids
	var ids []uint32
	if len(old) > 0 {
		ids = make([]uint32, 0, len(old))
	}
	kept, rest := rt.matches[:0], rt.matches
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && rest[n].session == rest[0].session {
			n++
		}
		var all, own match
		all, ids = merge(rest[:n], old, ids, false)
		mixed := all.whose == othersOnly && slices.ContainsFunc(rest[:n], func(m match) bool { return m.whose == everybodys })
		if mixed {
			own, ids = merge(rest[:n], old, ids, true)
		}
		rest = rest[n:]
		if kept = append(kept, all); mixed {
			kept = append(kept, own)
		}
	}
	rt.matches, rt.ids = kept, ids
}

// merge makes one match of those of a session, and appends its identifiers to ids: for its own messages of those that
// let them through, else of all.
func merge(matches []match, old, ids []uint32, own bool) (match, []uint32) {
	into := match{session: matches[0].session, ids: uint32(len(ids))}
	for _, m := range matches {
		if own && m.whose == othersOnly {
			continue
		}
		qos := max(into.form&3, m.form&3)
		into.form = (into.form|m.form)&^3 | qos
		into.whose = max(into.whose, m.whose)
		into.count += m.count
		ids = append(ids, old[m.ids:m.ids+uint32(m.count)]...)
	}
	if own {
		into.whose = ownOnly
	}
	return into, ids
}

// groupByForm sorts matches so that those of one form follow each other.
func (c *Core) groupByForm(rt *route) {
	var starts [numForms + 1]int
	for _, m := range rt.matches {
		starts[m.form+1]++
	}
	for i := range numForms {
		starts[i+1] += starts[i]
	}
	sorted := append(c.routes.sorted[:0], rt.matches...)
	for _, m := range sorted {
		rt.matches[starts[m.form]] = m
		starts[m.form]++
	}
	c.routes.sorted = sorted
}

// compareForms orders matches by form and identifiers.
func compareForms(rt *route, a, b match) int {
	return cmp.Or(
		cmp.Compare(a.form, b.form),
		slices.Compare(rt.idsOf(a), rt.idsOf(b)),
		cmp.Compare(a.session, b.session),
	)
}

// idsOf returns the subscription identifiers of a match.
func (rt *route) idsOf(m match) []uint32 { return rt.ids[m.ids : m.ids+uint32(m.count)] }

// sameForm says whether two matches get the same bytes.
func (rt *route) sameForm(a, b *match) bool {
	if a.form != b.form || a.count != b.count {
		return false
	}
	return a.count == 0 || slices.Equal(rt.idsOf(*a), rt.idsOf(*b))
}
