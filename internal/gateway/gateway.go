package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/client"
)

// Defaults of Config.
const (
	DefaultMaxConnections = 1000
	DefaultConnectTimeout = 10 * time.Second
	DefaultDialTimeout    = 30 * time.Second
	DefaultGrace          = 5 * time.Second
	DefaultWatch          = 20 * time.Second
)

// Config is what a gateway needs.
type Config struct {
	// Dial connects to the broker and verifies it, as client.Dial does. It returns no connection over which
	// anything may not be sent. The verdict is nil where there was nothing to judge.
	Dial func(ctx context.Context) (net.Conn, *client.Verdict, error)
	// Explain says what a person can do about an error of Dial, "" for nothing. It may be nil.
	Explain func(error) string
	Log     *slog.Logger
	// Renewed says that Dial goes by another bundle: Reappraise then judges the brokers of connections that stand. It may be nil.
	Renewed    <-chan struct{}
	Reappraise func(*atls.Conn) *client.Verdict

	// Watch is about how soon the gateway notices that the broker attests another configuration, so that each connection attests
	// again before the broker ends it; 0: not before a connection attests again anyway.
	Watch          time.Duration
	MaxConnections int           // at once; more are closed as they come
	ConnectTimeout time.Duration // until a client has sent the head of its CONNECT
	DialTimeout    time.Duration // until the broker is reached and verified
	Grace          time.Duration // for the other way once one way of a connection has ended
}

func (c Config) withDefaults() Config {
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	c.ConnectTimeout = orDefault(c.ConnectTimeout, DefaultConnectTimeout)
	c.DialTimeout = orDefault(c.DialTimeout, DefaultDialTimeout)
	c.Grace = orDefault(c.Grace, DefaultGrace)
	return c
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// gateway is a running gateway.
type gateway struct {
	Config
	places chan struct{} // one for each connection there may be
	broker sight
	full   sight
	visits sync.WaitGroup

	standing standings
	watch    watch
}

// Serve carries the clients of the listeners until ctx ends, and closes the listeners. Then it takes no more from
// clients, lets the broker have what has come, and waits, for as long as Config.Grace, until the broker has ended
// their connections. The error says that a listener broke.
func Serve(ctx context.Context, config Config, listeners ...net.Listener) error {
	g := &gateway{Config: config.withDefaults()}
	g.places = make(chan struct{}, g.MaxConnections)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var accepting sync.WaitGroup
	for _, l := range listeners {
		context.AfterFunc(ctx, func() { _ = l.Close() })
		accepting.Go(func() {
			if err := g.accept(ctx, l); err != nil {
				cancel(err) // the others are of no use to whoever needs this one
			}
		})
	}
	g.visits.Go(func() { g.look(ctx) })
	g.visits.Go(func() { g.watch.run(ctx, g.Watch) })
	g.visits.Go(func() { g.reappraise(ctx) })
	accepting.Wait()
	g.visits.Wait()
	return brokenListener(context.Cause(ctx))
}

// brokenListener leaves out causes that are an orderly end.
func brokenListener(cause error) error {
	var broken *listenerError
	if errors.As(cause, &broken) {
		return broken
	}
	return nil
}

// listenerError says that a listener accepts nobody any more.
type listenerError struct{ error }

func (e *listenerError) Unwrap() error { return e.error }

// look dials the broker once, so that a wrong one is in the log before the first client comes.
func (g *gateway) look(ctx context.Context) {
	if conn, err := g.dial(ctx); err == nil {
		_ = conn.Close()
	}
}

// Bounds of a listener that has no file descriptors left, or the like.
const (
	acceptPause    = 50 * time.Millisecond
	acceptFailures = 600 // in a row: half a minute
)

func (g *gateway) accept(ctx context.Context, l net.Listener) error {
	failures := 0
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			failures = 0
			g.admit(ctx, l, conn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed) || failures == acceptFailures:
			return &listenerError{err}
		default:
			if failures++; failures == 1 {
				g.Log.Error("a client cannot be accepted; trying again", "listener", l.Addr().String(), "error", err)
			}
			time.Sleep(acceptPause)
		}
	}
}

// admit gives a client its place, or shows it the door.
func (g *gateway) admit(ctx context.Context, l net.Listener, local net.Conn) {
	select {
	case g.places <- struct{}{}:
	default:
		_ = local.Close()
		if g.full.changed("full") {
			g.Log.Warn("as many clients are connected as may be: others are closed as they come", "limit", g.MaxConnections)
		}
		return
	}
	g.visits.Go(func() {
		defer func() { <-g.places; g.full.changed("") }()
		defer local.Close()
		g.visit(ctx, local, g.Log.With("client", name(l, local)))
	})
}

// dial reaches and verifies the broker, and logs what has changed about it.
func (g *gateway) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.DialTimeout)
	defer cancel()
	conn, verdict, err := g.Dial(ctx)
	switch {
	case err == nil:
		g.logAccepted(verdict)
	case !errors.Is(ctx.Err(), context.Canceled):
		g.logFailure(err)
	}
	return conn, err
}

func (g *gateway) logAccepted(v *client.Verdict) {
	if v == nil || v.Facts == nil || !g.broker.changed("accepted "+v.Facts.Module.String()) {
		return
	}
	log := g.Log.Info
	if v.Platform.Simulated() {
		log = g.Log.Warn
	}
	log("broker verified", "verdict", "ACCEPTED", "identities", v.Identities, "module", v.Facts.Module.String(),
		"platform", string(v.Platform), "simulated", v.Platform.Simulated())
}

func (g *gateway) logFailure(err error) {
	if !g.broker.changed(err.Error()) {
		return
	}
	log := g.Log
	if g.Explain != nil {
		log = log.With("hint", g.Explain(err))
	}
	if client.Refused(err) {
		log.Error("broker REFUSED: nothing is sent to it", "verdict", "REFUSED", "reason", err)
		return
	}
	log.Warn("broker cannot be reached", "reason", err)
}

// sight is how something was last seen, so that the log tells what has changed and not the same with every client.
type sight struct {
	mu   sync.Mutex
	last string
}

// changed reports whether now is something else than before.
func (s *sight) changed(now string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == now {
		return false
	}
	s.last = now
	return true
}
