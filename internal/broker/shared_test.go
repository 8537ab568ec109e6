package broker

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// newSharing returns a core with a strategy, and members of one group on the connections from 101 on.
func newSharing(strategy abi.SharedStrategy, members int, qos byte) *bencher {
	b := &bencher{core: New()}
	var config abi.Config
	if err := abi.ReadConfig(allowAll(), &config); err != nil {
		panic(err)
	}
	config.Options.Shared = strategy
	b.begin()
	b.event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, &config))
	b.run()
	for i := range members {
		v := []mqtt.Version{mqtt.V311, mqtt.V5}[i%2]
		b.connect(abi.Conn(101+i), v, mqtt.Filter{Topic: []byte("$share/g/t/#"), QoS: qos})
	}
	return b
}

// receiver publishes a message at QoS 0 and returns the connection that gets it.
func (b *bencher) receiver(t *testing.T, from abi.Conn, topic string, entropy byte) abi.Conn {
	b.begin()
	abi.PutBatchHeader(b.batch, &abi.BatchHeader{Now: 1_000_000, Entropy: [abi.EntropySize]byte{entropy, 2, 3}})
	b.event(abi.EventPackets, from, 1, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic), Payload: []byte("x")}))
	var to []abi.Conn
	effects := b.run()
	var e abi.Effect
	var d abi.Deliver
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &e)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == abi.EffectDeliver && abi.ReadDeliver(&e, &d) == nil {
			for i := range d.NumTargets() {
				to = append(to, d.Target(i).Conn)
			}
		}
		at = next
	}
	if len(to) != 1 {
		t.Fatalf("%s of %d goes to %v, not to one", topic, from, to)
	}
	return to[0]
}

// TestSharedByHash publishes from several clients to several topics: what the hash is of decides who gets a message, and
// nothing else.
func TestSharedByHash(t *testing.T) {
	const members, publishers, topics = 5, 20, 20
	for _, strategy := range []abi.SharedStrategy{abi.SharedHashClient, abi.SharedHashTopic} {
		b := newSharing(strategy, members, 1)
		for p := range publishers {
			b.connect(abi.Conn(1+p), mqtt.V311)
		}
		used := map[abi.Conn]bool{}
		by := map[string]abi.Conn{}
		for range 2 {
			for p := range publishers {
				for n := range topics {
					topic := fmt.Sprintf("t/%d", n)
					key := topic
					if strategy == abi.SharedHashClient {
						key = fmt.Sprint(p)
					}
					to := b.receiver(t, abi.Conn(1+p), topic, byte(n))
					if by[key] == 0 {
						by[key] = to
					}
					if used[to] = true; by[key] != to {
						t.Fatalf("strategy %d: %q goes to %d and to %d", strategy, key, by[key], to)
					}
				}
			}
		}
		if len(used) < 3 {
			t.Errorf("strategy %d uses only %d of %d members", strategy, len(used), members)
		}
	}
}

// TestSharedAtRandom looks whether each member gets about its part, within one batch and with the entropy of many.
func TestSharedAtRandom(t *testing.T) {
	const members, messages = 4, 4000
	b := newSharing(abi.SharedRandom, members, 0)
	b.connect(1, mqtt.V311)
	count := map[abi.Conn]int{}
	var order []abi.Conn
	for i := range messages {
		to := b.receiver(t, 1, "t/1", byte(i/1000))
		count[to]++
		order = append(order, to)
	}
	for conn, n := range count {
		if n < messages/members*8/10 || n > messages/members*12/10 {
			t.Errorf("member %d got %d of %d messages", conn, n, messages)
		}
	}
	if len(count) != members || slices.Equal(order[:1000], order[1000:2000]) {
		t.Errorf("%d of %d members got messages, or with other entropy in the same order", len(count), members)
	}
}

// TestSharedMakesNoGarbage guards the rule that a step does not allocate, for messages to groups: those that are sent
// at once, and those that wait for an acknowledgement.
func TestSharedMakesNoGarbage(t *testing.T) {
	for strategy := abi.SharedRoundRobin; strategy <= abi.SharedHashTopic; strategy++ {
		for qos := byte(0); qos <= 2; qos++ {
			b := newSharing(strategy, 4, qos)
			b.connect(1, mqtt.V5)
			b.connect(2, mqtt.V5, mqtt.Filter{Topic: []byte("t/1"), QoS: qos}, mqtt.Filter{Topic: []byte("$share/h/+/1"), QoS: qos})
			var publish []byte
			const messages = 20
			for i := range uint16(messages) {
				publish = mqtt.AppendPublish(publish, mqtt.V5, &mqtt.Publish{Topic: []byte("t/1"), Payload: []byte("x"), QoS: qos, PacketID: i + 1})
				if qos == 2 {
					publish = mqtt.AppendAck(publish, mqtt.V5, mqtt.PUBREL, i+1, 0, nil)
				}
			}
			b.narrow(3)
			round := func() {
				b.begin()
				b.event(abi.EventPackets, 1, messages, publish)
				b.run()
				for b.core.deliveries.live > 0 {
					b.acknowledge()
				}
			}
			round()
			if n := testing.AllocsPerRun(100, round); n != 0 {
				t.Errorf("strategy %d, QoS %d: a round allocates %v times", strategy, qos, n)
			}
			if err := b.core.checkGroups(); err != nil {
				t.Error(err)
			}
		}
	}
}

// narrow lets only so many messages be in flight to each client.
func (b *bencher) narrow(window uint32) {
	for conn := abi.Conn(1); conn < 200; conn++ {
		if p := b.core.connectionOf(conn); p != nil {
			b.core.sessions.at(p.session).window = window
		}
	}
}

// acknowledge lets every client acknowledge all that is in flight to it.
func (b *bencher) acknowledge() {
	b.begin()
	for conn := abi.Conn(1); conn < 200; conn++ {
		p := b.core.connectionOf(conn)
		if p == nil || p.session == 0 {
			continue
		}
		packets, n := b.packet[:0], uint32(0)
		for id := b.core.sessions.at(p.session).firstInflight; id != 0; n++ {
			d := b.core.deliveries.at(id)
			if d.qos == 1 {
				packets = mqtt.AppendAck(packets, p.version, mqtt.PUBACK, d.packetID, 0, nil)
			} else {
				packets = mqtt.AppendAck(packets, p.version, mqtt.PUBREC, d.packetID, 0, nil)
				packets = mqtt.AppendAck(packets, p.version, mqtt.PUBCOMP, d.packetID, 0, nil)
			}
			id = d.next
		}
		b.packet = packets
		b.event(abi.EventPackets, conn, n, packets)
	}
	b.run()
}

// TestNothingIsLeftOfGroups ends sessions that are members, with messages in flight, in queues and waiting.
func TestNothingIsLeftOfGroups(t *testing.T) {
	for strategy := abi.SharedRoundRobin; strategy <= abi.SharedHashTopic; strategy++ {
		b := newSharing(strategy, 20, 2)
		for i := range abi.Conn(20) {
			b.connect(1+i, mqtt.V5, mqtt.Filter{Topic: fmt.Appendf(nil, "$share/%d/t/+", i%3), QoS: byte(i % 3)})
		}
		for id := uint32(1); id < b.core.subscriptions.next; id++ {
			b.core.subscriptions.at(id).identifier = id
		}
		b.narrow(2)
		b.begin()
		for i := range uint16(300) {
			b.event(abi.EventPackets, 1, 1, mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{
				Topic: []byte("t/x"), Payload: bytes.Repeat([]byte{1}, int(i)), QoS: byte(1 + i%2), PacketID: 1 + i,
			}))
		}
		b.run()
		c := b.core
		if c.groups.waiting == 0 && !c.loyal() || c.deliveries.live < 300 {
			t.Fatal("nothing waits: the test does not test")
		}
		for conn := abi.Conn(1); conn < 200; conn++ {
			b.begin()
			b.event(abi.EventClosed, conn, 0, nil)
			b.run()
			if err := c.checkGroups(); err != nil {
				t.Fatal(err)
			}
		}
		b.begin()
		b.run() // frees what the effects of the step before could refer to
		c.forgetRoutes()
		left := map[string]uint64{
			"groups": uint64(c.groups.all.live), "members": uint64(c.groups.members), "waiting messages": uint64(c.groups.waiting),
			"sessions": uint64(c.sessions.live), "subscriptions": uint64(c.subscriptions.live), "nodes": uint64(c.tree.nodes.live - 1),
			"deliveries": uint64(c.deliveries.live), "messages": uint64(c.messages.live), "bytes": c.store.live,
			"entries": uint64(c.bySessionAndNode.live + c.groups.byName.live),
		}
		for what, n := range left {
			if n != 0 {
				t.Errorf("strategy %d: %d %s are left", strategy, n, what)
			}
		}
	}
}

// checkGroups looks whether what the groups know of their members is so, and whether messages wait that a member
// could take.
func (c *Core) checkGroups() error {
	var members, waiting uint32
	for id := uint32(1); id < c.subscriptions.next; id++ {
		sub := c.subscriptions.at(id)
		if sub.group == 0 {
			continue
		}
		g, s := c.groups.all.at(sub.group), c.sessions.at(sub.session)
		online := sub.place < g.online
		if c.member(g, sub.place) != id || online != (s.conn != 0) || g.node != sub.node {
			return fmt.Errorf("subscription %d at place %d of group %d (%d of %d connected), connection %d", id, sub.place, sub.group, g.online, g.count, s.conn)
		}
		if online && g.firstQueued != 0 && sub.options.qos() > 0 && s.ready() && c.takesFirst(g, sub, s) {
			return fmt.Errorf("%d messages wait with group %d, which member %d could take", g.queued, sub.group, id)
		}
	}
	for id := uint32(1); id < c.groups.all.next; id++ {
		g := c.groups.all.at(id)
		if f := g.favourite; f != 0 && (c.subscriptions.at(f).group != id || c.member(g, c.subscriptions.at(f).place) != f) {
			return fmt.Errorf("the favourite of group %d is not a member", id)
		}
		keepers := uint32(0)
		for place := range g.count {
			if c.subscriptions.at(c.member(g, place)).options.qos() > 0 {
				keepers++
			}
		}
		if keepers != g.keepers || keepers == 0 && g.queued > 0 {
			return fmt.Errorf("group %d has %d members that keep messages, counted as %d, and %d messages", id, keepers, g.keepers, g.queued)
		}
		members, waiting = members+g.count, waiting+g.queued
	}
	if members != c.groups.members || waiting != c.groups.waiting {
		return fmt.Errorf("%d members and %d messages, counted as %d and %d", members, waiting, c.groups.members, c.groups.waiting)
	}
	return nil
}

// takesFirst says whether what waits first with a group is small enough for a member.
func (c *Core) takesFirst(g *group, sub *subscription, s *session) bool {
	var m content
	c.load(c.deliveries.at(g.firstQueued).message, &m)
	return c.smallEnough(s, sub, &m)
}

// BenchmarkShared measures one step with 100 PUBLISH packets of 64 bytes for a group of five, at QoS 1 with their
// acknowledgements.
func BenchmarkShared(b *testing.B) {
	for _, strategy := range []abi.SharedStrategy{abi.SharedRoundRobin, abi.SharedHashTopic} {
		for qos := byte(0); qos <= 1; qos++ {
			b.Run(fmt.Sprintf("strategy=%d/qos=%d", strategy, qos), func(b *testing.B) { benchShared(b, strategy, qos) })
		}
	}
}

func benchShared(b *testing.B, strategy abi.SharedStrategy, qos byte) {
	bench := newSharing(strategy, 5, qos)
	bench.connect(1, mqtt.V311)
	const packets = 100
	var run []byte
	for i := range packets {
		run = mqtt.AppendPublish(run, mqtt.V311, &mqtt.Publish{
			Topic: []byte("t/bench/1"), Payload: make([]byte, 64), QoS: qos, PacketID: uint16(i + 1),
		})
	}
	bench.begin()
	bench.event(abi.EventPackets, 1, packets, run)
	publish := bench.batch
	bench.batch = nil
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		bench.batch = append(bench.batch[:0], publish...)
		bench.run()
		if qos > 0 {
			bench.acknowledge()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets), "ns/delivery")
}
