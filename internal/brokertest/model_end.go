package brokertest

import (
	"fmt"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// block says that a connection takes nothing, or takes something again.
func (p *modelPlay) block(c *modelClient, blocked bool) {
	p.note("%s is blocked: %v", c.id, blocked)
	kind := abi.EventUnblocked
	if blocked {
		kind = abi.EventBlocked
	}
	c.conn.Event(kind, 0, nil)
	c.session.blocked, c.session.quiet = blocked, false
}

// advance lets time pass, and looks just before something comes due and just then.
func (p *modelPlay) advance(d int64) error {
	if err := p.run(); err != nil {
		return err
	}
	until := p.model.now + d
	for p.model.now < until {
		to := until
		if due := p.model.nextDue(); due != modelNever && due <= until {
			if to = due; due-1 > p.model.now {
				to = due - 1
			}
		}
		if err := p.advanceTo(to); err != nil {
			return err
		}
	}
	return nil
}

func (p *modelPlay) advanceTo(t int64) error {
	if err := p.rig.Advance(time.Duration(t-p.model.now) * time.Millisecond); err != nil {
		return err
	}
	p.model.advance(t)
	return p.receive()
}

// finish connects all that have a session, acknowledges until nothing more comes, and compares the retained messages.
func (p *modelPlay) finish() error {
	for _, c := range p.clients {
		if err := p.resume(c); err != nil {
			return err
		}
	}
	for more := true; more; {
		if err := p.run(); err != nil {
			return err
		}
		more = false
		for _, c := range p.clients {
			if c.conn != nil {
				more = more || len(c.owed) > 0
				p.acknowledge(c, len(c.owed))
			}
		}
	}
	for _, c := range p.clients {
		if s := c.session; c.conn != nil && (len(s.queue) > 0 || len(s.flight) > 0 || len(s.incoming) > 0 || len(c.sent) > 0) {
			return fmt.Errorf("%s has not come to an end: %v in the queue, %v in flight", c.id, s.queue, s.flight)
		}
	}
	return p.compareRetained()
}

// resume gives the session of a client a connection that works.
func (p *modelPlay) resume(c *modelClient) error {
	if p.model.sessions[c.id] == nil {
		return nil
	}
	if err := p.part(); err != nil {
		return err
	}
	c.version = mqtt.V5
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id)}
	s, present := p.model.connect(c.id, false)
	p.enter(c, s, req)
	p.note("%s resumes, present=%v", c.id, present)
	s.answers = []string{connackText(present, 0)}
	c.session, c.deaf, c.owed, c.aliases = s, false, nil, make([]string, modelAliases+1)
	if !present {
		c.sent = nil
	}
	c.conn = p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	p.sendAgain(c)
	return p.run()
}

// compareRetained subscribes to everything.
func (p *modelPlay) compareRetained() error {
	c := &modelClient{id: "observer", number: modelClients}
	p.clients = append(p.clients, c)
	c.version = mqtt.V5
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id)}
	s, _ := p.model.connect(c.id, true)
	p.enter(c, s, req)
	s.answers = []string{connackText(false, 0)}
	c.session, c.conn = s, p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	for _, filter := range []string{"#", "$x/#"} {
		c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 7, nil, []mqtt.Filter{{Topic: []byte(filter), QoS: 0}}))
		s.answers = append(s.answers, answerText(mqtt.SUBACK, 7, 0))
		p.model.subscribe(s, filter, modelSubscription{})
	}
	return p.run()
}
