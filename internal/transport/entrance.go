package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// entrance is a listener as it is configured at a time. Connections keep the one that they came through.
type entrance struct {
	config    ListenConfig
	transport *Transport
	log       *slog.Logger
	pace      bucket  // of the goroutine that accepts
	guests    *guests // nil if nothing is to be known of addresses
}

// admit gives a socket a number and a goroutine, if it may come in and there is room.
func (e *entrance) admit(socket net.Conn) {
	t := e.transport
	t.counters.accepted.Add(1)
	c := &conn{
		socket: socket, transport: t, entrance: e, address: addressOf(socket.RemoteAddr()),
		since: time.Now(), gone: make(chan struct{}), resume: make(chan struct{}, 1), pace: newPace(&e.config.Rates),
	}
	c.stream = c.inlet.over(socket)
	if c.pace != nil {
		c.inlet.most = c.pace.most
	}
	if !e.mayEnter(c) {
		_ = socket.Close()
		return
	}
	if !t.table.add(c) {
		e.guests.leave(c.guest)
		e.refused(&t.counters.refused, slog.LevelError, "too many connections: refusing more", "limit", t.table.most())
		_ = socket.Close()
		return
	}
	c.log = e.log.With("conn", uint32(c.id), "address", addressText(c.address))
	if e.config.hasHandshake() {
		c.handshake = t.handshakes.enter(c) // here, so that they are in the order of their coming
		if e.config.Proxy == nil {
			t.handshakes.count(c.handshake, c.address.Addr())
		}
	}
	t.tasks.Go(func() { e.serve(c) })
	if t.isClosed() {
		c.abort(nil) // Close may have looked at the table before this connection was in it
	}
}

// mayEnter says whether a connection that was just accepted may go on.
func (e *entrance) mayEnter(c *conn) bool {
	if !e.pace.allow(c.since) {
		e.refused(&e.transport.counters.refusedRate, slog.LevelWarn, "connections come too fast: refusing some", "address", addressText(c.address))
		return false
	}
	if e.config.Proxy == nil {
		return e.greet(c)
	}
	if !e.config.Proxy.trusts(c.address.Addr()) {
		e.refused(&e.transport.counters.refusedProxy, slog.LevelWarn,
			"refusing a connection that comes from no trusted proxy", "address", addressText(c.address))
		return false
	}
	return true
}

// greet says whether a connection of c's address may go on, and remembers that it is there.
func (e *entrance) greet(c *conn) bool {
	counters := &e.transport.counters
	address := c.address.Addr()
	if !address.IsValid() { // a Unix socket: nothing tells its clients apart
		return true
	}
	if e.config.Admit != nil && !e.config.Admit(address) {
		e.refused(&counters.refusedAdmit, slog.LevelWarn, "refusing connections of an address that is locked out", "address", addressText(c.address))
		return false
	}
	switch verdict := e.guests.enter(c); verdict {
	case tooFast:
		e.refused(&counters.refusedRate, slog.LevelWarn, "connections of an address come too fast: refusing some", "address", addressText(c.address))
		return false
	case tooMany:
		e.refused(&counters.refusedAddress, slog.LevelWarn, "an address has too many connections: refusing more", "address", addressText(c.address),
			"limit", e.config.Rates.MaxPerAddress)
		return false
	}
	return true
}

// refused counts a refusal, and logs the 1st, 2nd, 4th, 8th ... time.
func (e *entrance) refused(counter *atomic.Uint64, level slog.Level, text string, attrs ...any) {
	if n := counter.Add(1); n&(n-1) == 0 {
		e.log.Log(context.Background(), level, text, append(attrs, "refused", n)...)
	}
}

// crowdOut ends a handshake to make room for another.
func (e *entrance) crowdOut(oldest *conn) {
	oldest.abort(errCrowdedOut)
	e.refused(&e.transport.counters.crowdedOut, slog.LevelWarn, "too many handshakes at a time: ending the oldest", "address", addressText(oldest.where()))
}

// crowdOutOfAddress ends a handshake to make room for another of the same address.
func (e *entrance) crowdOutOfAddress(oldest *conn) {
	oldest.abort(errCrowdedOut)
	e.refused(&e.transport.counters.crowdedOutOfAddress, slog.LevelWarn, "an address has too many handshakes at a time: ending its oldest",
		"address", addressText(oldest.where()))
}

// serve is the life of a connection.
func (e *entrance) serve(c *conn) {
	rechecks := e.transport.rechecks.Load()
	secured, err := e.establish(c)
	if c.handshake != nil {
		e.transport.handshakes.leave(c.handshake)
	}
	if err != nil {
		e.failed(c, err)
		return
	}
	c.stream = secured.Stream
	peer := abi.Peer{Listener: e.config.Name, Address: addressText(c.address), Identities: secured.Identities, User: secured.User}
	peer.Platform, peer.Module = secured.Platform, secured.Module
	peer.Authenticate = e.setAuth(c, &peer, secured.Login)
	epoch, ok := e.transport.engine.Open(c.id, abi.AppendPeer(nil, &peer))
	if !ok {
		c.abort(nil)
		c.forget()
		return
	}
	c.epoch.Store(epoch)
	c.admitted(secured.Recheck, rechecks)
	c.log.Debug("connection opened", "identities", peer.Identities)
	c.transport.tasks.Go(c.pump) // with a stack of its own: this one has grown
}

func (c *ListenConfig) hasHandshake() bool {
	return c.Handshake != nil || c.WebSocket != nil || c.Proxy != nil
}

// establish does all that comes before MQTT, within the time for a handshake.
func (e *entrance) establish(c *conn) (Secured, error) {
	secured := Secured{Stream: c.stream}
	if !e.config.hasHandshake() {
		return secured, nil
	}
	timeout := e.transport.limits.HandshakeTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.socket.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Secured{}, err
	}
	if err := e.layers(ctx, c, &secured); err != nil {
		return Secured{}, err
	}
	return secured, c.socket.SetDeadline(time.Time{})
}

// layers goes from the socket upwards to what MQTT is spoken over.
func (e *entrance) layers(ctx context.Context, c *conn, secured *Secured) (err error) {
	proxied := proxyHeader{}
	if e.config.Proxy != nil {
		if secured.Stream, proxied, err = e.meetProxy(c); err != nil {
			return err
		}
	}
	if e.config.Handshake != nil {
		if *secured, err = e.config.Handshake(ctx, secured.Stream); err != nil {
			return proxied.quieten(err)
		}
	}
	if secured.User == "" {
		secured.User = proxied.user
	}
	if e.config.WebSocket != nil {
		if secured.Stream, err = e.config.WebSocket.upgrade(secured.Stream); err != nil {
			return proxied.quieten(err)
		}
	}
	return nil
}

// quiet is the failure of a handshake that nobody needs to hear of.
type quiet struct{ error }

func (q quiet) Unwrap() error { return q.error }

// failed ends a connection that the core never heard of.
func (e *entrance) failed(c *conn, err error) {
	c.abort(nil)
	switch {
	case errors.As(err, new(quiet)):
		c.log.Debug("connection ended before its handshake", "cause", err)
	case c.abortedFor(errCrowdedOut): // which has been logged, not every time
		e.transport.counters.failedHandshakes.Add(1)
		c.log.Debug("handshake ended", "cause", errCrowdedOut)
	default:
		e.transport.counters.failedHandshakes.Add(1)
		c.log.Warn("handshake failed", "error", printable([]byte(err.Error())))
	}
	c.forget()
}

// forget frees what a connection occupies besides its memory. It is the last thing that happens to it.
func (c *conn) forget() {
	c.closeLogin()
	c.entrance.guests.leave(c.guest) // before it is no longer counted: who sees that it has gone may come in its place
	c.transport.table.remove(c)
}

// addressOf returns the IP address and port of a, or none if it is of another kind.
func addressOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		at := tcp.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	return netip.AddrPort{}
}

// addressText is an address as it stands in logs.
func addressText(a netip.AddrPort) string {
	if a.IsValid() {
		return a.String()
	}
	return "unix"
}
