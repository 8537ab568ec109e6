package brokertest

import (
	"cmp"
	"slices"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// subscribe makes one subscription. Retained messages come at once if nothing waits; else the client does not ask for
// them, because they would be those of later.
func (p *modelPlay) subscribe(c *modelClient) error {
	if err := p.run(); err != nil {
		return err
	}
	sub := modelSubscription{qos: byte(p.r.IntN(3))}
	idle := p.model.waiting(c.session) == 0 && !c.session.blocked &&
		!slices.ContainsFunc(c.session.flight, func(d *modelDelivery) bool { return d.again })
	if p.tight { // those that would have to wait come a few at a time
		idle = idle && c.session.room() >= len(p.model.retained)
	}
	var props mqtt.Properties
	switch {
	case c.version == mqtt.V5:
		sub.retainHandling, sub.retainAsPublished = byte(p.r.IntN(3)), p.r.IntN(2) == 0
		sub.noLocal = p.r.IntN(4) == 0
		if p.r.IntN(2) == 0 {
			sub.identifier = 1 + p.r.Uint32N(300)
			props.Has, props.SubscriptionIDs = props.Has.With(mqtt.PropSubscriptionIdentifier), []uint32{sub.identifier}
		}
		if !idle {
			sub.retainHandling = 2
		}
	case !idle:
		return nil
	}
	filter := cmp.Or(RandomFilter(p.r), "a")
	if p.r.IntN(3) == 0 {
		filter = []string{"$x/runs/a", "$x/runs/+", "$x/#"}[p.r.IntN(3)]
	}
	p.note("%s subscribes to %s %+v", c.id, filter, sub)
	c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 7, &props, []mqtt.Filter{{
		Topic: []byte(filter), QoS: sub.qos, NoLocal: sub.noLocal, RetainAsPublished: sub.retainAsPublished, RetainHandling: sub.retainHandling,
	}}))
	c.session.answers = append(c.session.answers, answerText(mqtt.SUBACK, 7, sub.qos))
	p.model.subscribe(c.session, filter, sub)
	return p.run()
}

// subscribeShared makes a client a member of a group.
func (p *modelPlay) subscribeShared(c *modelClient) {
	if c.number >= modelSharing {
		return
	}
	g := p.model.groups[modelShared[p.r.IntN(len(modelShared))]]
	sub := modelSubscription{qos: modelGrant(c.id, g.number), identifier: g.number}
	p.note("%s subscribes to %s %+v", c.id, g.name, sub)
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropSubscriptionIdentifier), SubscriptionIDs: []uint32{g.number}}
	c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 8, &props, []mqtt.Filter{{Topic: []byte(g.name), QoS: sub.qos}}))
	c.session.answers = append(c.session.answers, answerText(mqtt.SUBACK, 8, sub.qos))
	p.model.subscribe(c.session, g.name, sub)
}

// unsubscribe ends one of the subscriptions of a client, or one that it has not.
func (p *modelPlay) unsubscribe(c *modelClient) {
	filter := cmp.Or(RandomFilter(p.r), "a")
	var list []string
	for f := range c.session.subscriptions {
		list = append(list, f)
	}
	if slices.Sort(list); len(list) > 0 && p.r.IntN(4) > 0 {
		filter = list[p.r.IntN(len(list))]
	}
	p.note("%s unsubscribes from %s", c.id, filter)
	c.conn.Packets(mqtt.AppendUnsubscribe(nil, c.version, 9, nil, [][]byte{[]byte(filter)}))
	had := p.model.unsubscribe(c.session, filter)
	switch {
	case c.version != mqtt.V5:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9))
	case had:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9, 0))
	default:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9, byte(mqtt.NoSubscriptionExisted)))
	}
}
