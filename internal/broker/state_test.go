package broker

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// newRandom returns a source of random numbers whose seed is printed if the test fails.
func newRandom(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("random seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func TestIndexAgainstMap(t *testing.T) {
	t.Run("plain", func(t *testing.T) { indexAgainstMap(t, index{}, (*index).first, (*index).next) })
	tagged := index{tags: routeTags, spread: routeSpread}
	t.Run("tagged", func(t *testing.T) { indexAgainstMap(t, tagged, (*index).firstLike, (*index).nextLike) })
}

func indexAgainstMap(t *testing.T, ix index, first func(ix *index, hash uint32) uint32, next func(ix *index, id, hash uint32) uint32) {
	r := newRandom(t)
	model := map[uint32]uint32{} // id to hash
	for range 50_000 {
		id := 1 + r.Uint32N(2000)
		hash, in := model[id]
		if in && r.IntN(2) == 0 {
			ix.remove(hash, id)
			delete(model, id)
		} else if !in {
			hash = r.Uint32N(500) * 0x01000000 // collides often, also at the end of the table
			ix.insert(hash, id)
			model[id] = hash
		}
		probe := 1 + r.Uint32N(2000)
		hash, in = model[probe]
		found := false
		for id := first(&ix, hash); id != 0; id = next(&ix, id, hash) {
			found = found || id == probe
		}
		if found != in {
			t.Fatalf("element %d: found %v, want %v", probe, found, in)
		}
	}
	if int(ix.live) != len(model) {
		t.Errorf("live is %d, want %d", ix.live, len(model))
	}
}

func TestStoreKeepsBlocksApart(t *testing.T) {
	r := newRandom(t)
	var s store
	type kept struct {
		b    block
		want []byte
	}
	var all []kept
	for range 20_000 {
		if len(all) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(all))
			if !bytes.Equal(s.bytes(all[i].b), all[i].want) {
				t.Fatalf("a block of %d bytes has changed", all[i].b.size)
			}
			s.release(all[i].b)
			all[i] = all[len(all)-1]
			all = all[:len(all)-1]
			continue
		}
		want := bytes.Repeat([]byte{byte(r.Uint32())}, sizeFrom(r))
		all = append(all, kept{s.keep(want), want})
	}
	for _, k := range all {
		if !bytes.Equal(s.bytes(k.b), k.want) {
			t.Fatalf("a block of %d bytes has changed", k.b.size)
		}
		s.release(k.b)
	}
	if s.live != 0 {
		t.Errorf("%d bytes are still in use after all blocks were freed", s.live)
	}
}

// sizeFrom returns a size: mostly small, now and then one that needs a chunk of its own.
func sizeFrom(r *rand.Rand) int {
	if r.IntN(100) == 0 {
		return r.IntN(2 * chunkSize)
	}
	return r.IntN(600)
}

func TestClassOf(t *testing.T) {
	last := -1
	for size := uint32(1); size <= maxBlock; size++ {
		class, rounded := classOf(size)
		if size > rounded || class < last || class > last+1 || class >= numClasses {
			t.Fatalf("size %d: class %d of %d bytes after class %d", size, class, rounded, last)
		}
		if c, same := classOf(rounded); c != class || same != rounded {
			t.Fatalf("size %d: a block of its class, %d bytes, is of class %d", size, rounded, c)
		}
		last = class
	}
}

func TestTimersComeInOrder(t *testing.T) {
	r := newRandom(t)
	var ts timers
	at := map[uint32]int64{}
	for id := uint32(1); id <= 300; id++ {
		if n := ts.create(timerSession, id); n != id {
			t.Fatalf("timer %d has number %d", id, n)
		}
	}
	for range 3000 {
		id := 1 + r.Uint32N(300)
		if r.IntN(4) == 0 {
			ts.unset(id)
			delete(at, id)
		} else {
			at[id] = 1 + r.Int64N(1000)
			ts.set(id, at[id])
		}
	}
	want := make([]int64, 0, len(at))
	for _, v := range at {
		want = append(want, v)
	}
	slices.Sort(want)
	for _, w := range want {
		if ts.next() != w {
			t.Fatalf("next is %d, want %d", ts.next(), w)
		}
		if _, _, ok := ts.due(w - 1); ok {
			t.Fatal("a timer came before its time")
		}
		if _, id, ok := ts.due(w); !ok || at[id] != w {
			t.Fatalf("timer %d came at %d", id, w)
		}
	}
	if ts.next() != 0 {
		t.Error("a timer is left")
	}
}

// TestTreeAgainstMatch compares the tree with the comparison of a filter and a topic, one by one.
func TestTreeAgainstMatch(t *testing.T) {
	r := newRandom(t)
	c := New()
	subscribed := map[string]bool{}
	session, _ := c.sessions.alloc()
	for range 4000 {
		filter := brokertest.RandomFilter(r)
		if subscribed[filter] && r.IntN(3) > 0 {
			c.removeSubscription(session, []byte(filter))
			delete(subscribed, filter)
		} else {
			c.config.Limits.MaxSubscriptions = 1 << 20
			c.addSubscription(session, []byte(filter), 0, 0)
			subscribed[filter] = true
		}
		topic := brokertest.RandomTopic(r)
		var want []string
		for f := range subscribed {
			if mqtt.Match([]byte(f), []byte(topic)) {
				want = append(want, f)
			}
		}
		var got []string
		for _, n := range c.tree.match([]byte(topic), nil) {
			got = append(got, c.pathOf(n))
		}
		sort.Strings(got)
		sort.Strings(want)
		if !slices.Equal(got, want) {
			t.Fatalf("topic %q: got %q, want %q", topic, got, want)
		}
	}
	for f := range subscribed {
		c.removeSubscription(session, []byte(f))
	}
	if c.tree.nodes.live != 1 || c.store.live != 0 || c.subscriptions.live != 0 {
		t.Errorf("after all was removed there are %d nodes, %d bytes, %d subscriptions",
			c.tree.nodes.live, c.store.live, c.subscriptions.live)
	}
}

// pathOf returns the filter that ends at a node.
func (c *Core) pathOf(id uint32) string {
	n := c.tree.nodes.at(id)
	name := string(c.tree.nameOf(n))
	if n.parent == root {
		return name
	}
	return c.pathOf(n.parent) + "/" + name
}

// TestPublishMakesNoGarbage guards the rule that a step with PUBLISH packets does not allocate.
func TestPublishMakesNoGarbage(t *testing.T) {
	b := newBencher()
	for i := range 20 {
		v := []mqtt.Version{mqtt.V311, mqtt.V5}[i%2]
		b.connect(abi.Conn(2+i), v, mqtt.Filter{Topic: []byte("a/+"), QoS: byte(i % 3)}, mqtt.Filter{Topic: []byte("a/b"), QoS: 0})
	}
	b.connect(1, mqtt.V5)
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropContentType), ContentType: []byte("text/plain")}
	packet := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("x"), Props: props})
	b.begin()
	b.event(abi.EventPackets, 1, 1, packet)
	if n := testing.AllocsPerRun(1000, func() { b.run() }); n != 0 {
		t.Errorf("a step with one PUBLISH allocates %v times", n)
	}
}

// TestNothingIsLeft ends all sessions and looks whether anything still occupies memory.
func TestNothingIsLeft(t *testing.T) {
	b := newBencher()
	for i := range 50 {
		b.connect(abi.Conn(1+i), mqtt.V5, mqtt.Filter{Topic: fmt.Appendf(nil, "t/%d/+", i%7), QoS: 2})
	}
	b.begin()
	for i := range 50 {
		packet := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{
			Topic: fmt.Appendf(nil, "t/%d/x", i%7), Payload: bytes.Repeat([]byte{1}, i*100), QoS: byte(i % 3), PacketID: 9,
		})
		b.event(abi.EventPackets, abi.Conn(1+i), 1, packet)
	}
	b.run()
	if b.core.deliveries.live == 0 {
		t.Fatal("nothing is in flight: the test does not test")
	}
	b.begin()
	for i := range 50 {
		b.event(abi.EventClosed, abi.Conn(1+i), 0, nil)
	}
	b.run()
	b.begin()
	b.run() // frees what the effects of the step before could refer to
	c := b.core
	c.forgetRoutes()
	if c.sessions.live+c.deliveries.live+c.messages.live+c.received.live+c.subscriptions.live != 0 ||
		c.store.live != 0 || c.tree.nodes.live != 1 || c.timers.all.live != 0 || c.stats.Connections != 0 {
		t.Errorf("left: %d sessions, %d deliveries, %d messages, %d received ids, %d subscriptions, %d bytes, %d nodes, %d timers, %d connections",
			c.sessions.live, c.deliveries.live, c.messages.live, c.received.live, c.subscriptions.live,
			c.store.live, c.tree.nodes.live, c.timers.all.live, c.stats.Connections)
	}
}

// TestSweepLooksAtEveryNode asks for retained messages whose nodes lie across the ends of the portions in which the
// nodes are looked at, or just behind them.
func TestSweepLooksAtEveryNode(t *testing.T) {
	for n := range uint32(3) {
		for _, shift := range []uint32{5, 1, 0} {
			testSweep(t, (n+1)*scanNodes-shift)
			testSweep(t, (n+1)*scanNodes+shift)
		}
	}
}

// testSweep asks for ten nodes from a number on.
func testSweep(t *testing.T, from uint32) {
	b := newBencher()
	c := b.core
	retain := func(format string, n uint32) {
		m := content{topic: fmt.Appendf(nil, format, n), payload: abi.Ref{Size: 1}}
		if reason := c.setRetained(&m); reason != mqtt.Success {
			t.Fatal(reason)
		}
	}
	for i := range uint32(10) {
		retain("g%d/x", i) // so that each g%d/k takes one node
	}
	var want []uint32
	for next := c.tree.nodes.next; next < 4*scanNodes; next = c.tree.nodes.next {
		if next >= from && next < from+10 {
			want = append(want, next)
			retain("g%d/k", next-from)
		} else {
			retain("f%d", next)
		}
	}
	b.connect(1, mqtt.V5)
	session := c.connectionOf(1).session
	s := c.sessions.at(session)
	id, isNew, _ := c.addSubscription(session, []byte("+/k"), 0, 0)
	c.addScan(session, id, isNew)
	var got []uint32
	for all := false; !all; {
		sc := c.scans.at(s.firstScan)
		nodes, _ := c.retainedNodes([]byte("+/k"), sc.cursor)
		got = append(got, nodes...)
		_, all = c.scanPortion(s, sc)
	}
	if !slices.Equal(got, want) || len(want) != 10 {
		t.Errorf("found the nodes %v, not %v", got, want)
	}
	if told := b.all(t, abi.Question{Kind: abi.AskRetained, Text: "+/k"}, retainedNames, func() {}); len(told) != 10 {
		t.Errorf("told of %q", told)
	}
}

// TestWalkStopsAmongSiblings asks for retained messages below a level with more of them than one portion looks at.
func TestWalkStopsAmongSiblings(t *testing.T) {
	c := newBencher().core
	for i := range 4 * scanNodes {
		m := content{topic: fmt.Appendf(nil, "flat/%d", i), payload: abi.Ref{Size: 1}}
		if reason := c.setRetained(&m); reason != mqtt.Success {
			t.Fatal(reason)
		}
	}
	for _, filter := range []string{"flat/#", "flat/+"} {
		if _, ok := c.walkRetained([]byte(filter)); ok || max(len(c.nodes), len(c.nodesAhead)) > scanNodes+2 {
			t.Errorf("%s: walked to %d and %d nodes, ok %v", filter, len(c.nodes), len(c.nodesAhead), ok)
		}
	}
}
