package pubsub

import "context"

// ending is why a connection ended: the first reason that becomes known.
type ending struct {
	ctx   context.Context // ends with the connection
	set   context.CancelCauseFunc
	known <-chan struct{} // closed once there is a reason
}

func newEnding() *ending {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &ending{ctx: ctx, set: cancel, known: ctx.Done()}
}

// get returns the reason, nil if there is none yet.
func (e *ending) get() error { return context.Cause(e.ctx) }

// within returns a context that ends with ctx or with the connection, over which no answer comes any more, and what releases it.
func (e *ending) within(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(e.get()) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
