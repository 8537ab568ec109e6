package broker

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestAliasForgetsItsTopic sets an alias anew again and again: only the last topic is kept.
func TestAliasForgetsItsTopic(t *testing.T) {
	b := newBencher()
	b.core.config.Limits.TopicAliasMaximum = 1
	b.connect(1, mqtt.V5)
	set := func(n int) uint64 {
		b.begin()
		b.event(abi.EventPackets, 1, 1, mqtt.AppendPublish(nil, mqtt.V5, &mqtt.Publish{
			Topic: fmt.Appendf(nil, "some/topic/%d", n),
			Props: mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropTopicAlias), TopicAlias: 1},
		}))
		b.run()
		return b.core.store.live
	}
	first := set(0)
	for n := range 10 {
		if live := set(n + 1); live != first {
			t.Fatalf("%d bytes are kept after the alias was set %d times, %d after the first", live, n+2, first)
		}
	}
}
