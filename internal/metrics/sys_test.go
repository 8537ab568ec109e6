package metrics

import (
	"context"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

func values(topics []Topic) map[string]string {
	all := map[string]string{}
	for _, t := range topics {
		all[strings.TrimPrefix(t.Name, "$SYS/broker/")] = t.Value
	}
	return all
}

func TestSysTopics(t *testing.T) {
	s := sample()
	h := History{}.Next(&s)
	got := values(Topics(&s, &h))
	for topic, want := range map[string]string{
		"version": "vouchmq version v1", "uptime": "90 seconds",
		"clients/total": "5", "clients/connected": "3", "clients/active": "3", "clients/disconnected": "2", "clients/inactive": "2",
		"clients/maximum": "3", "subscriptions/count": "7", "shared_subscriptions/count": "2",
		"messages/received": "100", "messages/sent": "200", "bytes/received": "300", "bytes/sent": "400",
		"publish/messages/received": "60", "publish/messages/sent": "120", "publish/messages/dropped": "11",
		"retained messages/count": "11",
		"store/messages/count":    "24", "store/messages/bytes": "1000", "messages/stored": "24", "heap/current": "5000", "heap/maximum": "5000",
		// 60 messages in 90 s are 40 a minute, of which 1 - exp(-1.5) is taken over in the first average.
		"load/publish/received/1min": "31.07", "load/publish/received/5min": "10.37", "load/publish/received/15min": "3.81",
		"load/sockets/1min": "4.66",
	} {
		if got[topic] != want {
			t.Errorf("%s is %q, want %q", topic, got[topic], want)
		}
	}
	s.Traffic = nil
	h = History{}.Next(&s)
	got = values(Topics(&s, &h))
	for _, topic := range []string{"bytes/received", "messages/sent", "load/bytes/sent/1min"} {
		if v, ok := got[topic]; ok {
			t.Errorf("%s is %q though nobody counts it", topic, v)
		}
	}
}

func TestSysTopicsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## $SYS")
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}
	s := sample()
	h := History{}.Next(&s)
	exists := values(Topics(&s, &h))
	for name := range exists {
		short := strings.NewReplacer("/15min", "/1min", "/5min", "/1min").Replace(name)
		if !documented[short] {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
	for name := range documented {
		if _, ok := exists[name]; !ok {
			t.Errorf("docs/metrics.md has %s, which does not exist", name)
		}
	}
}

// TestAveragesApproachTheRate lets a broker receive 10 messages a second, whatever the interval, and then none.
func TestAveragesApproachTheRate(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		s := sample()
		s.At, s.Core.Received = started, 0
		h := History{}
		for s.At.Before(started.Add(2 * time.Hour)) {
			s.At = s.At.Add(interval)
			s.Core.Received += uint64(10 * interval / time.Second)
			h = h.Next(&s)
		}
		for p := range periods {
			if got := h.averages[4][p]; math.Abs(got-600) > 1 {
				t.Errorf("every %v, %s: %v a minute", interval, periods[p].name, got)
			}
		}
		s.At = s.At.Add(time.Minute)
		h = h.Next(&s)
		if got := h.averages[4][0]; math.Abs(got-600/math.E) > 1 {
			t.Errorf("every %v: %v a minute after a minute of nothing", interval, got)
		}
	}
}

func TestHistoryTakesStrangeClocksAndCounters(t *testing.T) {
	s := sample()
	h := History{}.Next(&s)
	same := h.Next(&s) // no time has passed
	if same != h {
		t.Error("a snapshot of the same time changes the averages")
	}
	s.At, s.Core.Received, s.Core.Memory = s.At.Add(time.Minute), 60, 100 // a fresh core, which has received as much
	before := h.averages[4][0]
	h.counts[4] = 1000
	h = h.Next(&s)
	if got, want := h.averages[4][0], 60+(before-60)/math.E; math.Abs(got-want) > 1e-6 || h.maxHeap != 5000 {
		t.Errorf("average %v, want %v, largest heap %d", got, want, h.maxHeap)
	}
	s.Core.Sessions, s.Core.Connections = 1, 2 // cannot be, and must not wrap around
	if got := values(Topics(&s, &h))["clients/disconnected"]; got != "0" {
		t.Errorf("disconnected: %s", got)
	}
}

// heard gathers what a publisher publishes.
type heard struct {
	t      *testing.T
	all    []abi.Publication
	closed bool
}

func (h *heard) publish(b []byte) bool {
	var p abi.Publication
	if err := abi.ReadPublication(b, &p); err != nil {
		h.t.Error(err)
	}
	p.Payload = append([]byte(nil), p.Payload...)
	h.all = append(h.all, p)
	return !h.closed
}

func TestOnlyWhatChangedIsPublished(t *testing.T) {
	source := &fakeSource{snapshot: sample()}
	h := &heard{t: t}
	p := NewPublisher(source, h.publish, nil)
	if !p.round(context.Background()) || len(h.all) < 40 {
		t.Fatalf("%d messages at first", len(h.all))
	}
	all := len(h.all)
	for _, m := range h.all {
		if !m.Retain || m.QoS != 0 || !strings.HasPrefix(m.Topic, "$SYS/broker/") {
			t.Errorf("published: %+v", m)
		}
	}
	h.all = nil
	if p.round(context.Background()); len(h.all) != 0 {
		t.Errorf("nothing changed, and this is published: %v", h.all)
	}
	source.snapshot.Core.Retained++
	if p.round(context.Background()); len(h.all) != 3 { // retained, stored by both names
		t.Errorf("one thing changed, and this is published: %v", h.all)
	}
	h.all = nil
	source.snapshot.Engine.Restarts++
	if p.round(context.Background()); len(h.all) != all {
		t.Errorf("a fresh core gets %d of %d messages", len(h.all), all)
	}
}

func TestPublisherEnds(t *testing.T) {
	source := &fakeSource{snapshot: sample()}
	h := &heard{t: t, closed: true}
	NewPublisher(source, h.publish, nil).Run(context.Background(), nil) // ends, for there is no engine
	if len(h.all) != 1 {
		t.Errorf("%d messages to an engine that is closed", len(h.all))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ticks := make(chan time.Time)
	done := make(chan struct{})
	source = &fakeSource{hang: true}
	go func() {
		defer close(done)
		NewPublisher(source, h.publish, nil).Run(ctx, ticks)
	}()
	cancel()
	<-done
}

func TestIntervals(t *testing.T) {
	for interval, want := range map[time.Duration]bool{
		0: true, time.Second: true, DefaultSysInterval: true, -1: false, time.Millisecond: false, 25 * time.Hour: false,
	} {
		if err := (SysConfig{interval}).Check(); (err == nil) != want {
			t.Errorf("%v: %v", interval, err)
		}
	}
}
