package broker

import (
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
func held(v reflect.Value) (bytes uint64) {
	switch v.Kind() {
	case reflect.Slice:
		bytes = uint64(v.Cap()) * uint64(v.Type().Elem().Size())
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Slice || k == reflect.Pointer {
			whole := v.Slice3(0, v.Cap(), v.Cap())
			for i := range whole.Len() {
				bytes += held(whole.Index(i))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			bytes += held(v.Field(i))
		}
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*connectionPage]() && !v.IsNil() {
			bytes = uint64(v.Type().Elem().Size())
		}
	}
	return bytes
}

// heldBy returns the bytes that the tables of a core hold. Slices into the batch or the store are not theirs.
func heldBy(c *Core) (bytes uint64) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		switch v.Type().Field(i).Name {
		case "config", "connect", "publish", "ack", "subscribe", "unsubscribe", "disconnect", "props", "connack", "outgoing":
			continue
		}
		bytes += held(v.Field(i))
	}
	return bytes
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
}

// TestMemoryIsBounded fills a core in each way after it was full in each other way: it must keep to its limit, refuse
// with the right reason, serve those who are there, and take about as much as when it was new.
func TestMemoryIsBounded(t *testing.T) {
	const memory = 6 << 20
	fresh := map[string]int{}
	for _, first := range fills {
		f := newFiller(t, memory)
		fresh[first.name] = first.fill(f, 1<<20)
		if fresh[first.name] == 1<<20 || f.core.memory() < memory*3/4 {
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
