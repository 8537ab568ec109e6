package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// crew are the clients of one measurement, with their goroutines.
type crew struct {
	fail        context.CancelCauseFunc
	subscribers []session
	publishers  []session
	closing     atomic.Bool // ends of connections are no failures any more
	closed      chan struct{}
	writing     sync.WaitGroup // what publishers write
	all         sync.WaitGroup
}

// newCrew returns a crew without clients, and a context that ends with the first failure of one of them.
func newCrew(ctx context.Context) (*crew, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &crew{fail: cancel, closed: make(chan struct{})}, ctx
}

// connect connects subscribers first, so that no message is sent before all of them can get it.
func (c *crew) connect(ctx context.Context, dial Dialer, shape Shape, qos byte) error {
	for i := range shape.Subscribers {
		s, err := openSession(ctx, dial, fmt.Sprint("bench-sub-", i), 0)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		c.subscribers = append(c.subscribers, s)
		if err := subscribeAll(s.conn, s.buf, shape.filtersOf(i), qos); err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
	}
	for i := range shape.Publishers {
		s, err := openSession(ctx, dial, fmt.Sprint("bench-pub-", i), 0)
		if err != nil {
			return fmt.Errorf("publisher %d: %w", i, err)
		}
		c.publishers = append(c.publishers, s)
	}
	return nil
}

// run runs f in a goroutine that also takes an end of the measurement for what it is.
func (c *crew) run(also *sync.WaitGroup, f func() error) {
	if also != nil {
		also.Add(1)
	}
	c.all.Go(func() {
		if also != nil {
			defer also.Done()
		}
		if err := f(); err != nil && !c.closing.Load() {
			c.fail(err)
		}
	})
}

// awaitWritten returns when all publishers have written what they wanted to.
func (c *crew) awaitWritten(ctx context.Context, most time.Duration) error {
	wrote := make(chan struct{})
	go func() {
		c.writing.Wait()
		close(wrote)
	}()
	limit := time.NewTimer(most)
	defer limit.Stop()
	select {
	case <-wrote:
		return nil
	case <-limit.C:
		return errors.New("the broker has stopped reading a publisher")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close ends all connections and waits for the goroutines. It may be called twice.
func (c *crew) close() {
	if c.closing.Swap(true) {
		return
	}
	close(c.closed)
	for _, s := range c.subscribers {
		s.conn.Close()
	}
	for _, p := range c.publishers {
		p.conn.Close()
	}
	c.all.Wait()
	c.fail(nil)
}
