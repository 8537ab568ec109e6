package broker

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// held returns the bytes of all slices that a value holds, found by reflection.
func held(v reflect.Value) (size uint64) {
	switch v.Kind() {
	case reflect.Slice:
		size = uint64(v.Cap()) * uint64(v.Type().Elem().Size())
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Slice || k == reflect.Pointer {
			whole := v.Slice3(0, v.Cap(), v.Cap())
			for i := range whole.Len() {
				size += held(whole.Index(i))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			size += held(v.Field(i))
		}
	case reflect.Pointer: // a page
		if v.Type().Elem().Kind() == reflect.Array && !v.IsNil() {
			size = uint64(v.Type().Elem().Size())
		}
	}
	return size
}

// heldBy returns the bytes that the tables of a core hold. Slices into the batch or the store are not theirs.
func heldBy(c *Core) (size uint64) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		switch v.Type().Field(i).Name {
		case "config", "connect", "publish", "ack", "subscribe", "unsubscribe", "disconnect", "props", "connack", "outgoing":
			continue
		}
		size += held(v.Field(i))
	}
	return size
}

// TestMemoryCountsAllTables compares what the core counts with what reflection finds: a table that is not counted, or
// an element whose size is wrong, shows.
func TestMemoryCountsAllTables(t *testing.T) {
	c := New()
	w := brokertest.NewCrowd(newRandom(t), []brokertest.Core{c}, []abi.Limits{crowdLimits(50)})
	check := func() {
		t.Helper()
		got, want := c.memory(), heldBy(c)
		if got < want*85/100 || got > want*115/100 {
			t.Errorf("the core counts %d bytes, and holds %d", got, want)
		}
	}
	if err := w.Play(500); err != nil {
		t.Fatal(err)
	}
	check()
	for _, way := range fills {
		f := newFiller(t, 64<<20)
		c = f.core
		way.fill(f, 3000)
		check()
	}
}

// fillSessions makes n sessions without connections, and returns how many were accepted.
func (f *filler) fillSessions(n int) int {
	for i := range n {
		c := f.connect(fmt.Sprintf("load-%d", i), 1000)
		if got := f.last(c); got != "connack success" {
			if got != "connack quota-exceeded" {
				f.t.Fatal(got)
			}
			return i
		}
		c.Lose()
		f.run()
	}
	return n
}

// fillSubscriptions makes n subscriptions of one session, and returns how many were accepted.
func (f *filler) fillSubscriptions(n int) int {
	c := f.connect("subscriber", 0)
	f.busy = append(f.busy, c)
	for i := range n {
		c.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: fmt.Appendf(nil, "%d/some/filter/+", i)}}))
		f.run()
		if got := f.last(c); got != "suback 1 granted0" {
			if got != "suback 1 quota-exceeded" {
				f.t.Fatal(got)
			}
			return i
		}
	}
	return n
}

// fillRetained retains n messages, and returns how many were accepted.
func (f *filler) fillRetained(n int) int {
	for i := range n {
		f.base.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{
			Topic: fmt.Appendf(nil, "retained/%d", i), QoS: 1, PacketID: 1, Retain: true, Payload: make([]byte, i%1000+1),
		}))
		f.run()
		f.retained = i + 1
		if got := f.last(f.base); got != "puback 1 no-matching-subscribers" {
			if got != "puback 1 quota-exceeded" {
				f.t.Fatal(got)
			}
			return i
		}
	}
	return n
}

// fillQueues fills the queues of sessions without connection with n messages, and returns how many were accepted.
func (f *filler) fillQueues(n int) int {
	for i := range 10 {
		c := f.connect(fmt.Sprintf("sleeper-%d", i), 1000)
		c.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("queue"), QoS: 2}}))
		f.run()
		c.Lose()
	}
	for i := range n {
		f.base.Packets(
			mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("queue"), QoS: 1, PacketID: 1, Payload: make([]byte, 10+i%300)}))
		f.run()
		if got := f.last(f.base); got != "puback 1" {
			if got != "puback 1 quota-exceeded" {
				f.t.Fatal(got)
			}
			return i
		}
		if f.core.stats.LimitsMet[abi.LimitMemory] > f.met { // for some of the sessions there was no room left
			return i
		}
	}
	return n
}

// fillGroups makes n shared subscriptions of one session, and returns how many were accepted.
func (f *filler) fillGroups(n int) int {
	c := f.connect("member", 0)
	f.busy = append(f.busy, c)
	for i := range n {
		c.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: fmt.Appendf(nil, "$share/%d/some/filter/+", i)}}))
		f.run()
		if got := f.last(c); got != "suback 1 granted0" {
			if got != "suback 1 quota-exceeded" {
				f.t.Fatal(got)
			}
			return i
		}
	}
	return n
}

// bundleRun is how many messages fillBundles publishes in one go.
const bundleRun = 200

// fillBundles has n runs of messages be on their way to sessions that acknowledge nothing, whose connections end then and
// begin anew: each message is a delivery of its own from then on. It returns how many runs were accepted.
func (f *filler) fillBundles(n int) int {
	const receivers = 20
	var all []*brokertest.Conn
	for i := range receivers {
		c := f.connect(fmt.Sprintf("bundle-%d", i), 1000)
		c.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("bundles"), QoS: 1}}))
		f.run()
		all = append(all, c)
	}
	var run [][]byte
	for range bundleRun {
		run = append(run, mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("bundles"), QoS: 1, PacketID: 1}))
	}
	accepted := 0
	for ; accepted < n && f.core.stats.LimitsMet[abi.LimitMemory] == f.met; accepted++ {
		f.base.Packets(run...)
		f.run()
	}
	for range 2 {
		for i, c := range all {
			c.Lose()
			f.run()
			all[i] = f.connect(fmt.Sprintf("bundle-%d", i), 1000)
		}
	}
	f.busy = append(f.busy, all...)
	return accepted
}

// clear ends what the fill functions have made.
func (f *filler) clear() {
	for i := range f.retained {
		f.base.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: fmt.Appendf(nil, "retained/%d", i), Retain: true}))
		f.run()
	}
	for _, c := range f.busy {
		c.Lose()
	}
	f.busy, f.retained = nil, 0
	f.run()
	f.advance(1001 * time.Second)
	f.run()
	f.advance(2 * time.Second)
	f.run()
	f.met = f.core.stats.LimitsMet[abi.LimitMemory]
}

// filler fills a core, and looks at each step that it keeps to its limit.
type filler struct {
	t        *testing.T
	core     *Core
	rig      *brokertest.Rig
	base     *brokertest.Conn // a client that is there all the time
	busy     []*brokertest.Conn
	retained int
	met      uint64
	most     uint64
}

func newFiller(t *testing.T, memory uint32) *filler {
	f := &filler{t: t, core: New(), most: uint64(memory)}
	f.rig = brokertest.New(f.core)
	limits := benchLimits
	limits.MaxModuleMemory, limits.MaxSubscriptions, limits.MaxQueued, limits.MaxSessions = memory, 1<<20, 1<<20, 1<<20
	f.rig.Configure(&abi.Config{Limits: limits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
	}}})
	f.base = f.connect("base", 1<<20)
	f.base.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("base"), QoS: 1}}))
	f.run()
	return f
}

func (f *filler) connect(id string, expiry uint32) *brokertest.Conn {
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropSessionExpiryInterval), SessionExpiryInterval: expiry}
	c := f.rig.Open(&abi.Peer{Listener: "plain"})
	c.Packets(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), Props: props}))
	f.run()
	return c
}

func (f *filler) run() {
	f.t.Helper()
	if err := f.rig.Run(); err != nil {
		f.t.Fatal(err)
	}
	f.rig.Notes = nil
	if m := f.core.memory(); m > f.most+f.most/8 {
		f.t.Fatalf("the core takes %d of %d bytes", m, f.most)
	}
}

func (f *filler) advance(d time.Duration) {
	f.t.Helper()
	if err := f.rig.Advance(d); err != nil {
		f.t.Fatal(err)
	}
}

// last returns the last packet that a client received, in words, without what every CONNACK announces.
func (f *filler) last(c *brokertest.Conn) (text string) {
	f.t.Helper()
	items, err := c.Received()
	for _, item := range items {
		if item.Mark == "" && err == nil {
			text, err = brokertest.Describe(item.Packet, mqtt.V5)
		}
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if words := strings.Fields(text); len(words) > 2 && words[0] == "connack" {
		text = strings.Join(words[:2], " ")
	}
	return text
}

// fills are the ways to fill a core.
var fills = []struct {
	name string
	fill func(f *filler, n int) int
}{
	{"sessions", (*filler).fillSessions},
	{"subscriptions", (*filler).fillSubscriptions},
	{"retained", (*filler).fillRetained},
	{"queues", (*filler).fillQueues},
	{"groups", (*filler).fillGroups},
	{"bundles", (*filler).fillBundles},
}

// TestMemoryIsBounded fills a core in each way after it was full in each other way: it must keep to its limit, refuse
// with the right reason, serve those who are there, and take about as much as when it was new.
func TestMemoryIsBounded(t *testing.T) {
	const memory = 6 << 20
	fresh := map[string]int{}
	for _, first := range fills {
		f := newFiller(t, memory)
		fresh[first.name] = first.fill(f, 1<<20)
		if fresh[first.name] == 1<<20 || f.core.memory()+f.core.reserved() < memory*3/4 {
			t.Errorf("%s: the core was not filled: %d, %d bytes", first.name, fresh[first.name], f.core.memory())
		}
		f.serve(first.name)
	}
	for _, first := range fills {
		f := newFiller(t, memory)
		for _, second := range fills {
			first.fill(f, 1<<20)
			f.serve(first.name)
			f.clear()
			if n := second.fill(f, 1<<20); n < fresh[second.name]*2/3 {
				t.Errorf("%d %s were taken after the core had been full of %s; %d when it was new", n, second.name, first.name, fresh[second.name])
			}
			f.clear()
		}
	}
}

// serve looks whether a client that is there is served while the core is full.
func (f *filler) serve(full string) {
	f.t.Helper()
	if f.core.stats.LimitsMet[abi.LimitMemory] == f.met {
		f.t.Errorf("%s: the limit was met, and not counted", full)
	}
	f.rig.Event(abi.EventStats, 0, 0, nil)
	f.run()
	if got, want := f.rig.Stats.Memory, f.core.memory(); got < want-want/50 || got > want+want/50 {
		f.t.Errorf("%s: the statistics say %d bytes instead of %d", full, got, want)
	}
	f.last(f.base)
	f.base.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("base"), Payload: []byte("x")}))
	f.run()
	if got := f.last(f.base); got != "publish base payload=x" {
		f.t.Errorf("%s: instead of a message of QoS 0 came %q", full, got)
	}
	f.base.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 2, nil, []mqtt.Filter{{Topic: []byte("base"), QoS: 2}}))
	f.run()
	if got := f.last(f.base); got != "suback 2 granted2" {
		f.t.Errorf("%s: a subscription that is there was answered with %q", full, got)
	}
	f.base.Lose()
	f.base = f.connect("base", 1<<20)
	if got := f.last(f.base); got != "connack success" {
		f.t.Errorf("%s: a session that is there was answered with %q", full, got)
	}
}

// TestSlabTrims frees elements and gives back empty pages at random: what lives stays as it is.
func TestSlabTrims(t *testing.T) {
	r := newRandom(t)
	var s slab[delivery]
	model := map[uint32]uint32{}
	var ids []uint32
	trimmed := false
	for round := range 40 {
		for range 1 + r.IntN(3000) {
			id, d := s.alloc()
			if _, in := model[id]; in || *d != (delivery{}) || id == 0 {
				t.Fatalf("element %d is not new", id)
			}
			d.message = r.Uint32()
			model[id] = d.message
			ids = append(ids, id)
		}
		left := []int{0, len(ids) / 50, len(ids) / 2}[round%3]
		r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		for _, id := range ids[left:] {
			delete(model, id)
			s.release(id)
		}
		ids = ids[:left]
		before := s.size()
		s.trim()
		trimmed = trimmed || s.size() < before/2
		for id, want := range model {
			if s.at(id).message != want {
				t.Fatalf("element %d has changed", id)
			}
		}
		for id := uint32(1); id < s.next; id++ {
			_ = s.at(id) // also those that are gone
		}
	}
	if int(s.live) != len(model) || !trimmed {
		t.Errorf("%d live, want %d; trimmed %v", s.live, len(model), trimmed)
	}
}

// TestStoreTrims does the same with the store.
func TestStoreTrims(t *testing.T) {
	r := newRandom(t)
	var s store
	type kept struct {
		b    block
		want byte
	}
	var all []kept
	for range 100 {
		for range r.IntN(2000) {
			want := byte(r.Uint32())
			all = append(all, kept{s.keep(bytes.Repeat([]byte{want}, 1+sizeFrom(r))), want})
		}
		if r.IntN(2) == 0 {
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		left := len(all) / (1 + r.IntN(20))
		for _, k := range all[left:] {
			s.release(k.b)
		}
		all = all[:left]
		s.trim(0)
		s.newBatch()
		for _, k := range all {
			b := s.bytes(k.b)
			if b[0] != k.want || b[len(b)-1] != k.want {
				t.Fatalf("a block of %d bytes has changed", len(b))
			}
		}
	}
	for _, k := range all {
		s.release(k.b)
	}
	s.trim(0)
	if s.live != 0 || s.held > chunkSize {
		t.Errorf("%d bytes live in %d", s.live, s.held)
	}
}

// TestChunksMoveOnlyBetweenBatches frees a large block and makes another of the same size: the host may remember where
// the first one was as long as it has not made another batch.
func TestChunksMoveOnlyBetweenBatches(t *testing.T) {
	var s store
	first := s.alloc(maxBlock + 1)
	s.release(first)
	second := s.alloc(maxBlock + 1)
	if second.chunk == first.chunk {
		t.Error("the number of a chunk is used again in the same batch")
	}
	s.newBatch()
	if third := s.alloc(maxBlock + 1); third.chunk != first.chunk {
		t.Error("the number of a chunk is not used again in the next batch")
	}
}
