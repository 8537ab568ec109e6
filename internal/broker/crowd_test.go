package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// crowd is a number of clients that do random things to several cores at once. What comes to them must not depend
// on how the cores are built.
type crowd struct {
	t       *testing.T
	r       *rand.Rand
	rigs    []*brokertest.Rig
	members []*member
	same    func(a, b []byte) bool // compares what was written to a client by two cores
}

// member is a client of a crowd.
type member struct {
	conns   []*brokertest.Conn // one in each rig; nil if it is not connected
	version mqtt.Version
	acks    [][]byte // what it owes to what it received
	blocked bool
}

const crowdSize = 7

func newCrowd(t *testing.T, r *rand.Rand, limits []abi.Limits, cores ...*Core) *crowd {
	w := &crowd{t: t, r: r, same: bytes.Equal}
	for i, core := range cores {
		rig := brokertest.New(core)
		rig.KeepTrace = true
		rig.Configure(&abi.Config{Limits: limits[i], Rules: []abi.Rule{
			{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"+/#", "$x/#"}, Subscribe: []string{"#", "$x/#"}},
		}})
		w.rigs = append(w.rigs, rig)
	}
	for range crowdSize {
		w.members = append(w.members, &member{})
	}
	return w
}

// play makes some batches of random events and compares after each.
func (w *crowd) play(batches int) {
	for range batches {
		for range 1 + w.r.IntN(12) {
			w.act(w.r.IntN(crowdSize))
		}
		w.each(func(rig *brokertest.Rig) error { return rig.Run() })
		w.compare()
		if w.r.IntN(4) == 0 {
			d := time.Duration(w.r.IntN(4000)) * time.Millisecond
			w.each(func(rig *brokertest.Rig) error { return rig.Advance(d) })
			w.compare()
		}
	}
}

func (w *crowd) each(do func(*brokertest.Rig) error) {
	for i, rig := range w.rigs {
		if err := do(rig); err != nil {
			w.t.Fatalf("core %d: %v", i, err)
		}
	}
}

// compare checks that all rigs have written the same, and takes from the first what must be acknowledged.
func (w *crowd) compare() {
	for i, m := range w.members {
		if m.conns == nil {
			continue
		}
		first := m.conns[0]
		for k, c := range m.conns[1:] {
			if !w.same(c.Stream, first.Stream) || c.Closed != first.Closed || c.Reason != first.Reason {
				w.t.Fatalf("client %d at %v: core 0 has written\n%s (closed %v)\nand core %d\n%s (closed %v)", i, w.rigs[0].Now(),
					w.describe(first, m.version), first.Why, k+1, w.describe(c, m.version), c.Why)
			}
		}
		items, err := first.Received()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, item := range items {
			m.owe(item.Packet)
		}
		if first.Gone() {
			m.conns, m.acks, m.blocked = nil, nil, false
		}
	}
}

// sameByType compares two streams packet type by packet type. Acknowledgements are gathered, so that what else is
// written to a client may overtake them, until the step ends or all of its packets have been handled.
func sameByType(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	byType := func(b []byte) (list [16][]byte) {
		for len(b) > 0 {
			size, _, _ := mqtt.FrameSize(b)
			kind := mqtt.TypeOf(b)
			list[kind] = append(list[kind], b[:size]...)
			b = b[size:]
		}
		return list
	}
	x, y := byType(a), byType(b)
	for kind := range x {
		if !bytes.Equal(x[kind], y[kind]) {
			return false
		}
	}
	return true
}

// describe writes out the end of what a client has received.
func (w *crowd) describe(c *brokertest.Conn, v mqtt.Version) (text string) {
	var lines []string
	for b := c.Stream; len(b) > 0; {
		size, _, _ := mqtt.FrameSize(b)
		line, err := brokertest.Describe(b[:size], v)
		if err != nil {
			line = err.Error()
		}
		lines, b = append(lines, line), b[size:]
	}
	return fmt.Sprintf("%q", lines[max(0, len(lines)-12):])
}

// owe notes the answer to a packet.
func (m *member) owe(packet []byte) {
	var p mqtt.Publish
	var a mqtt.Ack
	switch mqtt.TypeOf(packet) {
	case mqtt.PUBLISH:
		if mqtt.ParseServerPublish(packet, m.version, &p); p.QoS == 1 {
			m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBACK, p.PacketID, 0, nil))
		} else if p.QoS == 2 {
			m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBREC, p.PacketID, 0, nil))
		}
	case mqtt.PUBREC:
		mqtt.ParseAck(packet, m.version, &a)
		m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBREL, a.PacketID, 0, nil))
	case mqtt.PUBREL:
		mqtt.ParseAck(packet, m.version, &a)
		m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBCOMP, a.PacketID, 0, nil))
	}
}

// act queues one event of a client.
func (w *crowd) act(i int) {
	m := w.members[i]
	if m.conns == nil {
		w.connect(i, m)
		return
	}
	switch n := w.r.IntN(100); {
	case n < 45:
		w.packets(m, w.publishes(m)...)
	case n < 75:
		k := w.r.IntN(len(m.acks) + 1)
		if k > 0 {
			w.packets(m, m.acks[:k]...)
			m.acks = m.acks[k:]
		}
	case n < 83:
		w.packets(m, mqtt.AppendSubscribe(nil, m.version, 1, w.subscribeProps(m), w.filters()))
	case n < 86:
		w.packets(m, mqtt.AppendUnsubscribe(nil, m.version, 2, nil, [][]byte{[]byte(randomFilter(w.r))}))
	case n < 90:
		m.blocked = !m.blocked
		kind := abi.EventUnblocked
		if m.blocked {
			kind = abi.EventBlocked
		}
		w.event(m, kind, 0)
	case n < 93:
		for _, c := range m.conns {
			c.Lose()
		}
	case n < 95:
		w.packets(m, mqtt.AppendDisconnect(nil, m.version, mqtt.ReasonCode(4*w.r.IntN(2)), nil))
	case n < 97:
		w.packets(m, mqtt.AppendPingreq(nil))
	case n < 98:
		w.packets(m, w.broken(m))
	default:
		w.packets(m, mqtt.AppendAck(nil, m.version, mqtt.PUBACK+mqtt.PacketType(w.r.IntN(4)), uint16(1+w.r.IntN(30)), 0, nil))
	}
}

func (w *crowd) packets(m *member, packets ...[]byte) {
	for _, c := range m.conns {
		c.Packets(packets...)
	}
}

func (w *crowd) event(m *member, kind abi.EventKind, arg uint32) {
	for _, c := range m.conns {
		c.Event(kind, arg, nil)
	}
}

func (w *crowd) connect(i int, m *member) {
	m.version = []mqtt.Version{mqtt.V311, mqtt.V5, mqtt.V5, mqtt.V31}[w.r.IntN(4)]
	req := mqtt.Connect{
		Version: m.version, CleanStart: w.r.IntN(4) == 0, KeepAlive: uint16(w.r.IntN(3) * 5), ClientID: fmt.Appendf(nil, "c%d", w.r.IntN(crowdSize)),
	}
	if req.HasWill = w.r.IntN(3) == 0; req.HasWill {
		req.Will = mqtt.Will{Topic: []byte(randomTopic(w.r)), Payload: fmt.Appendf(nil, "will %d", w.r.IntN(1000)), QoS: byte(w.r.IntN(3)), Retain: w.r.IntN(2) == 0}
		req.Will.Props.Has = mqtt.PropertySet(0).With(mqtt.PropWillDelayInterval).With(mqtt.PropContentType)
		req.Will.Props.WillDelayInterval, req.Will.Props.ContentType = uint32(w.r.IntN(4)), []byte("will")
	}
	p := &req.Props
	p.Has = mqtt.PropertySet(0).With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
	p.SessionExpiryInterval, p.ReceiveMaximum = uint32(w.r.IntN(4)*3), uint16(1+w.r.IntN(6))
	if w.r.IntN(3) == 0 {
		p.Has = p.Has.With(mqtt.PropMaximumPacketSize)
		p.MaximumPacketSize = 5 + w.r.Uint32N(60)
	}
	for _, rig := range w.rigs {
		m.conns = append(m.conns, rig.Open(&abi.Peer{Listener: "plain"}))
	}
	w.packets(m, mqtt.AppendConnect(nil, &req))
}

// publishes makes some PUBLISH packets, most of them plain ones to one topic.
func (w *crowd) publishes(m *member) (packets [][]byte) {
	topic := []byte(randomTopic(w.r))
	for range 1 + w.r.IntN(6) {
		p := mqtt.Publish{Topic: topic, Payload: fmt.Appendf(nil, "%d", w.r.IntN(1000))}
		if w.r.IntN(6) == 0 {
			p.Payload = bytes.Repeat([]byte{'x'}, w.r.IntN(300)) // the length of the length changes
		}
		if w.r.IntN(40) == 0 {
			p.Payload = bytes.Repeat([]byte{'y'}, w.r.IntN(40_000))
		}
		if w.r.IntN(3) == 0 {
			p.QoS, p.PacketID = byte(1+w.r.IntN(2)), uint16(1+w.r.IntN(5))
		}
		p.Retain = w.r.IntN(8) == 0
		if w.r.IntN(8) == 0 {
			w.decorate(&p)
		}
		packets = append(packets, mqtt.AppendPublish(nil, m.version, &p))
	}
	return packets
}

// decorate gives a PUBLISH properties.
func (w *crowd) decorate(p *mqtt.Publish) {
	p.Props.Has = mqtt.PropertySet(0).With(mqtt.PropUserProperty)
	p.Props.User = mqtt.AppendUser(nil, []byte("k"), []byte("v"))
	if w.r.IntN(2) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropMessageExpiryInterval)
		p.Props.MessageExpiryInterval = uint32(w.r.IntN(4))
	}
	if w.r.IntN(2) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropTopicAlias)
		p.Props.TopicAlias = uint16(1 + w.r.IntN(4))
		if w.r.IntN(4) == 0 {
			p.Topic = nil
		}
	}
}

func (w *crowd) subscribeProps(m *member) *mqtt.Properties {
	p := &mqtt.Properties{}
	if m.version == mqtt.V5 && w.r.IntN(2) == 0 {
		p.Has = p.Has.With(mqtt.PropSubscriptionIdentifier)
		p.SubscriptionIDs = []uint32{1 + w.r.Uint32N(300)}
	}
	return p
}

func (w *crowd) filters() (list []mqtt.Filter) {
	for range 1 + w.r.IntN(3) {
		list = append(list, mqtt.Filter{
			Topic: []byte(randomFilter(w.r)), QoS: byte(w.r.IntN(3)), NoLocal: w.r.IntN(6) == 0,
			RetainAsPublished: w.r.IntN(3) == 0, RetainHandling: byte(w.r.IntN(3)),
		})
	}
	return list
}

// broken is a packet with one byte changed.
func (w *crowd) broken(m *member) []byte {
	p := w.publishes(m)[0]
	if len(p) < 128 {
		p[2+w.r.IntN(len(p)-2)] ^= byte(1 << w.r.IntN(8))
	}
	return p
}

// crowdLimits are tight, so that all limits are met.
func crowdLimits(stepWork uint32) abi.Limits {
	l := brokertest.ScriptLimits
	l.MaxInflight, l.ReceiveMaximum, l.TopicAliasMaximum, l.MaxQueued, l.MaxRetained = 5, 4, 3, 20, 20
	l.MaxSubscriptions, l.MaxTopicLevels, l.StallTimeout, l.StepWork = 12, 4, 2000, stepWork
	l.MaxQueuedBytes, l.ConnectTimeout = 20_000, 3000
	return l
}

// TestShortAndLongWay compares a core with one in which nothing goes the short way.
func TestShortAndLongWay(t *testing.T) {
	for range 20 {
		long := New()
		long.longWay = true
		limits := []abi.Limits{crowdLimits(1 << 20), crowdLimits(1 << 20)}
		newCrowd(t, newRandom(t), limits, New(), long).play(300)
	}
}

// TestStepsMakeNoDifference compares a core that stops after each unit of work, and one that does now and then,
// with one that never does.
func TestStepsMakeNoDifference(t *testing.T) {
	for range 20 {
		limits := []abi.Limits{crowdLimits(1 << 20), crowdLimits(1), crowdLimits(7)}
		w := newCrowd(t, newRandom(t), limits, New(), New(), New())
		w.same = sameByType
		w.play(300)
		if w.rigs[0].Stops > 0 || w.rigs[1].Stops == 0 || w.rigs[2].Stops == 0 {
			t.Fatalf("%d, %d and %d steps came only part of the way", w.rigs[0].Stops, w.rigs[1].Stops, w.rigs[2].Stops)
		}
	}
}

// TestSameBatchesSameEffects compares two cores byte by byte.
func TestSameBatchesSameEffects(t *testing.T) {
	for range 5 {
		limits := []abi.Limits{crowdLimits(50), crowdLimits(50)}
		w := newCrowd(t, newRandom(t), limits, New(), New())
		w.play(500)
		if !bytes.Equal(w.rigs[0].Trace, w.rigs[1].Trace) {
			t.Fatal("the effects differ")
		}
	}
}
