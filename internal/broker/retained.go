package broker

import (
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// retainedTotals bound the retained messages.
type retainedTotals struct {
	count uint32
	bytes uint32
}

// setRetained keeps a message as the retained message of its topic, or removes that if the payload is empty
// [MQTT-3.3.1-5], [MQTT-3.3.1-6].
func (c *Core) setRetained(m *content) mqtt.ReasonCode {
	if m.clears() {
		if n := c.tree.find(m.topic); n != 0 {
			c.dropRetained(n)
		}
		return mqtt.Success
	}
	if !c.roomForRetained(m) {
		c.metBy(abi.LimitMemory, c.connectionOf(m.source))
		return mqtt.QuotaExceeded
	}
	l := &c.config.Limits
	node := c.tree.ensure(m.topic)
	old := c.tree.nodes.at(node).retained
	var count, bytes uint32 = 1, m.size()
	if old != 0 {
		count = 0
		bytes -= min(bytes, c.messages.at(old).body.size)
	}
	if c.retained.count+count > l.MaxRetained || c.retained.bytes+bytes > l.MaxRetainedBytes {
		c.tree.prune(node)
		c.metBy(abi.LimitRetained, c.connectionOf(m.source))
		return mqtt.QuotaExceeded
	}
	id := c.keep(m)
	c.unretain(node)
	c.tree.nodes.at(node).retained = id
	c.retained.count++
	c.retained.bytes += c.messages.at(id).body.size
	if m.expires != 0 {
		c.watchRetained(node, c.messages.at(id))
	}
	return mqtt.Success
}

// watchRetained sees to it that a retained message goes when it has expired [MQTT-3.3.2-5], within a second: many may
// expire at about the same time, and are then one step.
func (c *Core) watchRetained(node uint32, m *message) {
	m.timer = c.timers.create(timerRetained, node)
	c.timers.set(m.timer, (m.expires+999)/1000*1000)
}

// retainedDue removes a retained message that has expired.
func (c *Core) retainedDue(node uint32) {
	c.stats.Expired++
	c.dropRetained(node)
}

// unretain takes the retained message from a node, which stays.
func (c *Core) unretain(node uint32) {
	n := c.tree.nodes.at(node)
	if n.retained == 0 {
		return
	}
	c.retained.count--
	m := c.messages.at(n.retained)
	c.retained.bytes -= m.body.size
	if m.timer != 0 {
		c.timers.remove(m.timer)
		m.timer = 0
	}
	c.giveUp(n.retained)
	n.retained = 0
}

// dropRetained removes the retained message of a topic.
func (c *Core) dropRetained(node uint32) {
	c.unretain(node)
	c.tree.prune(node)
}

// retainedNodes returns nodes from number cursor on, in order, that have a retained message and match a filter;
// all says whether these are all that there are.
func (c *Core) retainedNodes(filter []byte, cursor uint32) (nodes []uint32, all bool) {
	if !mqtt.HasWildcard(filter) {
		c.nodes = c.nodes[:0]
		if n := c.tree.find(filter); n != 0 && n >= cursor && c.tree.nodes.at(n).retained != 0 {
			c.nodes = append(c.nodes, n)
		}
		return c.nodes, true
	}
	if nodes, ok := c.walkRetained(filter); ok {
		slices.Sort(nodes)
		first, _ := slices.BinarySearch(nodes, cursor)
		return nodes[first:], true
	}
	return c.sweepRetained(filter, cursor)
}

// walkRetained finds the nodes that match a filter by walking down the tree. It gives up, with ok false, where that
// leads to too many.
func (c *Core) walkRetained(filter []byte) (found []uint32, ok bool) {
	here, ahead := append(c.nodes[:0], root), c.nodesAhead[:0]
	looked := 0
	for more := true; more; {
		var level []byte
		level, filter, more = mqtt.CutLevel(filter)
		if len(level) == 1 && level[0] == '#' {
			// "a/#" matches "a" too: what is here stays, and all that is below comes to it.
			for i := 0; i < len(here) && len(here) <= scanNodes; i++ {
				here = c.tree.appendChildren(here, here[i], scanNodes)
			}
			break
		}
		ahead = ahead[:0]
		for _, id := range here {
			if len(level) == 1 && level[0] == '+' {
				ahead = c.tree.appendChildren(ahead, id, scanNodes)
			} else if child := c.tree.childOf(id, level); child != 0 {
				ahead = append(ahead, child)
			}
			if looked += 1; looked+len(ahead) > scanNodes {
				break
			}
		}
		here, ahead = ahead, here
	}
	c.nodes, c.nodesAhead = here, ahead
	c.work += uint32(looked+len(here)) / nodesForWork
	if looked+len(here) > scanNodes {
		return nil, false
	}
	return slices.DeleteFunc(here, func(id uint32) bool { return c.tree.nodes.at(id).retained == 0 }), true
}

// appendChildren appends the children of a node that are levels of topic names, until there are more than most.
func (t *tree) appendChildren(to []uint32, id uint32, most int) []uint32 {
	n := t.nodes.at(id)
	for child := n.child; child != 0 && len(to) <= most; {
		ch := t.nodes.at(child)
		name := t.nameOf(ch)
		hidden := id == root && len(name) > 0 && name[0] == '$' // [MQTT-4.7.2-1]
		if child != n.plus && child != n.pound && !hidden {
			to = append(to, child)
		}
		child = ch.next
	}
	return to
}

// sweepRetained looks at some of the nodes from number cursor on, until it has found more than fit one portion.
func (c *Core) sweepRetained(filter []byte, cursor uint32) (found []uint32, all bool) {
	c.nodes = c.nodes[:0]
	id := max(cursor, 1)
	end := min(id+scanNodes, c.tree.nodes.next)
	c.work += scanNodes / nodesForWork
	for ; id < end && len(c.nodes) <= scanMessages; id++ {
		if r := c.tree.nodes.at(id).retained; r != 0 {
			m := c.messages.at(r)
			if mqtt.Match(filter, c.store.bytes(m.body)[:m.topic]) {
				c.nodes = append(c.nodes, id)
			}
		}
	}
	return c.nodes, id == c.tree.nodes.next
}
