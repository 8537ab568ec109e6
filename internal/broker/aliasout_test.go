package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// lossy is a host that drops deliveries of QoS 0 as it likes, and clients that use what aliases they are told.
type lossy struct {
	t       *testing.T
	r       *rand.Rand
	b       *bencher
	topics  map[abi.Conn]map[uint16]string // by alias
	acks    map[abi.Conn][]byte
	aliased int // messages whose topic was an alias
	dropped int
}

// TestAliasesWithALossyHost publishes messages whose payload is their topic, to clients that come and go, and looks
// whether each gets what its topic or alias says.
func TestAliasesWithALossyHost(t *testing.T) {
	l := &lossy{t: t, r: newRandom(t), b: newBencher(), topics: map[abi.Conn]map[uint16]string{}, acks: map[abi.Conn][]byte{}}
	limits := benchLimits
	limits.MaxAliasesOut, limits.MaxInflight = 4, 5
	l.b.begin()
	l.b.event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, &abi.Config{Limits: limits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
	}}}))
	l.b.event(abi.EventOpen, 1, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain"}))
	l.b.event(abi.EventPackets, 1, 1, mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: []byte("p")}))
	l.run()
	for range 3000 {
		l.b.begin()
		for range 1 + l.r.IntN(5) {
			l.act()
		}
		l.run()
	}
	if l.aliased < 1000 || l.dropped < 1000 {
		t.Errorf("%d messages had an alias, %d were dropped: the test does not test", l.aliased, l.dropped)
	}
	if n := l.b.core.aliasesOut.live; n > 12 || n != l.b.core.byAliasOut.live {
		t.Errorf("%d aliases are left", n)
	}
}

// act queues something that happens: mostly runs of messages.
func (l *lossy) act() {
	conn := abi.Conn(2 + l.r.IntN(3))
	switch n := l.r.IntN(100); {
	case n < 3:
		l.connect(conn)
	case n < 6 && l.topics[conn] != nil:
		l.b.event(abi.EventBlocked+abi.EventKind(l.r.IntN(2)), conn, 0, nil)
	default:
		topic := fmt.Appendf(nil, "topic/%d", l.r.IntN(6))
		var packets []byte
		count := 1 + l.r.IntN(8)
		for range count {
			packets = mqtt.AppendPublish(packets, mqtt.V5, &mqtt.Publish{Topic: topic, Payload: topic, QoS: byte(n & 1), PacketID: 1})
		}
		l.b.event(abi.EventPackets, 1, uint32(count), packets)
	}
}

// connect lets a client come, or come back, with the session that it had.
func (l *lossy) connect(conn abi.Conn) {
	if l.topics[conn] != nil {
		l.b.event(abi.EventClosed, conn, 0, nil)
	}
	l.run()
	l.b.begin()
	l.topics[conn], l.acks[conn] = map[uint16]string{}, nil
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropSessionExpiryInterval).With(mqtt.PropTopicAliasMaximum)}
	props.SessionExpiryInterval, props.TopicAliasMaximum = 1000, uint16(l.r.IntN(6))
	l.b.event(abi.EventOpen, conn, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain"}))
	l.b.event(abi.EventPackets, conn, 1, mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: fmt.Appendf(nil, "s%d", conn), Props: props}))
	filter := mqtt.Filter{Topic: []byte("topic/+"), QoS: byte(conn & 1)}
	l.b.event(abi.EventPackets, conn, 1, mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{filter}))
}

// run runs what is queued, and what the clients acknowledge.
func (l *lossy) run() {
	for {
		l.apply(l.b.run())
		l.b.begin()
		more := false
		for conn := abi.Conn(2); conn < 5; conn++ {
			if acks := l.acks[conn]; len(acks) > 0 {
				l.b.event(abi.EventPackets, conn, uint32(len(acks)/4), acks)
				l.acks[conn], more = nil, true
			}
		}
		if !more {
			return
		}
	}
}

func (l *lossy) apply(effects []byte) {
	var e abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &e)
		if err != nil {
			l.t.Fatal(err)
		}
		at = next
		switch e.Kind {
		case abi.EffectSend:
			l.written(e.Conn, e.Data)
		case abi.EffectDeliver:
			l.deliver(&e)
		}
	}
}

func (l *lossy) deliver(e *abi.Effect) {
	var d abi.Deliver
	if err := abi.ReadDeliver(e, &d); err != nil {
		l.t.Fatal(err)
	}
	space := l.b.core.batch
	if d.Payload.Space > 0 {
		space = l.b.core.Chunk(d.Payload.Space - 1)
	}
	payload := space[d.Payload.Offset : d.Payload.Offset+d.Payload.Size]
	for i := range d.NumTargets() {
		if d.QoS == 0 && l.r.IntN(2) == 0 {
			l.dropped++
			continue
		}
		packet := append(bytes.Clone(d.Head), payload...)
		if d.QoS > 0 {
			binary.BigEndian.PutUint16(packet[d.PacketIDAt:], d.Target(i).PacketID)
		}
		l.written(d.Target(i).Conn, packet)
	}
}

// written is what a client does with the bytes that it gets.
func (l *lossy) written(conn abi.Conn, b []byte) {
	for len(b) > 0 {
		size, _, _ := mqtt.FrameSize(b)
		if mqtt.TypeOf(b) == mqtt.PUBLISH {
			l.received(conn, b[:size])
		}
		b = b[size:]
	}
}

func (l *lossy) received(conn abi.Conn, packet []byte) {
	var p mqtt.Publish
	if fault := mqtt.ParseServerPublish(packet, mqtt.V5, &p); fault != nil {
		l.t.Fatal(fault.Err())
	}
	topic, alias := string(p.Topic), p.Props.TopicAlias
	if p.Props.Has.Has(mqtt.PropTopicAlias) {
		if topic == "" {
			topic = l.topics[conn][alias]
			l.aliased++
		}
		l.topics[conn][alias] = topic
	}
	if topic != string(p.Payload) {
		l.t.Fatalf("a message to %q came as one to %q, alias %d", p.Payload, topic, alias)
	}
	if p.QoS > 0 {
		l.acks[conn] = mqtt.AppendAck(l.acks[conn], mqtt.V5, mqtt.PUBACK, p.PacketID, 0, nil)
	}
}

// TestAliasesGoTheShortWay looks whether messages to clients with aliases are ready made, share a delivery, and make no
// garbage; also after a client has come later.
func TestAliasesGoTheShortWay(t *testing.T) {
	b := newBencher()
	b.core.config.Limits.MaxAliasesOut = 10
	b.connect(1, mqtt.V5)
	publish := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("some/topic"), Payload: []byte("x")})
	send := func() {
		b.begin()
		b.event(abi.EventPackets, 1, 1, publish)
		b.run()
	}
	for i := range 20 {
		b.connectAliased(abi.Conn(2 + i))
		if i == 10 {
			send()
			send()
			send()
		}
	}
	send()
	send()
	r := &b.core.routes
	if q := r.quickOf(1); q.room == 0 || countEffects(r, q) != 1 || r.receiversOf(q).targets != 20 {
		t.Errorf("room %d, %d effects, %d targets", q.room, countEffects(r, q), r.receiversOf(q).targets)
	}
	if n := testing.AllocsPerRun(1000, send); n != 0 {
		t.Errorf("a message allocates %v times", n)
	}
	if b.core.aliasesOut.live != 20 {
		t.Errorf("there are %d aliases", b.core.aliasesOut.live)
	}
}

// connectAliased connects a client that allows aliases and subscribes to some/topic.
func (b *bencher) connectAliased(conn abi.Conn) {
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropTopicAliasMaximum), TopicAliasMaximum: 10}
	b.begin()
	b.event(abi.EventOpen, conn, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain"}))
	b.event(abi.EventPackets, conn, 1, mqtt.AppendConnect(nil, &mqtt.Connect{
		Version: mqtt.V5, CleanStart: true, ClientID: fmt.Appendf(nil, "c%d", conn), Props: props,
	}))
	b.event(abi.EventPackets, conn, 1, mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{
		{Topic: []byte("some/topic"), QoS: byte(conn % 2)},
	}))
	b.run()
}
