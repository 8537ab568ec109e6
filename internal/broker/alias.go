package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The aliases of a connection are a table in the store: for each alias the block of a topic, 12 bytes.
const aliasSize = 12

// resolveAlias puts in the topic that an alias stands for, or remembers what it stands for from now on
// (3.3.2.3.4). It returns false if it had to end the connection.
func (c *Core) resolveAlias(p *connection, req *mqtt.Publish) bool {
	if !req.Props.Has.Has(mqtt.PropTopicAlias) {
		return true
	}
	alias := uint32(req.Props.TopicAlias)
	if alias > uint32(p.aliasMost) { // [MQTT-3.3.2-9]
		c.fail(p, mqtt.TopicAliasInvalid, "a topic alias is above the maximum")
		return false
	}
	if len(req.Topic) > 0 {
		return c.setAlias(p, alias, req.Topic)
	}
	topic := c.aliasAt(p, alias)
	if topic.size == 0 {
		c.fail(p, mqtt.ProtocolError, "a topic alias stands for nothing")
		return false
	}
	req.Topic = c.store.bytes(topic)
	return true
}

// setAlias remembers what an alias stands for. It returns false if it had to end the connection: a client that was told
// it may set an alias relies on it [MQTT-3.3.2-12].
func (c *Core) setAlias(p *connection, alias uint32, topic []byte) bool {
	if !c.fits(c.store.growth(len(topic)), 0) {
		c.metBy(abi.LimitMemory, p)
		c.disconnectClient(p, mqtt.QuotaExceeded, "there is no room for a topic alias")
		return false
	}
	if p.aliases.size == 0 {
		p.aliases = c.store.alloc(uint32(p.aliasMost) * aliasSize)
		clear(c.store.bytes(p.aliases))
	}
	c.store.release(c.aliasAt(p, alias))
	b := c.store.keep(topic)
	e := c.store.bytes(p.aliases)[(alias-1)*aliasSize:]
	binary.LittleEndian.PutUint32(e, b.chunk)
	binary.LittleEndian.PutUint32(e[4:], b.at)
	binary.LittleEndian.PutUint32(e[8:], b.size)
	return true
}

// aliasAt returns the topic of an alias, or the empty block.
func (c *Core) aliasAt(p *connection, alias uint32) block {
	at := (alias - 1) * aliasSize
	if at >= p.aliases.size {
		return block{}
	}
	e := c.store.bytes(p.aliases)[at:]
	return block{
		chunk: binary.LittleEndian.Uint32(e),
		at:    binary.LittleEndian.Uint32(e[4:]),
		size:  binary.LittleEndian.Uint32(e[8:]),
	}
}

// dropAliases forgets the aliases of a connection.
func (c *Core) dropAliases(p *connection) {
	for alias := uint32(1); alias <= p.aliases.size/aliasSize; alias++ {
		c.store.release(c.aliasAt(p, alias))
	}
	c.store.release(p.aliases)
}
