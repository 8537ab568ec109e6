package engine

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// BenchmarkStep measures what the core does with a PUBLISH of 64 bytes, natively and as WebAssembly: at QoS 0 for
// one and for fifty subscribers, at QoS 1 and 2 for one, acknowledgements included. A step takes 100 packets.
func BenchmarkStep(b *testing.B) {
	module, err := Compile(b.Context(), moduletest.Broker(b), ModuleConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer module.Close()
	factories := []Factory{NativeFactory(func() GoCore { return broker.New() }), module}
	for _, f := range factories {
		for _, subscribers := range []int{1, 50} {
			b.Run(fmt.Sprintf("%s/qos=0/subscribers=%d", f.Kind(), subscribers), func(b *testing.B) {
				benchStep(b, f, 0, subscribers)
			})
		}
		for qos := byte(1); qos <= 2; qos++ {
			b.Run(fmt.Sprintf("%s/qos=%d/subscribers=1", f.Kind(), qos), func(b *testing.B) {
				benchStep(b, f, qos, 1)
			})
		}
	}
}

const (
	benchPackets = 100
	benchTopic   = "bench/topic/1"
)

// stepper runs batches on a core.
type stepper struct {
	b     testing.TB
	core  Core
	batch []byte
}

func benchStep(b *testing.B, f Factory, qos byte, subscribers int) {
	core, err := f.NewCore()
	if err != nil {
		b.Fatal(err)
	}
	defer core.Close()
	s := &stepper{b: b, core: core}
	s.setUp(qos, subscribers)
	packets := benchPublishes(qos)
	var releases []byte
	for i := range benchPackets {
		releases = mqtt.AppendAck(releases, mqtt.V311, mqtt.PUBREL, uint16(i+1), mqtt.Success, nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.begin()
		s.packets(1, packets)
		effects := s.run()
		if qos > 0 {
			s.acknowledge(effects, qos, releases)
		}
	}
	perDelivery := float64(b.N) * benchPackets * float64(subscribers)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/perDelivery, "ns/delivery")
}

// benchPublishes are benchPackets messages.
func benchPublishes(qos byte) (packets []byte) {
	for i := range benchPackets {
		packets = mqtt.AppendPublish(packets, mqtt.V311, &mqtt.Publish{
			Topic: []byte(benchTopic), Payload: make([]byte, 64), QoS: qos, PacketID: uint16(i + 1),
		})
	}
	return packets
}

// stepLimits bound the cores that take steps.
var stepLimits = abi.Limits{
	MaxPacketSize: 1 << 20, MaxInflight: 1024, ReceiveMaximum: 1024, MaxQueued: 1 << 16, MaxQueuedBytes: 64 << 20,
	MaxSessions: 1 << 17, MaxSubscriptions: 1 << 16, MaxTopicLevels: 8, MaxMemory: 512 << 20, ConnectTimeout: 10_000, StallTimeout: 1000, StepWork: 8192, MaxSessionExpiry: 1 << 20,
}

// setUp connects client 1, which publishes, and the subscribers from 2 on.
func (s *stepper) setUp(qos byte, subscribers int) {
	s.begin()
	s.event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, &abi.Config{Limits: stepLimits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
	}}}))
	for i := 1; i <= subscribers+1; i++ {
		s.connect(i)
		if i > 1 {
			s.event(abi.EventPackets, abi.Conn(i), 1,
				mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte(benchTopic), QoS: qos}}))
		}
	}
	s.run()
}

// connect lets client i come.
func (s *stepper) connect(i int) {
	s.event(abi.EventOpen, abi.Conn(i), 0, abi.AppendPeer(nil, &abi.Peer{Listener: "bench"}))
	s.event(abi.EventPackets, abi.Conn(i), 1, mqtt.AppendConnect(nil, &mqtt.Connect{
		Version: mqtt.V311, CleanStart: true, ClientID: fmt.Appendf(nil, "client %d", i),
	}))
}

func (s *stepper) begin() {
	s.batch = append(s.batch[:0], make([]byte, abi.BatchHeaderSize)...)
	abi.PutBatchHeader(s.batch, &abi.BatchHeader{Now: 1_000_000, Entropy: [abi.EntropySize]byte{1}})
}

func (s *stepper) event(kind abi.EventKind, conn abi.Conn, arg uint32, data []byte) {
	s.batch = abi.AppendEvent(s.batch, kind, conn, arg, data)
}

// packets hands over benchPackets packets as the transport does.
func (s *stepper) packets(conn abi.Conn, packets []byte) {
	var p abi.Portion
	for left := benchPackets; left > 0; {
		packets, left = abi.NextPortion(packets, left, abi.ShortestRun, &p)
		s.event(p.Kind, conn, p.Arg, p.Data)
	}
}

func (s *stepper) run() []byte {
	room, err := s.core.Batch(uint32(len(s.batch)))
	if err != nil {
		s.b.Fatal(err)
	}
	copy(room, s.batch)
	effects, err := s.core.Step(abi.BatchHeaderSize, uint32(len(s.batch)))
	if err != nil {
		s.b.Fatal(err)
	}
	return effects
}

// acknowledge answers, for the subscriber, each delivery in effects, and goes on to the end of the handshakes.
func (s *stepper) acknowledge(effects []byte, qos byte, releases []byte) {
	first, last := mqtt.PUBACK, []byte(nil)
	if qos == 2 {
		first = mqtt.PUBREC
	}
	var acks []byte
	var e abi.Effect
	var d abi.Deliver
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &e)
		if err != nil {
			s.b.Fatal(err)
		}
		at = next
		if e.Kind == abi.EffectDeliver && abi.ReadDeliver(&e, &d) == nil {
			for id := d.Target(0).PacketID; id < d.Target(0).PacketID+uint16(d.Count); id++ {
				acks = mqtt.AppendAck(acks, mqtt.V311, first, id, mqtt.Success, nil)
				last = mqtt.AppendAck(last, mqtt.V311, mqtt.PUBCOMP, id, mqtt.Success, nil)
			}
		}
	}
	s.begin()
	s.packets(2, acks)
	if qos == 2 {
		s.packets(1, releases)
		s.packets(2, last)
	}
	s.run()
}
