package broker

import (
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// setWill keeps the will of a CONNECT (3.1.2.5), which the rules allow.
func (c *Core) setWill(p *connection, s *session, w *mqtt.Will) {
	m := content{topic: w.Topic, qos: w.QoS, retain: w.Retain}
	s.willDelay = 0
	if has := w.Props.Has; has != 0 {
		if has.Has(mqtt.PropWillDelayInterval) {
			s.willDelay = w.Props.WillDelayInterval
		}
		w.Props.Has &= mqtt.ForwardProperties
		m.props = &w.Props
	}
	stamp, _ := c.permitToPublish(p, w.Topic)
	m.props = c.mark(m.props, stamp, &w.Props)
	s.will = c.createMessage(&m, w.Payload)
	c.messages.at(s.will).users = 1
}

// dropWill forgets the will of a session.
func (c *Core) dropWill(s *session) {
	if s.will != 0 {
		c.giveUp(s.will)
		s.will, s.willAt = 0, 0
	}
}

// publishWill publishes the will of a session [MQTT-3.1.2-8].
func (c *Core) publishWill(id uint32) {
	s := c.sessions.at(id)
	will := s.will
	s.will, s.willAt = 0, 0
	var m content
	c.load(will, &m)
	m.session = id
	if m.props != nil { // its life begins now, not at CONNECT
		m.expires = c.expiryOf(m.props)
		c.messages.at(will).expires = m.expires
	}
	if m.retain {
		c.setRetained(&m) // where there is no room it is published without being kept
	}
	c.distribute(c.routes.at(c.routeTo(m.topic)), &m)
	c.giveUp(will)
}
