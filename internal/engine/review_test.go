package engine

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// reviewFilters is how many subscriptions each session has.
const reviewFilters = 10

// TestReviewIsShort reloads the rules while clients are connected, natively and as WebAssembly: with rules that are the same for all of them, and with
// such that are not. No event is handled until all have been looked at, so that this must be short, and so must be each
// of its steps: the least that each takes in three reviews counts. VOUCHMQ_REVIEW_SESSIONS is how many clients there are, with ten subscriptions each.
func TestReviewIsShort(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	sessions := 2000
	if text := os.Getenv("VOUCHMQ_REVIEW_SESSIONS"); text != "" {
		var err error
		if sessions, err = strconv.Atoi(text); err != nil {
			t.Fatalf("VOUCHMQ_REVIEW_SESSIONS is no number: %v", err)
		}
	}
	module := compiledBroker(t)
	for _, f := range []Factory{NativeFactory(func() GoCore { return broker.New() }), module} {
		t.Run(f.Kind(), func(t *testing.T) { timeReviews(t, f, sessions) })
	}
}

func timeReviews(t *testing.T, f Factory, sessions int) {
	const (
		reviews         = 3
		most            = 5 * time.Millisecond // of a step, in WebAssembly
		perSubscription = 10 * time.Microsecond
	)
	s, end := startTimed(t, f, 0)
	defer end()
	for i := range sessions {
		s.subscriber(i)
	}
	same, few, many := []string{"plant/#"}, []string{"plant/+/line/#"}, []string{"plant/%c/line/0", "plant/+/line/1/#"}
	for n := 2; n < reviewFilters; n++ {
		many = append(many, fmt.Sprintf("plant/%%c/line/%d/+", n))
	}
	s.review("#", same)
	var steps []int
	for _, reload := range []struct {
		name      string
		publish   [reviews + 1]string
		subscribe []string
	}{
		{"no client may do anything else", [reviews + 1]string{"#", "#", "#", "#"}, same},
		{"each may, by one filter", [reviews + 1]string{"a", "b", "c", "d"}, few},
		{"each may, by ten filters", [reviews + 1]string{"e", "f", "g", "h"}, many},
	} {
		s.review(reload.publish[reviews], reload.subscribe) // may end subscriptions, which the others then do not find
		least := leastOf(t, reviews, func(i int) []time.Duration { return s.review(reload.publish[i], reload.subscribe) })
		steps = append(steps, len(least))
		t.Logf("%d sessions, %s: %d steps, %v of processor time, the longest step %v",
			sessions, reload.name, len(least), sum(least).Round(time.Millisecond), slices.Max(least))
		if each := sum(least) / time.Duration(sessions*reviewFilters); each > perSubscription {
			t.Errorf("a subscription takes %v, more than %v", each, perSubscription)
		}
		if longest := slices.Max(least); longest > most && os.Getenv("VOUCHMQ_REVIEW_SESSIONS") == "" {
			t.Errorf("a step takes %v, more than %v", longest, most)
		}
	}
	if 4*steps[0] > steps[1] {
		t.Errorf("%d steps although no client may do anything else, and %d if each may: clients are reviewed for nothing", steps[0], steps[1])
	}
}

// subscriber is a client that comes and subscribes.
func (s *stepper) subscriber(number int) {
	conn := abi.Conn(100 + number)
	hello := mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: fmt.Appendf(nil, "subscriber-%d", number)}
	var list []mqtt.Filter
	for n := range reviewFilters {
		list = append(list, mqtt.Filter{Topic: fmt.Appendf(nil, "plant/subscriber-%d/line/%d/sensor", number, n)})
	}
	s.begin()
	s.event(abi.EventOpen, conn, 0, abi.AppendPeer(nil, &abi.Peer{Listener: "bench"}))
	s.event(abi.EventPackets, conn, 1, mqtt.AppendConnect(nil, &hello))
	s.event(abi.EventPackets, conn, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, list))
	s.run()
}

// review reloads the rules and returns how much processor time each step of the review took.
func (s *stepper) review(publish string, subscribe []string) []time.Duration {
	s.begin()
	s.event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, &abi.Config{Limits: stepLimits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{publish}, Subscribe: subscribe,
	}}}))
	return s.timedUntil(nil, true)
}

func sum(all []time.Duration) (total time.Duration) {
	for _, d := range all {
		total += d
	}
	return total
}
