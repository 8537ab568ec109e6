package brokertest

import (
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// connect connects a client, which takes over its own session if it is connected.
func (p *modelPlay) connect(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	req := p.connectRequest(c)
	s, present := p.model.connect(c.id, req.CleanStart)
	p.enter(c, s, req)
	s.answers = []string{connackText(present, 0)}
	p.note("%s connects v%d clean=%v present=%v window=%d small=%v expiry=%d will=%+v delay=%d",
		c.id, c.version, req.CleanStart, present, s.window, s.small, s.expiry, s.will, s.willDelay)
	sent := c.sent
	c.session, c.deaf, c.owed, c.sent, c.aliases = s, false, nil, nil, make([]string, modelAliases+1)
	c.conn = p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	if present {
		c.sent = sent
		p.sendAgain(c)
	}
	return nil
}

// sendAgain sends what was not complete when the last connection ended [MQTT-4.4.0-1]. Where a queue may be full, QoS 1 is
// left out: of two messages that are the same nobody could tell which one was dropped.
func (p *modelPlay) sendAgain(c *modelClient) {
	if p.tight {
		c.sent = slices.DeleteFunc(c.sent, func(s *modelSent) bool { return s.msg.qos == 1 })
	}
	for _, s := range c.sent {
		if c.version != mqtt.V5 { // there are no properties
			plain := *s.msg
			plain.user, plain.life = "", modelNever
			s.msg = &plain
		}
		if s.released {
			p.release(c, s.id)
		} else {
			p.send(c, s.msg, s.id, true)
		}
	}
}

func (p *modelPlay) connectRequest(c *modelClient) *mqtt.Connect {
	c.version = mqtt.V5
	if c.number >= modelSharing && p.r.IntN(2) == 0 {
		c.version = mqtt.V311
	}
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id), CleanStart: p.r.IntN(6) == 0}
	if c.version == mqtt.V5 {
		props := &req.Props
		props.Has = props.Has.With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
		props.SessionExpiryInterval = []uint32{0, 1 + p.r.Uint32N(4), 1000, modelForever}[p.r.IntN(4)]
		props.ReceiveMaximum = uint16(1 + p.r.IntN([]int{4, 60}[p.r.IntN(2)]))
		if c.number >= modelSharing && p.r.IntN(2) == 0 {
			props.Has = props.Has.With(mqtt.PropMaximumPacketSize)
			props.MaximumPacketSize = modelSmall
		}
	}
	if req.HasWill = p.r.IntN(2) == 0; req.HasWill {
		p.addWill(c, req)
	}
	return req
}

func (p *modelPlay) addWill(c *modelClient, req *mqtt.Connect) {
	msg := p.message(c)
	msg.payload += " will"
	req.Will = mqtt.Will{Topic: []byte(msg.topic), Payload: []byte(msg.payload), QoS: msg.qos, Retain: msg.retain}
	if c.version == mqtt.V5 {
		req.Will.Props = *msg.properties()
		req.Will.Props.Has = req.Will.Props.Has.With(mqtt.PropWillDelayInterval)
		req.Will.Props.WillDelayInterval = uint32(p.r.IntN(4))
	}
	c.will = msg
}

// enter notes in the model what a CONNECT asks for.
func (p *modelPlay) enter(c *modelClient, s *modelSession, req *mqtt.Connect) {
	s.version, s.window, s.expiry, s.small = c.version, int(modelWide.MaxInflight), 0, false
	if req.HasWill {
		s.will, s.willDelay = c.will, 0
	}
	if c.version != mqtt.V5 {
		if !req.CleanStart {
			s.expiry = modelForever
		}
		return
	}
	s.expiry, s.willDelay = req.Props.SessionExpiryInterval, req.Will.Props.WillDelayInterval
	s.small = req.Props.Has.Has(mqtt.PropMaximumPacketSize)
	if req.Props.Has.Has(mqtt.PropReceiveMaximum) {
		s.window = min(s.window, int(req.Props.ReceiveMaximum))
	}
}

// part prepares the end of a connection: all that was sent to it has been seen, and nothing comes due in the same
// millisecond as what this end makes due, so that the order is known.
func (p *modelPlay) part() error {
	if err := p.run(); err != nil {
		return err
	}
	for again := true; again; {
		again = false
		for _, s := range p.model.sessions {
			for _, t := range []int64{s.willAt, s.endsAt} {
				again = again || !s.online && t != modelNever && (t-p.model.now)%1000 == 0
			}
		}
		if again {
			if err := p.advance(1); err != nil {
				return err
			}
		}
	}
	return nil
}

// lose cuts a connection.
func (p *modelPlay) lose(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	p.note("%s is lost", c.id)
	c.conn.Lose()
	c.conn = nil
	p.model.leave(c.session)
	return nil
}

// disconnect ends a connection with DISCONNECT: with or without the will, and sometimes another session expiry.
func (p *modelPlay) disconnect(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	var props mqtt.Properties
	var reason mqtt.ReasonCode
	if c.version == mqtt.V5 {
		reason = mqtt.ReasonCode(4 * p.r.IntN(2))
		if c.session.expiry > 0 && p.r.IntN(3) == 0 {
			props.Has = props.Has.With(mqtt.PropSessionExpiryInterval)
			props.SessionExpiryInterval = uint32(p.r.IntN(3))
			c.session.expiry = props.SessionExpiryInterval
		}
	}
	p.note("%s disconnects, reason %d, expiry %d", c.id, reason, c.session.expiry)
	c.conn.Packets(mqtt.AppendDisconnect(nil, c.version, reason, &props))
	c.conn = nil
	if reason == 0 {
		c.session.will = nil // [MQTT-3.14.4-3]
	}
	p.model.leave(c.session)
	return nil
}

const modelSmall = 400 // bytes, less than a big message
