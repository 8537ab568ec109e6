package broker

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// benchLimits are generous, so that nothing but the work itself is measured.
var benchLimits = abi.Limits{
	MaxPacketSize: 1 << 20, MaxInflight: 1024, ReceiveMaximum: 1024, TopicAliasMaximum: 16,
	MaxQueued: 100_000, MaxQueuedBytes: 64 << 20, MaxRetained: 1 << 20, MaxRetainedBytes: 256 << 20,
	MaxSessions: 1 << 20, MaxSubscriptions: 1 << 16, MaxTopicLevels: 64, MaxSessionExpiry: forever,
	MaxMemory: 512 << 20, ConnectTimeout: 10_000, StallTimeout: 1000, StepWork: 1 << 20,
}

// allowAll is a configuration that lets everybody do everything.
func allowAll() []byte {
	return abi.AppendConfig(nil, &abi.Config{Limits: benchLimits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#", "$SYS/#"}, Subscribe: []string{"#"},
	}}})
}

// bencher drives a core without looking at its effects.
type bencher struct {
	core   *Core
	batch  []byte
	packet []byte // scratch of tests
}

func newBencher() *bencher {
	b := &bencher{core: New()}
	b.begin()
	b.event(abi.EventConfigure, 0, 0, allowAll())
	b.run()
	return b
}

func (b *bencher) begin() {
	b.batch = append(b.batch[:0], make([]byte, abi.BatchHeaderSize)...)
	abi.PutBatchHeader(b.batch, &abi.BatchHeader{Now: 1_000_000, Entropy: [abi.EntropySize]byte{1, 2, 3}})
}

func (b *bencher) event(kind abi.EventKind, conn abi.Conn, arg uint32, data []byte) {
	b.batch = abi.AppendEvent(b.batch, kind, conn, arg, data)
}

func (b *bencher) run() []byte {
	copy(b.core.Batch(uint32(len(b.batch))), b.batch)
	return b.core.Step(abi.BatchHeaderSize, uint32(len(b.batch)))
}

func (b *bencher) connect(conn abi.Conn, v mqtt.Version, filters ...mqtt.Filter) {
	b.begin()
	b.event(abi.EventOpen, conn, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "plain"}))
	b.event(abi.EventPackets, conn, 1, mqtt.AppendConnect(nil, &mqtt.Connect{
		Version: v, CleanStart: true, ClientID: fmt.Appendf(nil, "c%d", conn),
	}))
	if len(filters) > 0 {
		b.event(abi.EventPackets, conn, 1, mqtt.AppendSubscribe(nil, v, 1, nil, filters))
	}
	b.run()
}

// BenchmarkPublish measures one step with 100 PUBLISH packets of 64 bytes, for one and for fifty subscribers.
func BenchmarkPublish(b *testing.B) {
	for _, subscribers := range []int{1, 50} {
		for qos := byte(0); qos <= 1; qos++ {
			b.Run(fmt.Sprintf("subscribers=%d/qos=%d", subscribers, qos), func(b *testing.B) {
				benchPublish(b, subscribers, qos)
			})
		}
	}
}

func benchPublish(b *testing.B, subscribers int, qos byte) {
	bench := newBencher()
	for i := range subscribers {
		bench.connect(abi.Conn(2+i), mqtt.V311, mqtt.Filter{Topic: []byte("bench/topic/1"), QoS: qos})
	}
	bench.connect(1, mqtt.V311)
	const packets = 100
	var run, acks []byte
	for i := range packets {
		run = mqtt.AppendPublish(run, mqtt.V311, &mqtt.Publish{
			Topic: []byte("bench/topic/1"), Payload: make([]byte, 64), QoS: qos, PacketID: uint16(i + 1),
		})
	}
	bench.begin()
	bench.event(abi.EventPackets, 1, packets, run)
	publish := bench.batch
	b.ReportAllocs()
	b.ResetTimer()
	next := uint16(1)
	for range b.N {
		bench.batch = publish
		bench.run()
		if qos == 1 {
			b.StopTimer()
			bench.batch = nil
			bench.begin()
			acks = acks[:0]
			_ = next
			for s := range subscribers {
				acks = acks[:0]
				sess := bench.core.sessions.at(bench.core.connectionOf(abi.Conn(2 + s)).session)
				n := uint32(0)
				for d := sess.firstInflight; d != 0; d = bench.core.deliveries.at(d).next {
					acks = mqtt.AppendAck(acks, mqtt.V311, mqtt.PUBACK, bench.core.deliveries.at(d).packetID, 0, nil)
					n++
				}
				bench.event(abi.EventPackets, abi.Conn(2+s), n, acks)
			}
			b.StartTimer()
			bench.run()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*packets*subscribers), "ns/delivery")
}
