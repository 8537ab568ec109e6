package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// hostileLimits are much like the defaults of a broker.
var hostileLimits = abi.Limits{
	MaxPacketSize: 1 << 20, MaxInflight: 1024, ReceiveMaximum: 1024, TopicAliasMaximum: 64, MaxQueued: 32_768, MaxQueuedBytes: 16 << 20,
	MaxRetained: 200_000, MaxRetainedBytes: 128 << 20, MaxSessions: 1 << 17, MaxSubscriptions: 1 << 15, MaxTopicLevels: 64,
	MaxSessionExpiry: 1 << 20, MaxMemory: 256 << 20, MaxModuleMemory: 352 << 20, ConnectTimeout: 10_000, StallTimeout: 1000, StepWork: 8192,
}

// TestHostileSteps lets clients do what is dear, and looks that no step becomes long by it: the least that each took in several plays counts.
func TestHostileSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const (
		plays = 2
		most  = 10 * time.Millisecond
	)
	module := compiledBroker(t)
	for _, attack := range []struct {
		name string
		play func(s *stepper) []time.Duration
	}{
		{"a SUBSCRIBE full of filters", manyFilters},
		{"an UNSUBSCRIBE full of filters", manyUnsubscribes},
		{"clients that do not take what is retained", waitingScans},
		{"one client that does not take what is retained", ownScans},
		{"one client with many subscriptions loses them all", reviewOfOne},
		{"many that come at once", massCome},
		{"many that leave at once", massLeave},
		{"many that are paused leave at once", massPaused},
	} {
		t.Run(attack.name, func(t *testing.T) {
			least := leastOf(t, plays, func(int) []time.Duration {
				s, end := startTimed(t, module, 0)
				defer end()
				s.begin()
				s.event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, &abi.Config{Limits: hostileLimits, Rules: []abi.Rule{{
					Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
				}}}))
				s.runAll()
				return attack.play(s)
			})
			longest := slices.Max(least)
			t.Logf("%d steps, %v, the longest, %d, takes %v", len(least), sum(least), slices.Index(least, longest), longest)
			if longest > most {
				t.Errorf("step %d takes %v, more than %v", slices.Index(least, longest), longest, most)
			}
		})
	}
}

// runAll runs the batch to its end.
func (s *stepper) runAll() { s.timedUntil(nil, true) }

// manyFilters is a SUBSCRIBE with as many filters as fit 256 KiB.
func manyFilters(s *stepper) []time.Duration {
	list := slices.Repeat([]mqtt.Filter{{Topic: []byte("a")}}, 65_000)
	for i := range list {
		list[i].Topic = []byte{byte('a' + i%26)}
	}
	s.begin()
	s.connect(2)
	s.event(abi.EventPackets, 2, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
	return s.timedUntil(nil, true)
}

// manyUnsubscribes is the same for UNSUBSCRIBE.
func manyUnsubscribes(s *stepper) []time.Duration {
	filters := make([][]byte, 85_000)
	for i := range filters {
		filters[i] = []byte{byte('a' + i%26)}
	}
	s.begin()
	s.connect(2)
	s.event(abi.EventPackets, 2, 1, mqtt.AppendUnsubscribe(nil, mqtt.V311, 1, nil, filters))
	return s.timedUntil(nil, true)
}

// retain retains n messages below one level.
func (s *stepper) retain(n int) {
	for i := 0; i < n; {
		s.begin()
		for range 1000 {
			s.event(abi.EventPackets, 1, 1, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: fmt.Appendf(nil, "flat/%d", i), Payload: []byte("x"), Retain: true}))
			i++
		}
		s.runAll()
	}
}

// subscribeToRetained is a client with a thousand subscriptions that stops reading at once.
func (s *stepper) subscribeToRetained(conn int) {
	var list []mqtt.Filter
	for i := range 1000 {
		f := fmt.Sprintf("flat/%d", i)
		if i == 0 {
			f = "flat/#"
		}
		list = append(list, mqtt.Filter{Topic: []byte(f)})
	}
	s.begin()
	s.connect(conn)
	s.event(abi.EventPackets, abi.Conn(conn), 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
	s.event(abi.EventBlocked, abi.Conn(conn), 0, nil)
}

// waitingScans are many such clients, and others that come then.
func waitingScans(s *stepper) (took []time.Duration) {
	s.retain(1000)
	for i := range 30 {
		s.subscribeToRetained(10 + i)
		took = s.timedUntil(took, true)
	}
	for i := range 5 {
		s.begin()
		for k := range 1000 {
			s.event(abi.EventPackets, 1, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: fmt.Appendf(nil, "flat/%d", i*1000+k)}}))
		}
		took = s.timedUntil(took, true)
	}
	return took
}

// ownScans is such a client, which reads on.
func ownScans(s *stepper) (took []time.Duration) {
	s.retain(1000)
	s.subscribeToRetained(10)
	took = s.timedUntil(took, true)
	s.begin()
	s.event(abi.EventUnblocked, 10, 0, nil)
	return s.timedUntil(took, true)
}

// reviewOfOne is a client that may not have any of its subscriptions any more.
func reviewOfOne(s *stepper) []time.Duration {
	for i := range 20 {
		s.begin()
		if i == 0 {
			s.connect(2)
		}
		var list []mqtt.Filter
		for k := range 1000 {
			list = append(list, mqtt.Filter{Topic: fmt.Appendf(nil, "one/%d/%d", i, k)})
		}
		s.event(abi.EventPackets, 2, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
		s.runAll()
	}
	return s.review("#", []string{"other/#"})
}

// massCome are clients that come at once.
func massCome(s *stepper) []time.Duration {
	s.begin()
	for i := range 3000 {
		s.connect(10 + i)
	}
	return s.timedUntil(nil, true)
}

// massLeave are clients that leave at once with all their subscriptions.
func massLeave(s *stepper) (took []time.Duration) {
	const clients = 300
	for i := range clients {
		var list []mqtt.Filter
		for k := range 100 {
			list = append(list, mqtt.Filter{Topic: fmt.Appendf(nil, "home/%d/%d", i, k)})
		}
		s.begin()
		s.connect(10 + i)
		s.event(abi.EventPackets, abi.Conn(10+i), 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
		s.runAll()
	}
	s.begin()
	for i := range clients {
		s.event(abi.EventClosed, abi.Conn(10+i), 0, nil)
	}
	return s.timedUntil(took, true)
}

// massPaused are clients that leave at once after they have been paused for the sake of one receiver.
func massPaused(s *stepper) (took []time.Duration) {
	const clients = 3000
	s.begin()
	s.connect(2)
	s.event(abi.EventPackets, 2, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("t"), QoS: 1}}))
	s.runAll()
	for i := range clients {
		s.begin()
		s.connect(10 + i)
		s.event(abi.EventPackets, abi.Conn(10+i), 1, mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 1, Payload: []byte("x")}))
		s.runAll()
	}
	s.begin()
	for i := range clients {
		s.event(abi.EventClosed, abi.Conn(10+i), 0, nil)
	}
	return s.timedUntil(took, true)
}
