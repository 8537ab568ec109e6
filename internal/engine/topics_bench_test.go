package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// BenchmarkTopics measures what the core does with a PUBLISH at QoS 0 to another topic than the one before, in turn, with
// few and with many topics: ten connections publish, ten are subscribed to a tenth of the topics each. Publishers send to all
// topics in the same order again and again, or in an order of chance. However few topics there are, as many bytes are copied
// into the core from as much memory. It tells processor time, too, which others on the machine change less.
func BenchmarkTopics(b *testing.B) {
	module, err := Compile(b.Context(), moduletest.Broker(b), ModuleConfig{})
	if err != nil {
		b.Fatal(err)
	}
	defer module.Close()
	for _, f := range []Factory{NativeFactory(func() GoCore { return broker.New() }), module} {
		for _, topics := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/topics=%d", f.Kind(), topics), func(b *testing.B) { benchTopics(b, f, topics, false) })
			b.Run(fmt.Sprintf("%s/topics=%d/shuffled", f.Kind(), topics), func(b *testing.B) { benchTopics(b, f, topics, true) })
		}
	}
}

func benchTopics(b *testing.B, f Factory, topics int, shuffled bool) {
	const clients = 10
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	core, err := f.NewCore()
	if err != nil {
		b.Fatal(err)
	}
	defer core.Close()
	s := &stepper{b: b, core: core}
	s.setUpMany(clients, topics)
	batches := s.publishToAll(clients, topics, shuffled)
	for range 3 { // the second time a topic is remembered
		for _, batch := range batches {
			s.batch = batch
			s.run()
		}
	}
	b.ReportAllocs()
	i, used := 0, processorTime()
	for b.Loop() {
		s.batch = batches[i%len(batches)]
		s.run()
		i++
	}
	b.ReportMetric(float64((processorTime()-used).Nanoseconds())/float64(b.N*benchPackets), "cpu-ns/delivery")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchPackets), "ns/delivery")
}

// manyTopic is the name of a topic.
func manyTopic(i int) []byte { return fmt.Appendf(nil, "bench/topics/%04d", i) }

// setUpMany connects the publishers, and as many subscribers, each of which has its part of the topics.
func (s *stepper) setUpMany(clients, topics int) {
	s.setUp(0, 0)
	for i := 2; i <= 2*clients; i++ {
		s.begin()
		s.connect(i)
		for t := i - clients - 1; i > clients && t < topics; t += clients {
			s.event(abi.EventPackets, abi.Conn(i), 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: manyTopic(t)}}))
		}
		s.run()
	}
}

// publishToAll returns benchBatches batches of benchPackets packets for each publisher, in which it sends to all topics in turn.
func (s *stepper) publishToAll(clients, topics int, shuffled bool) (batches [][]byte) {
	orders := make([][]int, clients)
	for i := range orders {
		orders[i] = orderOf(topics, shuffled, uint64(i))
	}
	for k := range clients * benchBatches {
		var packets []byte
		for i := range benchPackets {
			packets = mqtt.AppendPublish(packets, mqtt.V311, &mqtt.Publish{
				Topic: manyTopic(orders[k%clients][k/clients*benchPackets+i]), Payload: make([]byte, 64),
			})
		}
		s.batch = nil
		s.begin()
		s.event(abi.EventPackets, abi.Conn(1+k%clients), benchPackets, packets)
		batches = append(batches, s.batch)
	}
	return batches
}

const benchBatches = 100

// orderOf returns the topics that a publisher sends to.
func orderOf(topics int, shuffled bool, seed uint64) []int {
	order := make([]int, benchBatches*benchPackets)
	for i := range order {
		order[i] = i % topics
	}
	if shuffled {
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	return order
}
