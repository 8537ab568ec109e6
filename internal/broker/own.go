package broker

import (
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// publishOwn publishes a message of the host's own, to which no rule applies. One that is malformed means nothing. While
// the core is full it goes to those who are there, and is not kept.
func (c *Core) publishOwn(e *abi.Event) {
	var own abi.Publication
	if abi.ReadPublication(e.Data, &own) != nil {
		return
	}
	topic := []byte(own.Topic)
	if own.QoS > 2 || !mqtt.ValidTopicName(topic) || c.badTopic(topic) {
		return
	}
	c.work++
	m := content{topic: topic, qos: own.QoS, retain: own.Retain}
	size := uint32(len(own.Payload))
	m.payload = abi.Ref{Offset: e.At + uint32(len(e.Data)) - size, Size: size} // it stands at the end of the event
	if c.full() || !c.roomForPublish(&m) {
		m.qos, m.retain = 0, false
	}
	if m.retain {
		c.setRetained(&m) // where there is no room it is published without being kept
	}
	c.distribute(c.routes.at(c.routeTo(topic)), &m)
}
