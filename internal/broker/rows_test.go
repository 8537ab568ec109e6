package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestRunsTakeFewEffects plays a hundred messages through in runs, over and over: each part of the handshake is one event
// and one effect, however many messages there are, and takes no memory.
func TestRunsTakeFewEffects(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		b := newBencher()
		b.connect(2, mqtt.V5, mqtt.Filter{Topic: []byte("bench/topic/1"), QoS: qos})
		b.connect(1, mqtt.V5)
		r := newRowsOf(100, qos)
		for range 10 { // the topic is remembered from the second message on, and there are slots for all
			r.play(t, b)
		}
		effects := 0
		if n := testing.AllocsPerRun(100, func() { effects = r.play(t, b) }); n != 0 {
			t.Errorf("QoS %d: %v allocations", qos, n)
		}
		// PUBLISH and PUBACK, or PUBREC; at QoS 2 PUBREL and PUBCOMP as well. Where packet
		// ids begin anew there are two runs.
		if most := map[byte]int{1: 2 * 2, 2: 4 * 2}[qos]; effects > most {
			t.Errorf("QoS %d: %d effects for a hundred messages", qos, effects)
		}
		if n := b.core.stats.Inflight; n != 0 {
			t.Errorf("QoS %d: %d messages are in flight", qos, n)
		}
	}
}

// TestRowsWithGaps acknowledges the beginnings of two bundles in one go: what answers them is not one run.
func TestRowsWithGaps(t *testing.T) {
	inBothWays(t, func(config *abi.Config) { config.Limits.ReceiveMaximum = 100 }, func(b *bundleTest) {
		b.publish(2, 12)
		b.publish(2, 12)
		b.wants(b.s, "%s", messages(2, 1, 1, 24))
		some, rest := append(ids(1, 9), ids(13, 21)...), append(ids(10, 12), ids(22, 24)...)
		for _, part := range [][]uint16{some, rest} {
			b.ack(b.s, mqtt.PUBREC, 0, part...)
			b.wants(b.s, "%s", acks("pubrel", part...))
		}
		b.ack(b.s, mqtt.PUBCOMP, 0, ids(1, 24)...)
		b.empty()
	})
}

// TestRunsStopAtWhatIsKnown sends runs of QoS 2 in which a message comes again, as the first, the second or the last: it is
// not delivered twice [MQTT-4.3.3-10], and the others are, once.
func TestRunsStopAtWhatIsKnown(t *testing.T) {
	for known := uint16(10); known <= 15; known++ {
		inBothWays(t, func(config *abi.Config) { config.Limits.ReceiveMaximum = 100 }, func(b *bundleTest) {
			b.id = known - 1
			b.publish(2, 1)
			b.id = 9
			b.publish(2, 6)
			want := []string{messages(2, 1, 1, 1)}
			for id := uint16(10); id <= 15; id++ {
				if id != known {
					want = append(want, fmt.Sprintf("qos2 id=%d %04d", len(want)+1, id-8))
				}
			}
			b.wants(b.s, "%s", strings.Join(want, ", "))
			b.wants(b.p, "%s, %s", acks("pubrec", known), acks("pubrec", ids(10, 15)...))
		})
	}
}

// rowsOf is a number of messages, from connection 1 to connection 2.
type rowsOf struct {
	count   int
	qos     byte
	packets []byte
	rows    []row // packet ids of the messages on their way to connection 2
	effect  abi.Effect
	deliver abi.Deliver
}

// row is packet ids that follow each other.
type row struct {
	first uint16
	count uint32
}

func newRowsOf(count int, qos byte) *rowsOf {
	r := &rowsOf{count: count, qos: qos}
	for i := range count {
		r.packets = mqtt.AppendPublish(r.packets, mqtt.V5, &mqtt.Publish{
			Topic: []byte("bench/topic/1"), Payload: make([]byte, 64), QoS: qos, PacketID: uint16(i + 1),
		})
	}
	return r
}

// play sends the messages, acknowledges them wholly on both sides, and returns how many effects that took.
func (r *rowsOf) play(t testing.TB, b *bencher) (effects int) {
	r.rows = r.rows[:0]
	b.begin()
	b.event(abi.EventPublishes, 1, uint32(r.count), r.packets)
	effects = r.run(t, b)
	kinds := []byte{firstPuback}
	if r.qos == 2 {
		kinds = []byte{firstPubrec, firstPubcomp}
	}
	for _, kind := range kinds {
		b.begin()
		for _, row := range r.rows {
			b.acks(2, kind, row)
		}
		if kind == firstPubcomp {
			b.acks(1, firstPubrel, row{1, uint32(r.count)})
		}
		effects += r.run(t, b)
	}
	return effects
}

// acks acknowledges messages whose packet ids follow each other.
func (b *bencher) acks(conn abi.Conn, kind byte, r row) {
	b.event(abi.EventAcks, conn, r.count, []byte{kind, ackSize - 2, byte(r.first >> 8), byte(r.first)})
}

// run returns how many effects came of a step, and notes the packet ids of the messages that it sent.
func (r *rowsOf) run(t testing.TB, b *bencher) (effects int) {
	out := b.run()
	for at := abi.EffectsHeaderSize; at < len(out); effects++ {
		next, err := abi.NextEffect(out, at, &r.effect)
		if err != nil {
			t.Fatal(err)
		}
		at = next
		if r.effect.Kind == abi.EffectDeliver {
			if err := abi.ReadDeliver(&r.effect, &r.deliver); err != nil {
				t.Fatal(err)
			}
			r.rows = append(r.rows, row{r.deliver.Target(0).PacketID, r.deliver.Count})
		}
	}
	return effects
}

// BenchmarkRuns measures a message at QoS 1 and 2 with all its acknowledgements, if they come in runs of a hundred.
func BenchmarkRuns(b *testing.B) {
	for qos := byte(1); qos <= 2; qos++ {
		b.Run([]string{1: "qos=1", 2: "qos=2"}[qos], func(b *testing.B) {
			bench := newBencher()
			bench.connect(2, mqtt.V5, mqtt.Filter{Topic: []byte("bench/topic/1"), QoS: qos})
			bench.connect(1, mqtt.V5)
			r := newRowsOf(100, qos)
			b.ReportAllocs()
			for b.Loop() {
				r.play(b, bench)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*r.count), "ns/delivery")
		})
	}
}
