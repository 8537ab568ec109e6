package pubsub

import (
	"context"
	"slices"
	"sync"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// wanted is what a client is subscribed to.
type wanted struct {
	mu     sync.Mutex
	groups []group
	config bool // to be told of another configuration of the broker, too
}

// group is what was subscribed to in one packet.
type group struct {
	subscriptions []Subscription
	properties    Properties
}

func (w *wanted) add(s []Subscription, p Properties, config bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups = append(w.groups, group{slices.Clone(s), p})
	w.config = config
}

func (w *wanted) remove(filters []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.groups {
		g := &w.groups[i]
		g.subscriptions = slices.DeleteFunc(g.subscriptions, func(s Subscription) bool { return slices.Contains(filters, s.Filter) })
	}
	w.groups = slices.DeleteFunc(w.groups, func(g group) bool { return len(g.subscriptions) == 0 })
}

func (w *wanted) covers(topic string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.groups, func(g group) bool {
		return slices.ContainsFunc(g.subscriptions, func(s Subscription) bool { return mqtt.Match([]byte(s.Filter), []byte(topic)) })
	})
}

// restore subscribes again.
func (w *wanted) restore(ctx context.Context, c *line) error {
	w.mu.Lock()
	groups := slices.Clone(w.groups)
	w.mu.Unlock()
	for _, g := range groups {
		if _, err := c.Subscribe(ctx, g.subscriptions, g.properties); err != nil {
			return err
		}
	}
	w.listen(ctx, c)
	return nil
}

// listen has the broker say when it attests another configuration. Where its rules do not allow that, it ends the connection instead,
// and the next one is by what it attests then. It is at QoS 0: what is said while the client is away does not concern it.
func (w *wanted) listen(ctx context.Context, c *line) {
	w.mu.Lock()
	config := w.config
	w.mu.Unlock()
	if config && c.attested != nil && !w.covers(client.ConfigTopic) {
		_, _ = c.Subscribe(ctx, []Subscription{{Filter: client.ConfigTopic}}, nil)
	}
}
