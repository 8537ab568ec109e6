package broker

import (
	"fmt"
	"slices"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// sharedFilters are the shared subscriptions of the model. Each has its number, from 1, as subscription identifier, by
// which its messages are told from those of other subscriptions.
var sharedFilters = []string{"$share/g/#", "$share/h/#", "$share/g/a/#", "$share/g/+/+"}

// modelGroup is a shared subscription: who its members are is in their sessions.
type modelGroup struct {
	messages   map[string]*modelShared // by payload, which are all different
	deliveries map[string][]*modelDelivery
}

// modelShared is a message for a group.
type modelShared struct {
	qos  byte
	must bool // some member must get it
}

// modelDelivery is that a member got a message for the first time.
type modelDelivery struct {
	to    *modelSession
	qos   byte
	acked bool
}

func newModelGroups() (list []*modelGroup) {
	for range sharedFilters {
		list = append(list, &modelGroup{map[string]*modelShared{}, map[string][]*modelDelivery{}})
	}
	return list
}

// publishShared notes that a message is for the groups that match.
func (m *model) publishShared(msg modelMessage) {
	for i, full := range sharedFilters {
		_, filter, _, _ := mqtt.ParseShared([]byte(full))
		if msg.payload == "" || !modelMatch(string(filter), msg.topic) {
			continue
		}
		online, keepers, members := m.membersOf(full)
		if members > 0 {
			m.groups[i].messages[msg.payload] = &modelShared{msg.qos, online > 0 || msg.qos > 0 && keepers > 0}
		}
	}
}

func (m *model) membersOf(filter string) (online, keepers, members int) {
	for _, s := range m.sessions {
		qos, ok := s.shared[filter]
		if !ok {
			continue
		}
		members++
		if s.online {
			online++
		}
		if qos > 0 {
			keepers++
		}
	}
	return online, keepers, members
}

// changeShared gives a session a shared subscription with a granted QoS, or takes it if that is below 0.
func (m *model) changeShared(s *modelSession, filter string, qos int) {
	if delete(s.shared, filter); qos >= 0 {
		s.shared[filter] = byte(qos)
	}
	if _, keepers, _ := m.membersOf(filter); keepers == 0 { // what waited is lost
		for _, msg := range m.groups[slices.Index(sharedFilters, filter)].messages {
			msg.must = false
		}
	}
}

// end ends a session.
func (m *model) end(id string) {
	s := m.sessions[id]
	if s == nil {
		return
	}
	s.ended = true
	for filter := range s.shared {
		m.changeShared(s, filter, -1)
	}
	delete(m.sessions, id)
}

// subscribeShared makes a shared subscription.
func (m *modelTest) subscribeShared(c *modelClient) {
	i := m.r.IntN(len(sharedFilters))
	f := mqtt.Filter{Topic: []byte(sharedFilters[i]), QoS: byte(m.r.IntN(3))}
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropSubscriptionIdentifier), SubscriptionIDs: []uint32{uint32(i + 1)}}
	c.send([][]byte{mqtt.AppendSubscribe(nil, mqtt.V5, 1, &props, []mqtt.Filter{f})})
	m.model.changeShared(m.model.sessions[c.id], sharedFilters[i], int(f.QoS))
}

// unsubscribeShared ends one, if there is one.
func (m *modelTest) unsubscribeShared(c *modelClient) {
	filter := sharedFilters[m.r.IntN(len(sharedFilters))]
	c.send([][]byte{mqtt.AppendUnsubscribe(nil, mqtt.V5, 1, nil, [][]byte{[]byte(filter)})})
	m.model.changeShared(m.model.sessions[c.id], filter, -1)
}

// takeShared receives a message of a group.
func (m *modelTest) takeShared(c *modelClient, p *mqtt.Publish) {
	if len(p.Payload) == 0 {
		return
	}
	d := &modelDelivery{to: c.session, qos: p.QoS}
	if p.QoS == 1 {
		c.held[p.PacketID] = d
	}
	g, payload := m.model.groups[p.Props.SubscriptionIDs[0]-1], string(p.Payload)
	g.deliveries[payload] = append(g.deliveries[payload], d)
	if len(g.deliveries[payload]) > 1 {
		m.twice = append(m.twice, g.deliveries[payload])
	}
}

// checkOnce looks at the messages that several members have got: all but one of these must have got them at QoS 1, not
// have acknowledged them, and have lost their sessions.
func (m *modelTest) checkOnce() {
	for _, list := range m.twice {
		keep := 0
		for _, d := range list {
			if d.qos != 1 || d.acked || !d.to.ended {
				keep++
			}
		}
		if keep > 1 {
			m.t.Fatalf("%d members of a group have received the same message", len(list))
		}
	}
	m.twice = m.twice[:0]
}

// noteAcks notes which messages of groups a client acknowledges.
func (c *modelClient) noteAcks(packets [][]byte) {
	for _, packet := range packets {
		if mqtt.TypeOf(packet) != mqtt.PUBACK {
			continue
		}
		mqtt.ParseAck(packet, mqtt.V5, &c.ack)
		if d := c.held[c.ack.PacketID]; d != nil {
			d.acked = true
			delete(c.held, c.ack.PacketID)
		}
	}
}

// checkShared checks, at the end, that the groups got their messages, and no others.
func (m *modelTest) checkShared() {
	for i, g := range m.model.groups {
		for payload, msg := range g.messages {
			if msg.must && len(g.deliveries[payload]) == 0 {
				m.t.Fatalf("nobody of %s has received %q of QoS %d", sharedFilters[i], payload, msg.qos)
			}
		}
		for payload, list := range g.deliveries {
			msg := g.messages[payload]
			if msg == nil || slices.ContainsFunc(list, func(d *modelDelivery) bool { return d.qos > msg.qos }) {
				m.t.Fatalf("%s has received %q, which was not for it, or not at that QoS", sharedFilters[i], payload)
			}
		}
	}
	if n := m.core.groups.waiting; n != 0 {
		m.t.Fatalf("%d messages wait although all have been acknowledged", n)
	}
}

// sharedMark is what a line says of a message of a group.
func sharedMark(p *mqtt.Publish) string {
	if len(p.Props.SubscriptionIDs) == 0 || !p.Props.Has.Has(mqtt.PropSubscriptionIdentifier) {
		return ""
	}
	return fmt.Sprintf(" group %d", p.Props.SubscriptionIDs[0])
}
