package engine

import (
	"fmt"
	"math/rand/v2"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// traffic makes up what several clients of all versions do: mostly what the standard allows, sometimes not. It
// answers what it gets, so that flows of QoS 1 and 2 go on.
type traffic struct {
	*rand.Rand
	clients [8]trafficClient
	next    abi.Conn
	now     int64
	closed  []abi.Conn // by the core; the end is still to be told
	events  []byte     // of the batch that is being made up
}

type trafficClient struct {
	conn    abi.Conn // 0 if not connected
	version mqtt.Version
	id      uint16 // packet id used last
	asked   bool   // the core has asked who it is
	answers []byte // packets that it still owes
	count   uint32
}

func newTraffic(seed uint64) *traffic {
	return &traffic{Rand: rand.New(rand.NewPCG(seed, 1)), now: 1_700_000_000_000}
}

// trafficLimits are small, so that limits are met.
var trafficLimits = abi.Limits{
	MaxPacketSize: 4096, MaxInflight: 4, ReceiveMaximum: 4, TopicAliasMaximum: 3, MaxQueued: 20, MaxQueuedBytes: 4000,
	MaxRetained: 10, MaxRetainedBytes: 2000, MaxSessions: 10, MaxSubscriptions: 6, MaxTopicLevels: 5, MaxKeepAlive: 60,
	MaxSessionExpiry: 300, MaxMemory: 1 << 16, ConnectTimeout: 5000, StallTimeout: 1000, StepWork: 50,
}

func trafficConfig() []byte {
	options := abi.Options{Methods: []string{"m"}, ResponsePrefix: "a/%c", ServerReference: "other:1883"}
	return abi.AppendConfig(nil, &abi.Config{Limits: trafficLimits, Options: options, Rules: []abi.Rule{
		{Who: []abi.Condition{{Identity: "sensor"}}, Publish: []string{"a/%c/#", "b/+"}, Subscribe: []string{"a/#", "$share/g/b/+"}},
		{Who: []abi.Condition{{Anonymous: true, Listener: "plain"}}, Publish: []string{"#"}, Subscribe: []string{"#"}},
	}})
}

// batch makes up the next batch.
func (t *traffic) batch() []byte {
	t.events = t.events[:0]
	t.now += int64(t.IntN(3)) * int64(t.IntN(2000))
	for _, conn := range t.closed {
		t.event(abi.EventClosed, conn, 0, nil)
	}
	t.closed = t.closed[:0]
	for i := range t.clients {
		if c := &t.clients[i]; c.asked && t.IntN(4) > 0 {
			t.authenticated(c)
		}
	}
	for range t.IntN(12) {
		t.act(&t.clients[t.IntN(len(t.clients))])
	}
	switch t.IntN(300) {
	case 0:
		t.event(abi.EventShutdown, 0, 0, nil)
	case 1:
		t.event(abi.EventConfigure, 0, 0, trafficConfig())
	case 2, 3, 4:
		t.event(abi.EventStats, 0, 0, nil)
	case 5, 6, 7, 8, 9, 10, 11, 12:
		t.event(abi.EventPublish, 0, 0, abi.AppendPublication(nil, &abi.Publication{
			Topic: string(t.topic()), Payload: t.payload(), QoS: byte(t.IntN(4)), Retain: t.IntN(2) == 0,
		}))
	case 13, 14, 15, 16, 17, 18, 19, 20:
		t.ask()
	}
	return t.events
}

// ask asks the core something, or lets it change something.
func (t *traffic) ask() {
	q := abi.Question{Kind: abi.QuestionKind(t.IntN(9)), Cursor: t.Uint32N(3), Limit: t.Uint32N(5), Text: fmt.Sprintf("c%d", t.IntN(6))}
	if q.Kind == abi.AskRetained || q.Kind == abi.DoClearRetained {
		q.Text = string(t.filter().Topic)
	}
	t.event(abi.EventAsk, 0, t.Uint32(), abi.AppendQuestion(nil, &q))
}

// authenticated says who a client is: mostly somebody who may come in.
func (t *traffic) authenticated(c *trafficClient) {
	c.asked = false
	reason := []uint32{0, 0, 0, 0, 0x18, 0x18, 0x87, 7}[t.IntN(8)]
	t.event(abi.EventAuthenticated, c.conn, reason, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{Data: []byte("d"), Reason: "r"}))
	if reason == 0x18 { // it is challenged by then
		t.event(abi.EventPackets, c.conn, 1, authPacket(mqtt.ContinueAuthentication))
	}
}

func authPacket(reason mqtt.ReasonCode) []byte {
	p := mqtt.Properties{AuthenticationMethod: []byte("m")}
	p.Has = p.Has.With(mqtt.PropAuthenticationMethod)
	return mqtt.AppendAuth(nil, reason, &p)
}

func (t *traffic) event(kind abi.EventKind, conn abi.Conn, arg uint32, data []byte) {
	t.events = abi.AppendEvent(t.events, kind, conn, arg, data)
}

// act lets a client do something.
func (t *traffic) act(c *trafficClient) {
	if c.conn == 0 {
		t.open(c)
		return
	}
	switch n := t.IntN(100); {
	case n < 2:
		t.event(abi.EventClosed, c.conn, 0, nil)
		*c = trafficClient{}
	case n < 4:
		t.event([]abi.EventKind{abi.EventBlocked, abi.EventUnblocked, abi.EventSynced}[t.IntN(3)], c.conn, 0, nil)
	case n < 5:
		t.event(abi.EventBadPacket, c.conn, 0x81, nil)
	case n < 6:
		t.event(abi.EventDisconnect, c.conn, 0x98, nil)
	case n < 7:
		t.event(abi.EventPackets, c.conn, 1, authPacket(mqtt.ReAuthenticate))
	case c.asked && n < 95: // waits for its CONNACK
	default:
		t.packets(c)
	}
}

func (t *traffic) open(c *trafficClient) {
	t.next = (t.next+1)%100 + 1 // slots come back, with another generation
	c.conn = t.next | abi.Conn(t.IntN(200))<<abi.SlotBits
	c.version = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5, mqtt.V5}[t.IntN(4)]
	peer := abi.Peer{Listener: []string{"plain", "secure"}[t.IntN(2)], Address: "192.0.2.1:99"}
	if peer.Listener == "secure" {
		peer.Identities = []string{"sensor"}
	}
	peer.Authenticate = t.IntN(3) == 0
	t.event(abi.EventOpen, c.conn, 0, abi.AppendPeer(nil, &peer))
	t.event(abi.EventPackets, c.conn, 1, t.connect(c))
}

func (t *traffic) connect(c *trafficClient) []byte {
	p := mqtt.Connect{Version: c.version, CleanStart: t.IntN(3) == 0, KeepAlive: uint16(t.IntN(20)), ClientID: fmt.Appendf(nil, "c%d", t.IntN(6))}
	if t.IntN(10) == 0 {
		p.ClientID, p.CleanStart = nil, true
	}
	if t.IntN(3) == 0 {
		p.HasWill, p.Will = true, mqtt.Will{QoS: byte(t.IntN(3)), Retain: t.IntN(2) == 0, Topic: t.topic(), Payload: t.payload()}
	}
	if c.version == mqtt.V5 && t.IntN(2) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
		p.Props.SessionExpiryInterval, p.Props.ReceiveMaximum = uint32(t.IntN(100)), uint16(1+t.IntN(5))
	}
	if c.version == mqtt.V5 && t.IntN(3) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropAuthenticationMethod).With(mqtt.PropRequestResponseInformation)
		p.Props.AuthenticationMethod, p.Props.RequestResponseInformation = []byte("m"), true
	}
	return mqtt.AppendConnect(nil, &p)
}

func (t *traffic) topic() []byte {
	return []byte([]string{"a/c1/x", "a/c2/y", "b/1", "b/2", "c", "$SYS/x", "a/b/c/d/e/f", "a//b"}[t.IntN(8)])
}

func (t *traffic) filter() mqtt.Filter {
	topics := []string{"a/#", "a/+/x", "b/+", "#", "$share/g/b/+", "+", "c", "$SYS/#", "a/b/c/d/e/f"}
	return mqtt.Filter{
		Topic: []byte(topics[t.IntN(len(topics))]), QoS: byte(t.IntN(3)),
		NoLocal: t.IntN(5) == 0, RetainAsPublished: t.IntN(3) == 0, RetainHandling: byte(t.IntN(3)),
	}
}

func (t *traffic) payload() []byte {
	b := make([]byte, t.IntN(100))
	if t.IntN(20) == 0 {
		b = make([]byte, t.IntN(3000))
	}
	for i := range b {
		b[i] = byte(t.Uint32())
	}
	return b
}

// packets sends a run of packets, what the client owes first.
func (t *traffic) packets(c *trafficClient) {
	run, count := c.answers, c.count
	c.answers, c.count = nil, 0
	for range 1 + t.IntN(6) {
		run = t.packet(run, c)
		count++
	}
	if t.IntN(60) == 0 { // a bit is wrong somewhere; the borders of the packets stay as they are
		if size, ok, f := mqtt.FrameSize(run); ok && f == nil && size > 4 {
			run[2+t.IntN(size-2)] ^= 1 << t.IntN(8)
		}
	}
	var p abi.Portion
	for left := int(count); left > 0; {
		run, left = abi.NextPortion(run, left, 2, &p)
		t.event(p.Kind, c.conn, p.Arg, p.Data)
	}
}

func (t *traffic) packet(b []byte, c *trafficClient) []byte {
	c.id = c.id%60 + 1
	switch n := t.IntN(20); {
	case n < 12:
		return t.publish(b, c)
	case n < 15:
		filters := []mqtt.Filter{t.filter()}
		if t.IntN(3) == 0 {
			filters = append(filters, t.filter())
		}
		return mqtt.AppendSubscribe(b, c.version, c.id, nil, filters)
	case n < 16:
		return mqtt.AppendUnsubscribe(b, c.version, c.id, nil, [][]byte{t.filter().Topic})
	case n < 18:
		return mqtt.AppendPingreq(b)
	case n < 19:
		kinds := []mqtt.PacketType{mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP}
		return mqtt.AppendAck(b, c.version, kinds[t.IntN(4)], uint16(1+t.IntN(10)), 0, nil)
	case t.IntN(4) == 0:
		return mqtt.AppendDisconnect(b, c.version, 0, nil)
	}
	return mqtt.AppendPingreq(b)
}

func (t *traffic) publish(b []byte, c *trafficClient) []byte {
	p := mqtt.Publish{QoS: byte(t.IntN(3)), Retain: t.IntN(6) == 0, Topic: t.topic(), Payload: t.payload()}
	if p.QoS > 0 {
		p.PacketID = c.id
	}
	if c.version == mqtt.V5 && t.IntN(3) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropTopicAlias).With(mqtt.PropMessageExpiryInterval)
		p.Props.TopicAlias, p.Props.MessageExpiryInterval = uint16(1+t.IntN(3)), uint32(1+t.IntN(10))
		if t.IntN(2) == 0 {
			p.Topic = nil
		}
	}
	return mqtt.AppendPublish(b, c.version, &p)
}

// hear lets clients answer what they got.
func (t *traffic) hear(e *abi.Effect) {
	switch e.Kind {
	case abi.EffectClose:
		if c := t.client(e.Conn); c != nil {
			t.closed = append(t.closed, c.conn) // the host says so in the next batch
			*c = trafficClient{}
		}
	case abi.EffectAuthenticate:
		if c := t.client(e.Conn); c != nil {
			c.asked = true
		}
	case abi.EffectDeliver:
		var d abi.Deliver
		if abi.ReadDeliver(e, &d) != nil || d.QoS == 0 {
			return
		}
		for i := range d.NumTargets() {
			target := d.Target(i)
			t.answer(target.Conn, []mqtt.PacketType{0, mqtt.PUBACK, mqtt.PUBREC}[d.QoS], target.PacketID)
		}
	case abi.EffectAcks:
		first, count, err := abi.ReadAcks(e)
		if err != nil {
			return
		}
		reply := map[mqtt.PacketType]mqtt.PacketType{mqtt.PUBREC: mqtt.PUBREL, mqtt.PUBREL: mqtt.PUBCOMP}[mqtt.TypeOf(first)]
		for k := range uint16(count) {
			if reply != 0 {
				t.answer(e.Conn, reply, uint16(first[2])<<8|uint16(first[3])+k)
			}
		}
	case abi.EffectSend:
		if len(e.Data) < 4 {
			return
		}
		id := uint16(e.Data[2])<<8 | uint16(e.Data[3])
		switch mqtt.TypeOf(e.Data) {
		case mqtt.PUBREC:
			t.answer(e.Conn, mqtt.PUBREL, id)
		case mqtt.PUBREL:
			t.answer(e.Conn, mqtt.PUBCOMP, id)
		}
	}
}

func (t *traffic) client(conn abi.Conn) *trafficClient {
	for i := range t.clients {
		if t.clients[i].conn == conn {
			return &t.clients[i]
		}
	}
	return nil
}

func (t *traffic) answer(conn abi.Conn, kind mqtt.PacketType, id uint16) {
	c := t.client(conn)
	if c == nil || t.IntN(8) == 0 { // some never answer
		return
	}
	c.answers = mqtt.AppendAck(c.answers, c.version, kind, id, 0, nil)
	c.count++
}
