package broker

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The model is a broker in as few lines as possible: maps, no packets in flight, no time. It says what each client
// must have received in the end.
type model struct {
	sessions map[string]*modelSession
	retained map[string]modelMessage
	groups   []*modelGroup // see model_shared_test.go
}

type modelMessage struct {
	topic, payload string
	qos            byte
}

// modelSession is the life of a session, from the CONNACK without session present to its end.
type modelSession struct {
	online        bool
	persistent    bool
	subscriptions map[string]mqtt.Filter
	shared        map[string]byte // granted QoS by filter
	ended         bool
	will          *modelMessage
	willRetain    bool
	live          []string // what must come in this order, as line writes it
	retained      []string // what must come in any order
}

func line(topic, payload string, qos byte, retain bool) string {
	return fmt.Sprintf("%s=%s qos%d retain=%v", topic, payload, qos, retain)
}

func (m *model) publish(from string, msg modelMessage, retain bool) {
	if retain {
		m.retained[msg.topic] = msg
		if msg.payload == "" {
			delete(m.retained, msg.topic)
		}
	}
	m.publishShared(msg)
	for id, s := range m.sessions {
		qos, asPublished, found := byte(0), false, false
		for filter, f := range s.subscriptions {
			if f.NoLocal && id == from || !modelMatch(filter, msg.topic) {
				continue
			}
			qos, asPublished, found = max(qos, f.QoS), asPublished || f.RetainAsPublished, true
		}
		if qos = min(qos, msg.qos); found && (s.online || qos > 0) {
			s.live = append(s.live, line(msg.topic, msg.payload, qos, retain && asPublished))
		}
	}
}

// modelMatch compares level by level.
func modelMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && strings.ContainsAny(f[0], "+#") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t) || level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

func (m *model) subscribe(id string, f mqtt.Filter) {
	s, filter := m.sessions[id], string(f.Topic)
	_, had := s.subscriptions[filter]
	s.subscriptions[filter] = f
	if f.RetainHandling == 2 || f.RetainHandling == 1 && had {
		return
	}
	for topic, msg := range m.retained {
		if modelMatch(filter, topic) {
			s.retained = append(s.retained, line(topic, msg.payload, min(msg.qos, f.QoS), true))
		}
	}
}

// modelClient is a client that follows the protocol, loses its connection now and then, and keeps what it received.
type modelClient struct {
	id         string
	conn       *brokertest.Conn
	session    *modelSession
	got        []string                  // in the life of its session
	seen       map[string]bool           // lines of QoS 1 and 2 that it got
	unreleased map[uint16]bool           // QoS 2 ids that it got and that are not released
	held       map[uint16]*modelDelivery // messages of groups at QoS 1 that it has not acknowledged
	acks       [][]byte
	sent       map[uint16][]byte // QoS 2 packets, or their PUBREL, that are not complete
	nextID     uint16
	publish    mqtt.Publish
	ack        mqtt.Ack
}

type modelTest struct {
	t       *testing.T
	r       *rand.Rand
	core    *Core
	rig     *brokertest.Rig
	model   model
	clients []*modelClient
	twice   [][]*modelDelivery // messages that came to one more member of a group in this run
	count   int
}

// TestAgainstModel lets clients do random things and compares what they received with what the model says: nothing
// is lost, nothing comes twice at QoS 2, and the order of each publisher's messages is kept.
func TestAgainstModel(t *testing.T) {
	for range 30 {
		m := newModelTest(t, newRandom(t))
		for range 400 {
			m.step()
		}
		m.finish()
	}
}

func newModelTest(t *testing.T, r *rand.Rand) *modelTest {
	core := New()
	m := &modelTest{t: t, r: r, core: core, rig: brokertest.New(core)}
	m.model = model{map[string]*modelSession{}, map[string]modelMessage{}, newModelGroups()}
	limits := benchLimits
	limits.StepWork = 1 + r.Uint32N(40)
	options := abi.Options{Shared: abi.SharedStrategy(r.IntN(5))}
	m.rig.Configure(&abi.Config{Limits: limits, Options: options, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#", "$x/#"}, Subscribe: []string{"#", "$x/#"},
	}}})
	for i := range 5 {
		m.clients = append(m.clients, &modelClient{id: fmt.Sprintf("c%d", i)})
	}
	return m
}

// topic and filter are never empty.
func (m *modelTest) topic() string { return cmp.Or(brokertest.RandomTopic(m.r), "a") }

func (m *modelTest) filter() string { return cmp.Or(brokertest.RandomFilter(m.r), "a") }

// step makes one batch of a few operations.
func (m *modelTest) step() {
	for range 1 + m.r.IntN(5) {
		c := m.clients[m.r.IntN(len(m.clients))]
		if c.conn == nil {
			m.connect(c)
			m.run() // the CONNACK says how to go on
			continue
		}
		switch n := m.r.IntN(20); {
		case n < 9:
			m.publish(c)
		case n < 12:
			m.subscribe(c)
		case n < 13:
			filter := m.filter()
			delete(m.model.sessions[c.id].subscriptions, filter)
			c.conn.Packets(mqtt.AppendUnsubscribe(nil, mqtt.V5, 1, nil, [][]byte{[]byte(filter)}))
		case n < 14:
			m.subscribeShared(c)
		case n < 15 && m.r.IntN(2) == 0:
			m.unsubscribeShared(c)
		case n < 18:
			k := m.r.IntN(len(c.acks) + 1)
			c.send(c.acks[:k])
			c.acks = c.acks[k:]
		default:
			m.lose(c, m.r.IntN(2) == 0)
		}
	}
	m.run()
}

func (c *modelClient) send(packets [][]byte) {
	if len(packets) > 0 {
		c.noteAcks(packets)
		c.conn.Packets(packets...)
	}
}

func (m *modelTest) run() {
	if err := m.rig.Run(); err != nil {
		m.t.Fatal(err)
	}
	if err := m.core.checkGroups(); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range m.clients {
		m.receive(c)
	}
	m.checkOnce()
}

func (m *modelTest) connect(c *modelClient) {
	req := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(c.id), CleanStart: m.r.IntN(5) == 0}
	req.Props.Has = req.Props.Has.With(mqtt.PropReceiveMaximum).With(mqtt.PropSessionExpiryInterval)
	req.Props.ReceiveMaximum = uint16(1 + m.r.IntN(8))
	s := m.model.sessions[c.id]
	if req.CleanStart || s == nil {
		m.check(c)
		m.model.end(c.id)
		s = &modelSession{subscriptions: map[string]mqtt.Filter{}, shared: map[string]byte{}}
		m.model.sessions[c.id] = s
		*c = modelClient{id: c.id, session: s, seen: map[string]bool{}, unreleased: map[uint16]bool{}, sent: map[uint16][]byte{}}
		c.held = map[uint16]*modelDelivery{}
	}
	s.online = true
	if s.persistent = m.r.IntN(5) > 0; s.persistent {
		req.Props.SessionExpiryInterval = 1000
	}
	if s.will = nil; m.r.IntN(2) == 0 {
		m.count++
		w := modelMessage{m.topic(), fmt.Sprintf("%s.%d", c.id, m.count), byte(m.r.IntN(3))}
		s.will, s.willRetain, req.HasWill = &w, m.r.IntN(2) == 0, true
		req.Will = mqtt.Will{Topic: []byte(w.topic), Payload: []byte(w.payload), QoS: w.qos, Retain: s.willRetain}
	}
	c.conn = m.rig.Open(&abi.Peer{Listener: "plain"})
	c.send([][]byte{mqtt.AppendConnect(nil, &req)})
	for _, id := range sortedIDs(c.sent) { // what was on its way is sent again [MQTT-4.4.0-1]
		c.send([][]byte{c.sent[id]})
	}
}

func sortedIDs(sent map[uint16][]byte) (ids []uint16) {
	for id := range sent {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// lose ends the connection of a client, with or without DISCONNECT.
func (m *modelTest) lose(c *modelClient, polite bool) {
	s := m.model.sessions[c.id]
	if polite {
		c.send([][]byte{mqtt.AppendDisconnect(nil, mqtt.V5, 0, nil)})
	} else {
		c.conn.Lose()
	}
	s.online, s.ended = false, !s.persistent
	m.run()
	c.conn, c.acks = nil, nil
	if s.will != nil && !polite {
		m.model.publish(c.id, *s.will, s.willRetain)
	}
	if !s.persistent {
		m.check(c)
		m.model.end(c.id)
	}
}

func (m *modelTest) publish(c *modelClient) {
	m.count++
	c.nextID++
	msg := modelMessage{m.topic(), fmt.Sprintf("%s.%d", c.id, m.count), byte(m.r.IntN(3))}
	retain := m.r.IntN(6) == 0
	if retain && m.r.IntN(3) == 0 {
		msg.payload = ""
	}
	p := mqtt.Publish{Topic: []byte(msg.topic), Payload: []byte(msg.payload), QoS: msg.qos, Retain: retain}
	if p.QoS > 0 {
		p.PacketID = c.nextID
	}
	packets := [][]byte{mqtt.AppendPublish(nil, mqtt.V5, &p)}
	if p.QoS == 2 {
		p.Dup = true
		c.sent[p.PacketID] = mqtt.AppendPublish(nil, mqtt.V5, &p)
		if m.r.IntN(5) == 0 {
			packets = append(packets, c.sent[p.PacketID])
		}
	}
	c.send(packets)
	m.model.publish(c.id, msg, retain)
}

func (m *modelTest) subscribe(c *modelClient) {
	m.run()
	for len(c.acks) > 0 { // retained messages wait for an empty queue, and could be others by then
		c.send(c.acks)
		c.acks = nil
		m.run()
	}
	f := mqtt.Filter{
		Topic: []byte(m.filter()), QoS: byte(m.r.IntN(3)), RetainAsPublished: m.r.IntN(2) == 0, RetainHandling: byte(m.r.IntN(3)),
	}
	c.send([][]byte{mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{f})})
	m.run()
	m.model.subscribe(c.id, f)
}

// receive reads what has come to a client.
func (m *modelTest) receive(c *modelClient) {
	if c.conn == nil {
		return
	}
	items, err := c.conn.Received()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, item := range items {
		switch kind := mqtt.TypeOf(item.Packet); kind {
		case mqtt.PUBLISH:
			m.take(c, item.Packet)
		case mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
			mqtt.ParseAck(item.Packet, mqtt.V5, &c.ack)
			c.answer(kind, c.ack.PacketID)
		case mqtt.DISCONNECT:
			m.t.Fatalf("%s has been disconnected: % x", c.id, item.Packet)
		}
	}
}

// answer goes on with the handshake of QoS 2.
func (c *modelClient) answer(kind mqtt.PacketType, id uint16) {
	switch kind {
	case mqtt.PUBREC:
		c.sent[id] = mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBREL, id, 0, nil)
		c.acks = append(c.acks, c.sent[id])
	case mqtt.PUBCOMP:
		delete(c.sent, id)
	case mqtt.PUBREL:
		delete(c.unreleased, id)
		c.acks = append(c.acks, mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBCOMP, id, 0, nil))
	}
}

// take receives a PUBLISH.
func (m *modelTest) take(c *modelClient, packet []byte) {
	p := &c.publish
	if fault := mqtt.ParseServerPublish(packet, mqtt.V5, p); fault != nil {
		m.t.Fatal(fault.Err())
	}
	mark := sharedMark(p)
	text := line(string(p.Topic), string(p.Payload), p.QoS, p.Retain) + mark
	switch p.QoS {
	case 1:
		c.acks = append(c.acks, mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBACK, p.PacketID, 0, nil))
		if p.Dup && c.seen[text] {
			return // it may come twice, after the connection was lost
		}
	case 2:
		c.acks = append(c.acks, mqtt.AppendAck(nil, mqtt.V5, mqtt.PUBREC, p.PacketID, 0, nil))
		if p.Dup && c.unreleased[p.PacketID] {
			return // its acknowledgement was lost: the same message [MQTT-4.3.3-10]
		}
		c.unreleased[p.PacketID] = true
	}
	c.seen[text] = true
	if mark != "" {
		m.takeShared(c, p)
		return
	}
	c.got = append(c.got, text)
}

// finish connects all that have a session, acknowledges until nothing more comes, and checks.
func (m *modelTest) finish() {
	for _, c := range m.clients {
		if s := m.model.sessions[c.id]; c.conn == nil && s != nil {
			c.conn = m.rig.Open(&abi.Peer{Listener: "plain"})
			c.send([][]byte{mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: []byte(c.id)})})
			s.online = true
		}
	}
	for more := true; more; {
		m.run()
		more = false
		for _, c := range m.clients {
			if c.conn != nil {
				more = more || len(c.acks) > 0
				c.send(c.acks)
				c.acks = nil
			}
		}
	}
	if err := m.rig.Advance(time.Minute); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range m.clients {
		if s := m.model.sessions[c.id]; s != nil {
			m.compare(c, s, true)
		}
	}
	m.checkShared()
}

// check looks at what a client received in a session that ends now.
func (m *modelTest) check(c *modelClient) {
	if s := m.model.sessions[c.id]; s != nil {
		m.compare(c, s, false)
	}
}

// compare compares what came with what should have come: all of it, or what had time to come.
func (m *modelTest) compare(c *modelClient, s *modelSession, all bool) {
	for qos := range 3 {
		word := fmt.Sprintf(" qos%d ", qos)
		want, got := only(s.live, word), only(c.got, word)
		var kept []string // without the retained ones, which come in any order
		rest := slices.Clone(s.retained)
		for _, text := range got {
			next := len(kept) < len(want) && want[len(kept)] == text
			if i := slices.Index(rest, text); !next && i >= 0 {
				rest = slices.Delete(rest, i, i+1)
			} else {
				kept = append(kept, text)
			}
		}
		if all || qos == 0 {
			if left := only(rest, word); len(left) > 0 && (all || s.online) {
				m.t.Fatalf("%s has not received the retained messages %q", c.id, left)
			}
		} else {
			want = want[:min(len(want), len(kept))]
		}
		if !slices.Equal(kept, want) {
			m.t.Fatalf("%s has received at QoS %d\n%q, not\n%q\nretained were due %q", c.id, qos, kept, want, sorted(s.retained))
		}
	}
}

func only(list []string, word string) (some []string) {
	for _, text := range list {
		if strings.Contains(text, word) {
			some = append(some, text)
		}
	}
	return some
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	sort.Strings(list)
	return list
}
