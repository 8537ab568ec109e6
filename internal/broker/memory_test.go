package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestTopicsAreForgotten publishes to ever new topics at QoS 0, which no limit refuses: what is remembered of them
// must stay bounded, whether the topics are long, many, or have many receivers.
func TestTopicsAreForgotten(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V311)
	long := bytes.Repeat([]byte("x"), 60_000)
	for i := range 3000 {
		b.publishTwice(1, append(fmt.Appendf(nil, "%d/", i), long...))
	}
	if b.core.store.live > 2*maxRouteBytes {
		t.Errorf("%d bytes are kept of long topics", b.core.store.live)
	}
	for i := range 3 * maxRoutes {
		b.publishTwice(1, fmt.Appendf(nil, "%d", i))
	}
	if n := b.core.routes.count; n > maxRoutes+1 {
		t.Errorf("%d topics are remembered", n)
	}
}

// publishTwice publishes to a topic so that it is remembered.
func (b *bencher) publishTwice(conn abi.Conn, topic []byte) {
	b.publish(conn, topic)
	b.publish(conn, topic)
}

// TestOneMessageIsNotRemembered publishes once to each of many topics: none of them is worth a route.
func TestOneMessageIsNotRemembered(t *testing.T) {
	b := newBencher()
	b.connect(1, mqtt.V311)
	b.connect(2, mqtt.V311, mqtt.Filter{Topic: []byte("+")})
	const topics = 10_000
	for i := range topics {
		b.publish(1, fmt.Appendf(nil, "%d", i))
	}
	if n := b.core.routes.count; n > 1+topics/100 { // a few hashes may be the same
		t.Errorf("%d topics are remembered", n-1)
	}
	if b.core.stats.Sent != topics {
		t.Errorf("%d of %d messages were sent", b.core.stats.Sent, topics)
	}
	b.publish(1, fmt.Appendf(nil, "%d", topics-1))
	if n := b.core.routes.count; n < 2 {
		t.Error("a topic that comes again is not remembered")
	}
}

// TestReceiversAreForgotten publishes to many topics that have many receivers each: the lists of receivers that are
// remembered must stay bounded, whether a topic comes the long way or the short way.
func TestReceiversAreForgotten(t *testing.T) {
	const publishers, subscribers = 5000, 1000 // together more than maxRouteBytes
	b := newBencher()
	for i := range abi.Conn(publishers) {
		b.connect(1+i, mqtt.V311)
		b.publishTwice(1+i, fmt.Appendf(nil, "own/%d", i))
	}
	for i := range abi.Conn(subscribers) {
		b.connect(1+publishers+i, mqtt.V5, mqtt.Filter{Topic: []byte("#")})
	}
	for i := range abi.Conn(publishers) {
		b.publishTwice(1+i, fmt.Appendf(nil, "own/%d", i))
	}
	b.checkLists(t)
	for i := range publishers {
		b.publishTwice(1, fmt.Appendf(nil, "other/%d", i))
	}
	b.checkLists(t)
}

func (b *bencher) checkLists(t *testing.T) {
	total := 0
	for id := range b.core.routes.count {
		total += b.core.routes.at(id).listBytes()
	}
	if total > maxRouteBytes+1<<20 || total == 0 || b.core.routes.lists != total {
		t.Errorf("lists of receivers take %d bytes, counted as %d", total, b.core.routes.lists)
	}
}

func (b *bencher) publish(conn abi.Conn, topic []byte) {
	b.begin()
	b.event(abi.EventPackets, conn, 1, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: topic, Payload: []byte("x")}))
	b.run()
}

// TestAcknowledgedMessagesMakeNoGarbage guards the rule that a step does not allocate, for messages that are kept
// until they are acknowledged.
func TestAcknowledgedMessagesMakeNoGarbage(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		b := newBencher()
		b.connect(1, mqtt.V5)
		b.connect(2, mqtt.V311, mqtt.Filter{Topic: []byte("a/+"), QoS: qos})
		b.connect(3, mqtt.V5, mqtt.Filter{Topic: []byte("a/b"), QoS: qos})
		publish := mqtt.Publish{Topic: []byte("a/b"), Payload: []byte("x"), QoS: qos, PacketID: 9}
		id := uint16(0)
		round := func() {
			id = id%firstSlots + 1 // the ids come in turn
			b.begin()
			packet := mqtt.AppendPublish(b.packet[:0], mqtt.V5, &publish)
			if qos == 2 {
				packet = mqtt.AppendAck(packet, mqtt.V5, mqtt.PUBREL, 9, 0, nil)
			}
			b.event(abi.EventPackets, 1, 1, packet)
			for conn := abi.Conn(2); conn <= 3; conn++ {
				v := mqtt.Version(conn) + 2 // MQTT 3.1.1 and 5
				if qos == 1 {
					packet = mqtt.AppendAck(packet[:0], v, mqtt.PUBACK, id, 0, nil)
				} else {
					packet = mqtt.AppendAck(mqtt.AppendAck(packet[:0], v, mqtt.PUBREC, id, 0, nil), v, mqtt.PUBCOMP, id, 0, nil)
				}
				b.event(abi.EventPackets, conn, 1, packet)
			}
			b.packet = packet
			b.run()
		}
		round()
		if b.core.deliveries.live != 0 {
			t.Fatalf("QoS %d: %d messages are not acknowledged: the test does not test", qos, b.core.deliveries.live)
		}
		if n := testing.AllocsPerRun(1000, round); n != 0 {
			t.Errorf("QoS %d: a round allocates %v times", qos, n)
		}
		if b.core.deliveries.live != 0 {
			t.Errorf("QoS %d: %d messages are left", qos, b.core.deliveries.live)
		}
	}
}
