package broker

import "github.com/vouchmq/vouchmq/internal/mqtt"

// root is the number of the node above all first levels.
const root = 1

// node is one level of a topic name or filter. The path from the root to a node spells a filter, or the
// name of a retained message's topic.
type node struct {
	name     label
	parent   uint32
	child    uint32 // the first of the children, in no order that means anything
	next     uint32 // sibling
	previous uint32 // sibling
	plus     uint32 // the child "+"
	pound    uint32 // the child "#"
	subs     uint32 // the first subscription to the filter that ends here
	groups   uint32 // the first group of shared subscriptions to it
	retained uint32 // the retained message of the topic that ends here
}

// tree holds the levels of all filters and of all topics with a retained message.
type tree struct {
	nodes    slab[node]
	children index // by parent and name
	seed     uint64
	names    *store
	here     []uint32 // scratch of match: the nodes that fit the topic so far
	ahead    []uint32 // scratch of match: those that fit one level more
	looked   uint32   // how many nodes the last match looked at
}

func (t *tree) init(names *store) {
	t.names = names
	t.nodes.alloc() // the root
}

// childOf returns the child of a node with that name, or 0.
func (t *tree) childOf(parent uint32, level []byte) uint32 {
	hash := t.hashOf(parent, level)
	for id := t.children.first(hash); id != 0; id = t.children.next(id, hash) {
		if n := t.nodes.at(id); n.parent == parent && string(t.nameOf(n)) == string(level) {
			return id
		}
	}
	return 0
}

// hashOf returns the hash of the child of a node with that name.
func (t *tree) hashOf(parent uint32, level []byte) uint32 {
	return hashBytes(t.seed^uint64(parent)*hashMul1, level)
}

// find returns the node of a topic name or filter, or 0.
func (t *tree) find(topic []byte) uint32 {
	at := uint32(root)
	for more := true; more && at != 0; {
		var level []byte
		level, topic, more = mqtt.CutLevel(topic)
		at = t.childOf(at, level)
	}
	return at
}

// appendPath appends the topic name or filter that ends at a node.
func (t *tree) appendPath(b []byte, id uint32) []byte {
	n := t.nodes.at(id)
	if n.parent != root {
		b = append(t.appendPath(b, n.parent), '/')
	}
	return append(b, t.nameOf(n)...)
}

// ensure returns the node of a topic name or filter, and makes it if there is none.
func (t *tree) ensure(topic []byte) uint32 {
	at := uint32(root)
	for more := true; more; {
		var level []byte
		level, topic, more = mqtt.CutLevel(topic)
		child := t.childOf(at, level)
		if child == 0 {
			child = t.addChild(at, level)
		}
		at = child
	}
	return at
}

func (t *tree) addChild(parent uint32, level []byte) uint32 {
	id, n := t.nodes.alloc()
	t.setName(n, level)
	n.parent = parent
	t.children.insert(t.hashOf(parent, level), id)
	p := t.nodes.at(parent)
	n.next, p.child = p.child, id
	if n.next != 0 {
		t.nodes.at(n.next).previous = id
	}
	switch string(level) {
	case "+":
		p.plus = id
	case "#":
		p.pound = id
	}
	return id
}

// prune removes a node, and those above it, that nothing needs any more.
func (t *tree) prune(id uint32) {
	for id != root {
		n := t.nodes.at(id)
		if n.child != 0 || n.subs != 0 || n.groups != 0 || n.retained != 0 {
			return
		}
		parent := n.parent
		t.unlink(id, n)
		t.dropName(n)
		t.nodes.release(id)
		id = parent
	}
}

func (t *tree) unlink(id uint32, n *node) {
	t.children.remove(t.children.hashOf(id), id)
	p := t.nodes.at(n.parent)
	if n.previous != 0 {
		t.nodes.at(n.previous).next = n.next
	} else {
		p.child = n.next
	}
	if n.next != 0 {
		t.nodes.at(n.next).previous = n.previous
	}
	switch id {
	case p.plus:
		p.plus = 0
	case p.pound:
		p.pound = 0
	}
}

// match appends to found the nodes of all filters with subscriptions that match a topic name.
func (t *tree) match(topic []byte, found []uint32) []uint32 {
	here, ahead := append(t.here[:0], root), t.ahead[:0]
	t.looked = 0
	// [MQTT-4.7.2-1] wildcards at the first level do not match topics that begin with $
	wild := len(topic) == 0 || topic[0] != '$'
	for more := true; more; wild = true {
		var level []byte
		level, topic, more = mqtt.CutLevel(topic)
		ahead = ahead[:0]
		t.looked += uint32(len(here))
		for _, id := range here {
			n := t.nodes.at(id)
			if wild && n.pound != 0 {
				found = append(found, n.pound)
			}
			if wild && n.plus != 0 {
				ahead = append(ahead, n.plus)
			}
			if n.child != 0 {
				if child := t.childOf(id, level); child != 0 {
					ahead = append(ahead, child)
				}
			}
		}
		here, ahead = ahead, here
	}
	for _, id := range here {
		n := t.nodes.at(id)
		if n.subs != 0 || n.groups != 0 {
			found = append(found, id)
		}
		if n.pound != 0 { // "a/#" matches "a" too (4.7.1.2)
			found = append(found, n.pound)
		}
	}
	t.here, t.ahead = here, ahead
	return found
}
