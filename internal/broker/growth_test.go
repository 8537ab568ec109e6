package broker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// moved returns how many elements the indexes of a core have moved so far.
func (c *Core) moved() uint32 {
	return c.tree.children.moved + c.bySessionAndNode.moved + c.byClientID.moved + c.routes.byTopic.moved + c.groups.byName.moved
}

// TestGrowthIsIncremental makes many subscriptions: however many there are, one of them makes the tables move only a few
// elements, and take only a few pages. It counts, because times depend on the machine.
func TestGrowthIsIncremental(t *testing.T) {
	const sessions, each = 1000, 100
	b := newBencher()
	var most uint32
	var bytes uint64
	for i := range abi.Conn(sessions) {
		b.connect(1+i, mqtt.V311)
		for k := range each {
			moved, before := b.core.moved(), b.core.memory()
			b.begin()
			b.event(abi.EventPackets, 1+i, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil,
				[]mqtt.Filter{{Topic: fmt.Appendf(nil, "plant/%d/line/%d/sensor/%d", i/100, i%100, k)}}))
			b.run()
			most, bytes = max(most, b.core.moved()-moved), max(bytes, b.core.memory()-before)
		}
	}
	all := b.core.moved()
	t.Logf("%d subscriptions: at most %d elements moved and %d bytes taken for one, %d moved in all", b.core.subscriptions.live, most, bytes, all)
	if b.core.subscriptions.live != sessions*each || most > 64 || all > 5*sessions*each || bytes > 256<<10 {
		t.Errorf("%d subscriptions", b.core.subscriptions.live)
	}
	if per := b.core.memory() / (sessions * each); per > 140 {
		t.Errorf("a subscription takes %d bytes", per)
	}
}

// TestNamesOfAllSizes looks up levels that stand in their node and such that do not.
func TestNamesOfAllSizes(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V311)
	sizes := []int{1, labelSize - 1, labelSize, labelSize + 1, 300, 60_000}
	for i, size := range sizes {
		topic := append(bytes.Repeat([]byte{'x'}, size), "/+"...)
		b.connect(abi.Conn(2+i), mqtt.V5, mqtt.Filter{Topic: topic})
		b.publish(1, append(bytes.Clone(topic[:size+1]), 'y'))
		if sent := b.core.stats.Sent; sent != uint64(i+1) {
			t.Errorf("with a level of %d bytes, %d messages were sent, want %d", size, sent, i+1)
		}
		if other := append([]byte{'y'}, topic[1:]...); b.core.tree.find(topic) == 0 || b.core.tree.find(other) != 0 {
			t.Errorf("a level of %d bytes is not told from another", size)
		}
	}
	for i := range sizes {
		b.begin()
		b.event(abi.EventClosed, abi.Conn(2+i), 0, nil)
		b.run()
	}
	b.core.forgetRoutes()
	if b.core.tree.nodes.live != 1 || b.core.tree.children.live != 0 {
		t.Errorf("%d nodes are left", b.core.tree.nodes.live)
	}
}

// TestReadyEffectsTakeAllLengths publishes payloads whose packets have a remaining length of one byte and of two, to
// receivers of both generations, which is not the same for both, the short way and the long way.
func TestReadyEffectsTakeAllLengths(t *testing.T) {
	short, long := New(), New()
	long.longWay = true
	var got [2][]byte
	for i, core := range []*Core{short, long} {
		rig := brokertest.New(core)
		rig.Configure(&abi.Config{Limits: benchLimits, Rules: []abi.Rule{{
			Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
		}}})
		p := fuzzClient(rig, "p", mqtt.V311)
		receivers := []*brokertest.Conn{fuzzClient(rig, "old", mqtt.V311), fuzzClient(rig, "new", mqtt.V5)}
		for k, c := range receivers {
			c.Packets(mqtt.AppendSubscribe(nil, []mqtt.Version{mqtt.V311, mqtt.V5}[k], 1, nil, []mqtt.Filter{{Topic: []byte("t")}}))
		}
		for _, size := range []int{0, 122, 123, 124, 125, 126, 0, 123, 124, 123, 16_000, 5} {
			packet := mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("t"), Payload: bytes.Repeat([]byte{'x'}, size)})
			p.Packets(packet, packet)
			if err := rig.Run(); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range receivers {
			got[i] = append(got[i], c.Stream...)
		}
	}
	if !bytes.Equal(got[0], got[1]) || len(got[0]) < 60_000 {
		t.Errorf("the short way wrote %d bytes, which are not the %d bytes of the long way", len(got[0]), len(got[1]))
	}
	if q := short.routes.quickOf(1); countEffects(&short.routes, q) != 2 || q.room == 0 {
		t.Errorf("%d effects are ready: the test does not test", countEffects(&short.routes, q))
	}
}

// countEffects counts the effects that a route has ready made.
func countEffects(r *routes, q *quick) (n int) {
	if q.effects == 0 {
		return 0
	}
	for rest := r.effectsOf(q); len(rest) > 0; n++ {
		rest = rest[abi.EffectHeaderSize+binary.LittleEndian.Uint32(rest[quickData:]):]
	}
	return n
}

// TestPermitsAreShared lets clients come that may do the same and such that may not: a topic is judged once for all that
// share permits, and not at all for others.
func TestPermitsAreShared(t *testing.T) {
	core := New()
	rig := brokertest.New(core)
	config := abi.Config{Limits: brokertest.ScriptLimits, Rules: []abi.Rule{
		{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"all"}},
		{Who: []abi.Condition{{Listener: "b"}}, Publish: []string{"own/%c"}},
	}}
	rig.Configure(&config)
	open := func(id, listener string) *brokertest.Conn {
		c := rig.Open(&abi.Peer{Listener: listener})
		c.Packets(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte(id)}))
		return c
	}
	publish := func(c *brokertest.Conn, topic string) {
		c.Packets(mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic)}))
	}
	expect := func(permits uint32, denied uint64) {
		t.Helper()
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
		if core.permits.live != permits || core.byFilters.live != permits || core.stats.Denied != denied {
			t.Errorf("%d permits, %d denials; want %d, %d", core.permits.live, core.stats.Denied, permits, denied)
		}
	}
	a1, a2, b1, b2 := open("a1", "a"), open("a2", "a"), open("b1", "b"), open("b2", "b")
	expect(3, 0)
	for range 3 {
		publish(b1, "own/b1")
		publish(a1, "all")
		publish(a2, "all")
	}
	expect(3, 0)
	publish(b2, "own/b1")
	publish(a1, "own/b1")
	expect(3, 2)
	config.Rules = config.Rules[1:]
	rig.Configure(&config)
	publish(a1, "all")
	publish(b1, "own/b1")
	expect(3, 3) // all have been judged by the new rules
	for _, c := range []*brokertest.Conn{a1, a2, b1, b2} {
		c.Lose()
	}
	expect(0, 3)
}

// TestOldestTopicsAreForgotten publishes to more topics than are remembered, and looks that those that came last are.
func TestOldestTopicsAreForgotten(t *testing.T) {
	b := newBencher()
	b.core.routes.most = 100 * routeBytes
	b.connect(1, mqtt.V311)
	b.connect(2, mqtt.V311, mqtt.Filter{Topic: []byte("#")})
	const topics = 1000
	for i := range topics {
		b.publishTwice(1, fmt.Appendf(nil, "%d", i))
	}
	r := &b.core.routes
	if r.count > 101 || r.byTopic.live < 90 || r.byTopic.live > 100 {
		t.Errorf("%d routes, %d of them known", r.count, r.byTopic.live)
	}
	for i := topics - 90; i < topics; i++ {
		if topic := fmt.Appendf(nil, "%d", i); b.core.knownRoute(b.core.connectionOf(1), topic) == 0 {
			t.Errorf("topic %s is forgotten", topic)
		}
	}
	if b.core.stats.Sent != 2*topics {
		t.Errorf("%d messages were sent, want %d", b.core.stats.Sent, 2*topics)
	}
}
