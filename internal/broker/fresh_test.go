package broker

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestStepOfFreshTopicsIsShort publishes a batch full of topics that nobody has published to before, and expects that the step
// ends early: such a message takes many times as long as others do.
func TestStepOfFreshTopicsIsShort(t *testing.T) {
	for name, c := range map[string]struct {
		topic       func(i int) string
		least, most int // steps
	}{
		"fresh": {func(i int) string { return fmt.Sprintf("plant/1/line/2/sensor/3/event/%d", i) }, 8, 30},
		"known": {func(int) string { return "plant/1/line/2/sensor/3/event/1" }, 1, 2},
	} {
		b := newBencher()
		b.core.config.Limits.StepWork = 8192
		b.connect(2, mqtt.V5, mqtt.Filter{Topic: []byte("plant/+/line/2/sensor/#")})
		b.connect(1, mqtt.V5)
		b.begin()
		const packets = 2000
		var run []byte
		for i := range packets {
			run = mqtt.AppendPublish(run, mqtt.V5, &mqtt.Publish{Topic: []byte(c.topic(i)), Payload: make([]byte, 64)})
		}
		b.event(abi.EventPackets, 1, packets, run)
		steps := 0
		for at, end := uint32(abi.BatchHeaderSize), uint32(len(b.batch)); at < end; steps++ {
			copy(b.core.Batch(end), b.batch)
			var h abi.EffectsHeader
			if err := abi.ReadEffectsHeader(b.core.Step(at, end), &h); err != nil {
				t.Fatal(err)
			}
			at = h.Consumed
		}
		if steps < c.least || steps > c.most {
			t.Errorf("%s: %d steps, not from %d to %d", name, steps, c.least, c.most)
		}
		if n := b.core.stats.Sent; n != packets {
			t.Errorf("%s: %d of %d delivered", name, n, packets)
		}
	}
}
