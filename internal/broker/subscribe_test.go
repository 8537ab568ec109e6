package broker

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestListOfClientThatIsGone ends a connection while its SUBSCRIBE is being handled: that of the next one is not taken for the rest of it.
func TestListOfClientThatIsGone(t *testing.T) {
	b := newBencher()
	c := b.core
	b.connect(1, mqtt.V311)
	b.connect(2, mqtt.V311)
	var many []mqtt.Filter
	for i := range 10 {
		many = append(many, mqtt.Filter{Topic: fmt.Appendf(nil, "one/%d", i)})
	}
	b.begin()
	b.event(abi.EventPackets, 1, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, many))
	b.event(abi.EventPackets, 2, 1, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("two")}}))
	c.config.Limits.StepWork = 2 * filterWork
	var h abi.EffectsHeader
	if err := abi.ReadEffectsHeader(b.run(), &h); err != nil {
		t.Fatal(err)
	}
	if c.resume == 0 || !c.filters.open {
		t.Fatal("the first SUBSCRIBE took one step: the test does not test")
	}
	c.overflowed = append(c.overflowed, 1)
	c.endOverflowed()
	c.config.Limits.StepWork = 1000
	c.Step(h.Consumed, uint32(len(b.batch)))
	if id, _ := c.findSubscription(c.connectionOf(2).session, c.tree.find([]byte("two")), 0); id == 0 || c.subscriptions.live != 1 {
		t.Errorf("%d subscriptions, that of the second client is number %d", c.subscriptions.live, id)
	}
}
