package pubsub

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/attest/policy"
)

// renewed is a client of MQTT 3.1 or 3.1.1 that connects anew before its broker ends the connection for its evidence being too
// old: these versions have no AUTH. The new connection stands, and both ends have attested on it, before the
// old one goes (make before break).
//
// The session moves from one to the other by its client id. One that is clean begins anew: it is subscribed again, retained messages come
// again, and a message that is sent in between may be missed. One that is kept (-c) misses nothing.
type renewed struct {
	options Options
	dial    func(context.Context) (net.Conn, error)
	every   time.Duration
	end     *ending

	mu            sync.RWMutex // held for writing while one connection takes the place of another
	now           Client
	subscriptions []Subscription
}

// retryRenewal is the time until the next attempt after one that failed for want of a connection.
const retryRenewal = 5 * time.Second

// Renew is Connect for versions before 5, over a connection that is replaced every so often by another that dial opens.
func Renew(ctx context.Context, every time.Duration, dial func(context.Context) (net.Conn, error), o Options) (Client, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	r := &renewed{options: o, dial: dial, every: every, end: newEnding()}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if r.now, err = Connect(ctx, conn, o); err != nil {
		return nil, err
	}
	go r.mind(r.now)
	go r.run()
	return r, nil
}

// mind tells that the connection has ended, unless another has taken its place.
func (r *renewed) mind(c Client) {
	<-c.Done()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.now == c {
		r.end.set(c.Err())
	}
}

// run renews the connection until it has ended.
func (r *renewed) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.end.known:
			cancel()
		case <-ctx.Done():
		}
	}()
	for wait := r.every; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		conn, err := r.dial(ctx)
		switch {
		case err == nil:
			err, wait = r.replace(ctx, conn), r.every
		case policy.KindOf(err) == 0: // nobody is there: the old connection goes on
			wait, err = min(retryRenewal, r.every), nil
		}
		if err != nil {
			r.fail(err)
			return
		}
	}
}

// replace has the session go on over another connection.
func (r *renewed) replace(ctx context.Context, conn net.Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.now
	next, err := Connect(ctx, conn, r.options) // takes over the session, which ends the old connection
	if err != nil {
		return err
	}
	r.now = next
	go r.mind(next)
	_ = old.Disconnect(nil) // the broker has ended it
	if len(r.subscriptions) > 0 && r.options.CleanStart {
		if _, err := next.Subscribe(ctx, r.subscriptions, nil); err != nil {
			return err
		}
	}
	r.options.Log("connected anew: the broker has been verified again")
	return nil
}

// fail ends the client: the broker is not what it was, or does not want it any more.
func (r *renewed) fail(err error) {
	r.end.set(err)
	r.mu.RLock()
	defer r.mu.RUnlock()
	_ = r.now.Disconnect(nil)
}

func (r *renewed) Publish(ctx context.Context, m *Message) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.now.Publish(ctx, m)
}

func (r *renewed) Subscribe(ctx context.Context, s []Subscription, p Properties) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscriptions = append(r.subscriptions, s...)
	return r.now.Subscribe(ctx, s, p)
}

func (r *renewed) Unsubscribe(ctx context.Context, filters []string, p Properties) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscriptions = slices.DeleteFunc(r.subscriptions, func(s Subscription) bool { return slices.Contains(filters, s.Filter) })
	return r.now.Unsubscribe(ctx, filters, p)
}

func (r *renewed) Disconnect(p Properties) error {
	r.end.set(ErrLost)
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.now.Disconnect(p)
}

func (r *renewed) Done() <-chan struct{} { return r.end.known }

func (r *renewed) Err() error { return r.end.get() }
