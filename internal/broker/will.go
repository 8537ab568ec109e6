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
		c.dropWillPeer(s)
	}
}

// keepWillPeer leaves the peer whose connection ends with the session, if that has a will: rules and stamps may have changed since CONNECT, and
// may while the will waits.
func (c *Core) keepWillPeer(p *connection) {
	if s := c.sessions.at(p.session); s.will != 0 {
		s.willPeer, p.peer = p.peer, block{}
	}
}

func (c *Core) dropWillPeer(s *session) {
	c.store.release(s.willPeer)
	s.willPeer = block{}
}

// publishWill publishes the will of a session [MQTT-3.1.2-8], unless the rules do not allow it any more.
func (c *Core) publishWill(id uint32) {
	s := c.sessions.at(id)
	will := s.will
	s.will, s.willAt = 0, 0
	var m content
	c.load(will, &m)
	if !c.judgeWill(id, &m) {
		c.stats.Denied++
		c.giveUp(will)
		return
	}
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

// judgeWill says whether the rules that hold now let the peer that has left a will publish it, and stamps it as they say. The peer is needed no
// more then.
func (c *Core) judgeWill(id uint32, m *content) (ok bool) {
	s := c.sessions.at(id)
	p := connection{session: id, peer: s.willPeer}
	c.judge(&p, c.store.bytes(s.clientID))
	stamp, ok := c.permitToPublish(&p, m.topic)
	if ok {
		c.restamp(m, stamp)
	}
	c.dropPermits(&p)
	c.dropWillPeer(s)
	return ok
}

// restamp gives a will the stamp that the rules ask for now in place of the one that it has, if that is another.
func (c *Core) restamp(m *content, stamp []byte) {
	var before []byte
	if m.props != nil {
		before = m.props.User
	}
	m.props, m.propsSize = c.mark(m.props, stamp, &c.props), 0
	if m.props != nil && string(m.props.User) != string(before) {
		m.kept = 0 // what is kept has the stamp of before
	}
}
