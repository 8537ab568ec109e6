package engine

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestLongestStep lets sessions come and subscribe, and then publishes to topics that must be matched with all filters. The same
// batches are played several times to fresh instances, which then do the same in the same steps: the least time that a step took is what
// it takes, and the rest is what else the machine did.
func TestLongestStep(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const (
		plays    = 3
		sessions = 2000
		most     = 5 * time.Millisecond
	)
	module := compiledBroker(t)
	least := leastOf(t, plays, func(int) []time.Duration { return timeSteps(t, module, sessions) })
	longest := slices.Max(least)
	t.Logf("%d steps, the longest, %d, takes %v of processor time", len(least), slices.Index(least, longest), longest)
	if longest > most {
		t.Errorf("step %d takes %v, more than %v", slices.Index(least, longest), longest, most)
	}
}

// leastOf plays what takes the same steps each time and returns the least that each of them took.
func leastOf(t *testing.T, plays int, play func(i int) []time.Duration) (least []time.Duration) {
	for i := range plays {
		took := play(i)
		if least == nil {
			least = took
		}
		if len(took) != len(least) {
			t.Fatalf("%d steps, and then %d for the same batches", len(least), len(took))
		}
		for i := range took {
			least[i] = min(least[i], took[i])
		}
	}
	return least
}

// startTimed starts a fresh core with subscribers or none, on a thread of its own, whose processor time is then that of the steps, until end is called.
func startTimed(t *testing.T, f Factory, subscribers int) (s *stepper, end func()) {
	t.Helper()
	core, err := f.NewCore()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	s = &stepper{b: t, core: core}
	s.setUp(0, subscribers)
	return s, func() {
		core.Close()
		runtime.UnlockOSThread()
	}
}

// timeSteps plays the batches to a fresh core and returns how much processor time each step took.
func timeSteps(t *testing.T, f Factory, sessions int) (took []time.Duration) {
	s, end := startTimed(t, f, 1)
	defer end()
	for i := range sessions {
		s.begin()
		s.comeAndGo(i)
		took = s.timed(took)
	}
	for i := range 5 {
		s.begin()
		for k := range 20 {
			s.packets(1, freshPublishes(20*i+k))
		}
		took = s.timed(took)
	}
	return took
}

// timed runs the batch to its end and appends what each of its steps took.
func (s *stepper) timed(took []time.Duration) []time.Duration { return s.timedUntil(took, false) }

// timedUntil is timed, which goes on, if rest is set, until the core has nothing more to do.
func (s *stepper) timedUntil(took []time.Duration, rest bool) []time.Duration {
	room, err := s.core.Batch(uint32(len(s.batch)))
	if err != nil {
		s.b.Fatal(err)
	}
	copy(room, s.batch)
	var h abi.EffectsHeader
	for at, end := uint32(abi.BatchHeaderSize), uint32(len(s.batch)); at < end || rest && h.More; at = h.Consumed {
		began := processorTime()
		effects, err := s.core.Step(at, end)
		took = append(took, processorTime()-began)
		if err == nil {
			err = abi.ReadEffectsHeader(effects, &h)
		}
		if err != nil {
			s.b.Fatal(err)
		}
	}
	return took
}

// comeAndGo is a client that subscribes and leaves its session behind.
func (s *stepper) comeAndGo(number int) {
	const filters = 10
	conn := abi.Conn(100 + number%100)
	hello := mqtt.Connect{Version: mqtt.V311, ClientID: fmt.Appendf(nil, "sleeper-%d", number)}
	var list []mqtt.Filter
	for n := number * filters; n < (number+1)*filters; n++ {
		list = append(list, mqtt.Filter{Topic: fmt.Appendf(nil, "plant/%d/line/%d/sensor/%d/#", n%100, n/100%10, n/100)})
	}
	s.event(abi.EventOpen, conn, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "bench"}))
	s.event(abi.EventPackets, conn, 1, mqtt.AppendConnect(nil, &hello))
	s.event(abi.EventPackets, conn, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
	s.event(abi.EventPackets, conn, 1, mqtt.AppendDisconnect(nil, mqtt.V311, 0, nil))
	s.event(abi.EventClosed, conn, 0, nil)
}

// freshPublishes are benchPackets messages to topics that nobody has published to before.
func freshPublishes(from int) (packets []byte) {
	for i := range benchPackets {
		n := from*benchPackets + i
		packets = mqtt.AppendPublish(packets, mqtt.V311, &mqtt.Publish{
			Topic: fmt.Appendf(nil, "plant/%d/line/%d/sensor/%d/event/%d", n%100, n/100%10, n/100, n), Payload: make([]byte, 64),
		})
	}
	return packets
}
