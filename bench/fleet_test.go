package bench

import (
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestEachTopicOfTheFleetHasOneFilter: what a delivery costs can only be compared if there is one for each message.
func TestEachTopicOfTheFleetHasOneFilter(t *testing.T) {
	const devices = 3 * fleetMeasured
	filters := fleetFilters(0, devices)
	matches := func(topic string) (n int) {
		for _, f := range filters {
			if mqtt.Match([]byte(f), []byte(topic)) {
				n++
			}
		}
		return n
	}
	kinds := map[bool]int{}
	for d := device(0); d < devices; d += 7 {
		if n := matches(d.topic()); n != 1 {
			t.Errorf("%d filters match %s", n, d.topic())
		}
		kinds[d.watched()]++
		if n := matches(d.event(5)); d.watched() && n != 1 {
			t.Errorf("%d filters match %s", n, d.event(5))
		}
	}
	if kinds[true]*15 < kinds[false] || kinds[true]*6 > kinds[false] {
		t.Errorf("%d of the filters end with #, %d do not", kinds[true], kinds[false])
	}
}

// TestFleetShapesShareTopics: no topic is published by two clients, and together they publish all.
func TestFleetShapesShareTopics(t *testing.T) {
	for _, c := range []struct {
		shape Shape
		want  int
	}{{knownShape(), fleetMeasured}, {freshShape(), fleetMeasured / 10 * fleetEvents}} {
		seen := map[string]bool{}
		for p := range c.shape.Publishers {
			for _, topic := range c.shape.topicsOf(p) {
				if seen[topic] {
					t.Fatalf("%s: %s twice", c.shape.Name, topic)
				}
				seen[topic] = true
			}
		}
		if len(seen) != c.want {
			t.Errorf("%s: %d topics, not %d", c.shape.Name, len(seen), c.want)
		}
	}
}

func TestWindowIsBoundedByBytes(t *testing.T) {
	for payload, want := range map[int]int{64: Window, 1024: Window, 16 << 10: 64, 1 << 20: 2} {
		if got := windowOf(payload); got != want {
			t.Errorf("%d bytes: %d messages, not %d", payload, got, want)
		}
	}
}
