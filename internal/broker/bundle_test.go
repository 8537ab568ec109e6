package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// bundleTest is a client p that publishes runs to another, s.
type bundleTest struct {
	t    *testing.T
	core *Core
	rig  *brokertest.Rig
	p, s *brokertest.Conn
	sent int    // messages so far; the payload is their number
	id   uint16 // the last packet id of p
	most uint16 // aliases that clients want
}

// inBothWays plays something with bundles and without: it must be the same.
func inBothWays(t *testing.T, set func(*abi.Config), play func(b *bundleTest)) {
	for _, way := range []string{"short way", "runs of the host", "runs of the host, the long way", "long way"} {
		t.Run(way, func(t *testing.T) {
			b := &bundleTest{t: t, core: New()}
			b.core.longWay = strings.HasSuffix(way, "long way")
			b.rig = brokertest.New(b.core)
			if strings.HasPrefix(way, "runs") {
				b.rig.Shortest = 2
			}
			config := abi.Config{Limits: brokertest.ScriptLimits, Rules: []abi.Rule{{
				Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
			}}}
			config.Limits.MaxInflight = 100
			set(&config)
			b.rig.Configure(&config)
			b.p = b.connect("p", 100)
			b.s = b.connect("s", 100)
			b.s.Packets(mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("topic"), QoS: 2}}))
			b.prepare()
			play(b)
		})
	}
}

// prepare has the topic remembered, and packet ids from 1 on be free.
func (b *bundleTest) prepare() {
	b.publish(0, 3)
	b.publish(1, 64)
	for id := range uint16(200) {
		b.ack(b.s, mqtt.PUBACK, 0, id+1)
	}
	b.empty()
	b.core.sessions.at(b.core.connectionOf(b.s.ID).session).nextSlot = 0
	b.core.stats.LimitsMet = [abi.NumLimits]uint64{}
	b.sent, b.id = 0, 0
	b.got(b.s)
	b.got(b.p)
}

func noChange(*abi.Config) {}

// connect makes a connection whose session lasts for a hundred seconds.
func (b *bundleTest) connect(id string, window uint16) *brokertest.Conn {
	req := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id)}
	req.Props.Has = mqtt.PropertySet(0).With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
	req.Props.SessionExpiryInterval, req.Props.ReceiveMaximum = 100, window
	if b.most > 0 {
		req.Props.Has = req.Props.Has.With(mqtt.PropTopicAliasMaximum)
		req.Props.TopicAliasMaximum = b.most
	}
	c := b.rig.Open(&abi.Peer{Listener: "plain"})
	c.Packets(mqtt.AppendConnect(nil, &req))
	b.run()
	return c
}

func (b *bundleTest) run() {
	b.t.Helper()
	if err := b.rig.Run(); err != nil {
		b.t.Fatal(err)
	}
}

// publish sends n messages in one go.
func (b *bundleTest) publish(qos byte, n int) {
	b.t.Helper()
	var packets [][]byte
	for range n {
		b.sent++
		m := mqtt.Publish{Topic: []byte("topic"), Payload: fmt.Appendf(nil, "%04d", b.sent), QoS: qos}
		if qos > 0 {
			if b.id++; b.id == 0 {
				b.id = 1
			}
			m.PacketID = b.id
		}
		packets = append(packets, mqtt.AppendPublish(nil, mqtt.V5, &m))
	}
	b.p.Packets(packets...)
	b.run()
}

// ack sends acknowledgements in one go.
func (b *bundleTest) ack(c *brokertest.Conn, kind mqtt.PacketType, reason mqtt.ReasonCode, ids ...uint16) {
	b.t.Helper()
	var packets [][]byte
	for _, id := range ids {
		packets = append(packets, mqtt.AppendAck(nil, mqtt.V5, kind, id, reason, nil))
	}
	c.Packets(packets...)
	b.run()
}

// got returns what has come to a client since the last call, one packet after the other.
func (b *bundleTest) got(c *brokertest.Conn) string {
	b.t.Helper()
	b.run()
	items, err := c.Received()
	var list []string
	for _, item := range items {
		text := item.Mark
		if text == "" && err == nil {
			text, err = brokertest.Describe(item.Packet, mqtt.V5)
		}
		if strings.HasPrefix(text, "connack") {
			text = "connack"
		}
		text, _, _ = strings.Cut(text, " reason-string=")
		text = strings.ReplaceAll(strings.TrimPrefix(text, "publish topic "), "payload=", "")
		list = append(list, text)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Join(list, ", ")
}

// wants compares what has come to a client.
func (b *bundleTest) wants(c *brokertest.Conn, format string, args ...any) {
	b.t.Helper()
	if got, want := b.got(c), fmt.Sprintf(format, args...); got != want {
		b.t.Errorf("got   %s\nwant  %s", got, want)
	}
}

// bundled looks whether there are bundles, as there should be on the short way.
func (b *bundleTest) bundled() {
	b.t.Helper()
	if is := b.core.reserved() > 0; is == b.core.longWay {
		b.t.Errorf("there are bundles: %v", is)
	}
}

// empty looks that nothing is left of all messages, and nothing counted.
func (b *bundleTest) empty() {
	b.t.Helper()
	b.run()
	b.run() // bodies are freed a step later
	c := b.core
	if c.deliveries.live+c.messages.live != 0 || c.waiting != 0 || c.stats.Inflight != 0 {
		b.t.Errorf("%d deliveries, %d messages, %d waiting, %d in flight are left", c.deliveries.live, c.messages.live, c.waiting, c.stats.Inflight)
	}
	for id := uint32(1); id < c.sessions.next; id++ {
		s := c.sessions.at(id)
		if s.queued+s.queuedBytes+s.inflight+s.outstanding+s.firstInflight+s.firstQueued+s.again != 0 {
			b.t.Errorf("session %d is left with %+v", id, *s)
		}
	}
}

// ids returns the packet ids from first to last.
func ids(first, last int) (list []uint16) {
	for id := first; id <= last; id++ {
		list = append(list, uint16(id))
	}
	return list
}

// messages writes out messages of QoS 1, or QoS 2, from number first to last, the first of which has a packet id.
func messages(qos, id, first, last int) string {
	var list []string
	for n := first; n <= last; n++ {
		list = append(list, fmt.Sprintf("qos%d id=%d %04d", qos, id+n-first, n))
	}
	return strings.Join(list, ", ")
}

// acks writes out acknowledgements.
func acks(kind string, ids ...uint16) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprintf("%s %d", kind, id))
	}
	return strings.Join(list, ", ")
}

// TestBundleDropsOldest lets the queue of a session that is away overflow: of a bundle at its head only as many go as
// must.
func TestBundleDropsOldest(t *testing.T) {
	inBothWays(t, func(config *abi.Config) {
		config.Options.Overflow, config.Limits.MaxQueued = abi.DropOldest, 10
	}, func(b *bundleTest) {
		b.s.Lose()
		b.publish(1, 8)
		b.bundled()
		b.publish(1, 8) // 2 fit, 6 push out others
		if b.core.waiting != 10 || b.core.stats.DroppedQueue != 6 || b.core.stats.LimitsMet[abi.LimitQueue] != 6 {
			b.t.Errorf("%d are waiting, %d dropped, %d limits met", b.core.waiting, b.core.stats.DroppedQueue, b.core.stats.LimitsMet[abi.LimitQueue])
		}
		b.s = b.connect("s", 4)
		b.wants(b.s, "connack, %s", messages(1, 1, 7, 10))
		b.ack(b.s, mqtt.PUBACK, 0, ids(1, 4)...)
		b.wants(b.s, "%s", messages(1, 5, 11, 14))
		b.ack(b.s, mqtt.PUBACK, 0, ids(5, 8)...)
		b.wants(b.s, "%s", messages(1, 9, 15, 16))
		b.publish(1, 30) // 2 go, the last 10 stay
		b.ack(b.s, mqtt.PUBACK, 0, ids(9, 10)...)
		b.wants(b.s, "%s, %s", messages(1, 11, 17, 18), messages(1, 13, 37, 38))
		b.ack(b.s, mqtt.PUBACK, 0, ids(11, 14)...)
		b.ack(b.s, mqtt.PUBACK, 0, ids(15, 18)...)
		b.ack(b.s, mqtt.PUBACK, 0, ids(19, 22)...)
		b.wants(b.s, "%s", messages(1, 15, 39, 46))
		b.empty()
	})
}

// TestBundlesAndExpiry lets messages that expire wait between bundles.
func TestBundlesAndExpiry(t *testing.T) {
	inBothWays(t, func(config *abi.Config) { config.Limits.MaxQueued = 10 }, func(b *bundleTest) {
		b.s.Lose()
		b.publish(1, 4)
		props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropMessageExpiryInterval), MessageExpiryInterval: 1}
		expiring := mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("topic"), QoS: 1, PacketID: 1, Props: props})
		b.p.Packets(expiring, expiring)
		b.publish(1, 4)
		b.bundled()
		if err := b.rig.Advance(2 * time.Second); err != nil {
			b.t.Fatal(err)
		}
		b.publish(1, 4) // there is room for two of them
		if st := b.core.stats; st.Expired != 2 || st.DroppedQueue != 2 || b.core.waiting != 10 {
			b.t.Errorf("%d expired, %d dropped, %d are waiting", st.Expired, st.DroppedQueue, b.core.waiting)
		}
		b.s = b.connect("s", 100)
		b.wants(b.s, "connack, %s", messages(1, 1, 1, 10))
		b.ack(b.s, mqtt.PUBACK, 0, ids(1, 10)...)
		b.empty()
	})
}

// TestBundlesEndWithTheirSession ends a session with bundles in flight, in part acknowledged, and in the queue.
func TestBundlesEndWithTheirSession(t *testing.T) {
	inBothWays(t, noChange, func(b *bundleTest) {
		b.s.Lose()
		b.s = b.connect("s", 20)
		b.publish(1, 6)
		b.ack(b.s, mqtt.PUBACK, 0, ids(1, 2)...)
		b.publish(2, 6)
		b.ack(b.s, mqtt.PUBREC, 0, ids(7, 10)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(7, 8)...)
		b.publish(1, 30)
		b.publish(1, 3)
		b.bundled()
		if b.core.stats.Inflight != 20 || b.core.waiting != 41 {
			b.t.Errorf("%d are in flight, and %d wait for the client", b.core.stats.Inflight, b.core.waiting)
		}
		b.s.Lose()
		b.run()
		if err := b.rig.Advance(101 * time.Second); err != nil {
			b.t.Fatal(err)
		}
		b.empty()
	})
}

// TestBundlesAtTakeover takes a session over whose client has acknowledged parts of bundles: each message comes again
// at the stage at which it was [MQTT-4.4.0-1], under its packet id and in order.
func TestBundlesAtTakeover(t *testing.T) {
	inBothWays(t, noChange, func(b *bundleTest) {
		b.publish(2, 6)
		b.publish(1, 4)
		b.wants(b.s, "%s, %s", messages(2, 1, 1, 6), messages(1, 7, 7, 10))
		b.bundled()
		b.ack(b.s, mqtt.PUBREC, 0, ids(1, 3)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, 1)
		b.ack(b.s, mqtt.PUBACK, 0, ids(7, 8)...)
		b.wants(b.s, "pubrel 1, pubrel 2, pubrel 3")
		b.ack(b.s, mqtt.PUBREC, 0, ids(2, 3)...) // again
		b.wants(b.s, "pubrel 2, pubrel 3")
		b.s = b.connect("s", 5)
		b.wants(b.s, "connack, pubrel 2, pubrel 3, qos2 id=4 dup 0004, qos2 id=5 dup 0005, qos2 id=6 dup 0006")
		b.publish(1, 3)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(2, 3)...)
		b.wants(b.s, "qos1 id=9 dup 0009, qos1 id=10 dup 0010")
		b.ack(b.s, mqtt.PUBREC, 0, ids(4, 6)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(4, 6)...)
		b.wants(b.s, "pubrel 4, pubrel 5, pubrel 6, %s", messages(1, 11, 11, 13))
		b.ack(b.s, mqtt.PUBACK, 0, ids(9, 13)...)
		b.empty()
	})
}

// TestBundlesWaitForBlockedClients has runs come while a client takes nothing.
func TestBundlesWaitForBlockedClients(t *testing.T) {
	inBothWays(t, noChange, func(b *bundleTest) {
		b.publish(2, 4)
		b.s.Event(abi.EventBlocked, 0, nil)
		b.publish(2, 5)
		b.publish(1, 5)
		b.wants(b.s, "%s", messages(2, 1, 1, 4))
		b.ack(b.s, mqtt.PUBREC, 0, ids(1, 4)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(1, 4)...)
		b.wants(b.s, "%s", acks("pubrel", ids(1, 4)...))
		b.bundled()
		b.s.Event(abi.EventUnblocked, 0, nil)
		b.wants(b.s, "%s, %s", messages(2, 5, 5, 9), messages(1, 10, 10, 14))
		b.ack(b.s, mqtt.PUBREC, 0, ids(5, 9)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(5, 9)...)
		b.ack(b.s, mqtt.PUBACK, 0, ids(10, 14)...)
		b.empty()
	})
}

// TestPartOfBundleIsRefused has a client refuse a message in the middle of a bundle [MQTT-4.8.2-6], and acknowledge what
// it should not.
func TestPartOfBundleIsRefused(t *testing.T) {
	inBothWays(t, noChange, func(b *bundleTest) {
		b.publish(2, 6)
		b.wants(b.s, "%s", messages(2, 1, 1, 6))
		b.bundled()
		b.ack(b.s, mqtt.PUBREC, 0, ids(1, 2)...)
		b.ack(b.s, mqtt.PUBREC, mqtt.QuotaExceeded, 3)
		b.ack(b.s, mqtt.PUBACK, 0, 4)  // means nothing
		b.ack(b.s, mqtt.PUBCOMP, 0, 4) // nor does this
		b.ack(b.s, mqtt.PUBREC, 0, ids(4, 6)...)
		b.ack(b.s, mqtt.PUBREC, 0, 2) // again
		b.wants(b.s, "%s, pubrel 2", acks("pubrel", 1, 2, 4, 5, 6))
		b.ack(b.s, mqtt.PUBREC, 0, 3) // there is no such message any more
		b.wants(b.s, "pubrel 3 packet-identifier-not-found")
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(1, 6)...)
		b.empty()
	})
}

// TestBundlesAcknowledgedOutOfOrder acknowledges in orders that nobody uses.
func TestBundlesAcknowledgedOutOfOrder(t *testing.T) {
	inBothWays(t, noChange, func(b *bundleTest) {
		b.publish(1, 6)
		b.bundled()
		b.ack(b.s, mqtt.PUBACK, 0, 1, 2, 4, 4, 1, 6, 3, 5, 5)
		b.publish(2, 6)
		b.got(b.s)
		b.ack(b.s, mqtt.PUBREC, 0, 12, 7, 8, 8)
		b.ack(b.s, mqtt.PUBCOMP, 0, 8, 12)
		b.ack(b.s, mqtt.PUBREC, 0, 11, 10, 9)
		b.wants(b.s, "%s", acks("pubrel", 12, 7, 8, 8, 11, 10, 9))
		b.ack(b.s, mqtt.PUBCOMP, 0, 11, 10, 9, 7)
		b.empty()
	})
}

// TestReceivedIDsWrap sends runs of QoS 2 whose packet ids pass the largest: a message that comes again is known
// [MQTT-4.3.3-10], until it is released.
func TestReceivedIDsWrap(t *testing.T) {
	inBothWays(t, func(config *abi.Config) { config.Limits.ReceiveMaximum = 100 }, func(b *bundleTest) {
		b.id = 65529
		b.publish(2, 16) // 65530 to 65535, then 1 to 10
		wrapped := append(ids(65530, 65535), ids(1, 10)...)
		b.wants(b.p, "%s", acks("pubrec", wrapped...))
		b.wants(b.s, "%s", messages(2, 1, 1, 16))
		for _, id := range wrapped {
			b.p.Packets(mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{Topic: []byte("topic"), QoS: 2, PacketID: id, Dup: true}))
		}
		b.id = 65529
		b.publish(2, 16) // again, without the flag
		b.wants(b.s, "")
		b.wants(b.p, "%s, %[1]s", acks("pubrec", wrapped...))
		b.ack(b.p, mqtt.PUBREL, 0, append([]uint16{65533, 2}, wrapped...)...)
		want := acks("pubcomp", append([]uint16{65533, 2}, wrapped...)...)
		want = strings.Replace(want, "65532, pubcomp 65533", "65532, pubcomp 65533 packet-identifier-not-found", 1)
		b.wants(b.p, "%s", strings.Replace(want, "pubcomp 1, pubcomp 2", "pubcomp 1, pubcomp 2 packet-identifier-not-found", 1))
		if s := b.core.sessions.at(b.core.connectionOf(b.p.ID).session); s.receivedCount+s.firstReceived+uint32(s.receivedRange.count)+b.core.received.live != 0 {
			b.t.Errorf("%d packet ids are left, %+v", s.receivedCount, s.receivedRange)
		}
		b.ack(b.s, mqtt.PUBREC, 0, ids(1, 16)...)
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(1, 16)...)
		b.empty()
	})
}

// TestRunsKeepToReceiveMaximum sends more than the receive maximum in one go: what it allows is taken, and then the
// connection ends. Messages of QoS 1 count too while those of QoS 2 fill it.
func TestRunsKeepToReceiveMaximum(t *testing.T) {
	set := func(config *abi.Config) { config.Limits.ReceiveMaximum = 4 }
	inBothWays(t, set, func(b *bundleTest) {
		b.publish(1, 9) // each is acknowledged at once
		b.wants(b.p, "%s", acks("puback", ids(1, 9)...))
		b.ack(b.s, mqtt.PUBACK, 0, ids(1, 9)...)
		b.publish(2, 3)
		b.publish(1, 3)
		b.wants(b.p, "%s, %s", acks("pubrec", ids(10, 12)...), acks("puback", ids(13, 15)...))
		b.publish(2, 3)
		b.wants(b.p, "pubrec 16, disconnect receive-maximum-exceeded, closed")
		b.wants(b.s, "%s, %s, %s, %s", messages(1, 1, 1, 9), messages(2, 10, 10, 12), messages(1, 13, 13, 15), messages(2, 16, 16, 16))
	})
	inBothWays(t, set, func(b *bundleTest) {
		b.publish(2, 4)
		b.publish(1, 3)
		b.wants(b.p, "%s, disconnect receive-maximum-exceeded, closed", acks("pubrec", ids(1, 4)...))
		b.wants(b.s, "%s", messages(2, 1, 1, 4))
		if met := b.core.stats.LimitsMet[abi.LimitReceiveMaximum]; met != 1 {
			b.t.Errorf("the limit was met %d times", met)
		}
	})
}

// TestRunsUseAliases sends runs on a topic that a client has no alias for yet: the first message sets it
// [MQTT-3.3.2-8], the others use it, and so does what waits in the queue.
func TestRunsUseAliases(t *testing.T) {
	inBothWays(t, func(config *abi.Config) { config.Limits.MaxAliasesOut = 1 }, func(b *bundleTest) {
		b.s.Lose()
		b.most = 1
		b.s = b.connect("s", 5)
		b.publish(1, 3)
		b.publish(1, 4)
		b.wants(b.s, "connack, qos1 id=1 alias=1 0001, publish  qos1 id=2 alias=1 0002, publish  qos1 id=3 alias=1 0003, "+
			"publish  qos1 id=4 alias=1 0004, publish  qos1 id=5 alias=1 0005")
		b.publish(2, 3)
		b.bundled()
		b.ack(b.s, mqtt.PUBACK, 0, ids(1, 5)...)
		b.wants(b.s, "publish  qos1 id=6 alias=1 0006, publish  qos1 id=7 alias=1 0007, "+
			"publish  qos2 id=8 alias=1 0008, publish  qos2 id=9 alias=1 0009, publish  qos2 id=10 alias=1 0010")
	})
}

// TestRunsAreBounded sends runs of large messages: a bundle keeps all its bytes as long as one message of it is there.
func TestRunsAreBounded(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V311)
	b.connect(2, mqtt.V311, mqtt.Filter{Topic: []byte("topic"), QoS: 1})
	var run []byte
	for i := range uint16(100) {
		run = mqtt.AppendPublish(run, mqtt.V311, &mqtt.Publish{Topic: []byte("topic"), Payload: make([]byte, 15_000), QoS: 1, PacketID: 1 + i})
	}
	for range 2 {
		b.begin()
		b.event(abi.EventPackets, 1, 100, run)
		b.run()
	}
	var sizes []uint32
	for id := uint32(1); id < b.core.messages.next; id++ {
		sizes = append(sizes, b.core.messages.at(id).body.size)
	}
	if largest := slices.Max(sizes); largest > maxBlock || largest < maxBlock*3/4 {
		t.Errorf("the largest bundle has %d bytes", largest)
	}
}
