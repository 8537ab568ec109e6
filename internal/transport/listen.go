package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// ListenConfig says what a listener does with its connections before MQTT begins, and what they may use. Only Name
// is needed.
//
// The order is: Rates and Admit, the PROXY header, Handshake, WebSocket. Behind a proxy, Admit and what is said of
// addresses come after the header, and mean the address that stands there.
type ListenConfig struct {
	Name      string                // what rules call the listener
	Handshake Handshake             // nil is none: plain TCP, or a Unix socket
	WebSocket *WebSocket            // nil is none: MQTT without frames around it
	Proxy     *Proxy                // nil is none: clients connect by themselves
	Login     func(Client) Login    // who authenticates a client that connects; nil, or one that returns nil, is nobody
	Admit     func(netip.Addr) bool // asked for each connection of an IP address; nil admits all
	Rates     Rates
}

// Secured is a connection after its handshake.
type Secured struct {
	Stream     net.Conn // what MQTT is read from and written to; CloseWrite is used if it has one
	Identities []string // of the policy, that the peer's evidence holds for
	User       string   // authenticated user name, "" if there is none
}

// Handshake secures a connection that has just been accepted, until ctx ends. After an error the transport
// closes the socket. nil means that there is nothing to do: plain TCP.
type Handshake func(ctx context.Context, socket net.Conn) (Secured, error)

// Listener accepts connections.
type Listener struct {
	config    ListenConfig
	transport *Transport
	socket    net.Listener
	log       *slog.Logger
	pace      bucket  // of the goroutine that accepts
	guests    *guests // nil if nothing is to be known of addresses
	done      chan struct{}
	close     sync.Once
}

// ErrClosed says that the transport has been closed.
var ErrClosed = errors.New("transport is closed")

// Listen accepts connections from socket, which it owns from now on, also after an error: a TCP or Unix socket, one
// that systemd opened, or any other. config must not change any more.
func (t *Transport) Listen(socket net.Listener, config ListenConfig) (*Listener, error) {
	if err := config.check(socket.Addr()); err != nil {
		return nil, errors.Join(fmt.Errorf("listener %s: %w", config.Name, err), socket.Close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errors.Join(ErrClosed, socket.Close())
	}
	l := &Listener{
		config: config, transport: t, socket: socket, log: t.log.With("listener", config.Name),
		pace: newBucket(config.Rates.Connections), guests: newGuests(&config.Rates), done: make(chan struct{}),
	}
	t.listeners = append(t.listeners, l)
	t.tasks.Go(l.accept)
	return l, nil
}

func (c *ListenConfig) check(address net.Addr) error {
	if c.Proxy != nil {
		if err := c.Proxy.check(address); err != nil {
			return err
		}
	}
	if c.WebSocket != nil {
		return c.WebSocket.check()
	}
	return nil
}

// Name returns what rules call the listener.
func (l *Listener) Name() string { return l.config.Name }

// Addr returns the address that the listener is bound to.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Close lets no connection in any more. Connections and handshakes stay. To close again does nothing.
func (l *Listener) Close() (err error) {
	l.close.Do(func() {
		l.transport.forgetListener(l)
		close(l.done)
		if err = l.socket.Close(); err != nil {
			err = fmt.Errorf("close listener %s: %w", l.config.Name, err)
		}
	})
	return err
}

func (t *Transport) forgetListener(l *Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners = slices.DeleteFunc(t.listeners, func(other *Listener) bool { return other == l })
}

// maxAcceptBackoff bounds the wait after a failure to accept.
const maxAcceptBackoff = time.Second

// accept accepts connections until Close.
func (l *Listener) accept() {
	var backoff time.Duration
	for {
		socket, err := l.socket.Accept()
		if err == nil {
			backoff = 0
			l.admit(socket)
			continue
		}
		backoff = min(max(2*backoff, l.transport.limits.acceptBackoffBase), maxAcceptBackoff)
		if !l.pause(err, backoff) {
			return
		}
	}
}

// pause waits after a failure to accept, most often for want of file descriptors. It returns false if the
// listener was closed.
func (l *Listener) pause(err error, backoff time.Duration) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	l.log.Error("could not accept a connection; waiting before the next try", "error", err, "wait", backoff)
	select {
	case <-l.done:
		return false
	case <-time.After(backoff):
		return true
	}
}

// admit gives a socket a number and a goroutine, if it may come in and there is room.
func (l *Listener) admit(socket net.Conn) {
	t := l.transport
	t.counters.accepted.Add(1)
	c := &conn{
		stream: socket, socket: socket, transport: t, listener: l, address: addressOf(socket.RemoteAddr()),
		since: time.Now(), gone: make(chan struct{}), resume: make(chan struct{}, 1), pace: newPace(&l.config.Rates),
	}
	if !l.mayEnter(c) {
		_ = socket.Close()
		return
	}
	if !t.table.add(c) {
		_ = socket.Close()
		l.guests.leave(c.guest)
		l.refused(&t.counters.refused, slog.LevelError, "too many connections: refusing more", "limit", t.limits.MaxConnections)
		return
	}
	c.log = l.log.With("conn", uint32(c.id), "address", addressText(c.address))
	leave := func() {}
	if l.config.hasHandshake() {
		leave = t.handshakes.enter(c) // here, so that they are in the order of their coming
	}
	t.tasks.Go(func() { l.serve(c, leave) })
	if t.isClosed() {
		c.abort(nil) // Close may have looked at the table before this connection was in it
	}
}

// mayEnter says whether a connection that was just accepted may go on.
func (l *Listener) mayEnter(c *conn) bool {
	if !l.pace.allow(c.since) {
		l.refused(&l.transport.counters.refusedRate, slog.LevelWarn, "connections come too fast: refusing some", "address", addressText(c.address))
		return false
	}
	if l.config.Proxy == nil {
		return l.greet(c)
	}
	if !l.config.Proxy.trusts(c.address.Addr()) {
		l.refused(&l.transport.counters.refusedProxy, slog.LevelWarn,
			"refusing a connection that comes from no trusted proxy", "address", addressText(c.address))
		return false
	}
	return true
}

// greet says whether a connection of c's address may go on, and remembers that it is there.
func (l *Listener) greet(c *conn) bool {
	counters := &l.transport.counters
	address := c.address.Addr()
	if !address.IsValid() { // a Unix socket: nothing tells its clients apart
		return true
	}
	if l.config.Admit != nil && !l.config.Admit(address) {
		l.refused(&counters.refusedAdmit, slog.LevelWarn, "refusing connections of an address that is locked out", "address", addressText(c.address))
		return false
	}
	switch verdict := l.guests.enter(c); verdict {
	case tooFast:
		l.refused(&counters.refusedRate, slog.LevelWarn, "connections of an address come too fast: refusing some", "address", addressText(c.address))
		return false
	case tooMany:
		l.refused(&counters.refusedAddress, slog.LevelWarn, "an address has too many connections: refusing more", "address", addressText(c.address),
			"limit", l.config.Rates.MaxPerAddress)
		return false
	}
	return true
}

// refused counts a refusal, and logs the 1st, 2nd, 4th, 8th ... time.
func (l *Listener) refused(counter *atomic.Uint64, level slog.Level, text string, attrs ...any) {
	if n := counter.Add(1); n&(n-1) == 0 {
		l.log.Log(context.Background(), level, text, append(attrs, "refused", n)...)
	}
}

// serve is the life of a connection. leave is to be called when the handshake is over.
func (l *Listener) serve(c *conn, leave func()) {
	secured, err := l.establish(c)
	leave()
	if err != nil {
		l.failed(c, err)
		return
	}
	c.stream = secured.Stream
	peer := abi.Peer{Listener: l.config.Name, Address: addressText(c.address), Identities: secured.Identities, User: secured.User}
	peer.Authenticate = l.setAuth(c, &peer)
	epoch, ok := l.transport.engine.Open(c.id, abi.AppendPeer(nil, &peer))
	if !ok {
		c.abort(nil)
		c.forget()
		return
	}
	c.epoch.Store(epoch)
	c.log.Debug("connection opened", "identities", peer.Identities)
	c.pump()
}

func (c *ListenConfig) hasHandshake() bool {
	return c.Handshake != nil || c.WebSocket != nil || c.Proxy != nil
}

// establish does all that comes before MQTT, within the time for a handshake.
func (l *Listener) establish(c *conn) (Secured, error) {
	secured := Secured{Stream: c.socket}
	if !l.config.hasHandshake() {
		return secured, nil
	}
	timeout := l.transport.limits.HandshakeTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.socket.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Secured{}, err
	}
	if err := l.layers(ctx, c, &secured); err != nil {
		return Secured{}, err
	}
	return secured, c.socket.SetDeadline(time.Time{})
}

// layers goes from the socket upwards to what MQTT is spoken over.
func (l *Listener) layers(ctx context.Context, c *conn, secured *Secured) (err error) {
	proxied := proxyHeader{}
	if l.config.Proxy != nil {
		if secured.Stream, proxied, err = l.meetProxy(c); err != nil {
			return err
		}
	}
	if l.config.Handshake != nil {
		if *secured, err = l.config.Handshake(ctx, secured.Stream); err != nil {
			return proxied.quieten(err)
		}
	}
	if secured.User == "" {
		secured.User = proxied.user
	}
	if l.config.WebSocket != nil {
		if secured.Stream, err = l.config.WebSocket.upgrade(secured.Stream); err != nil {
			return proxied.quieten(err)
		}
	}
	return nil
}

// quiet is the failure of a handshake that nobody needs to hear of.
type quiet struct{ error }

func (q quiet) Unwrap() error { return q.error }

// failed ends a connection that the core never heard of.
func (l *Listener) failed(c *conn, err error) {
	c.abort(nil)
	if errors.As(err, new(quiet)) {
		c.log.Debug("connection ended before its handshake", "cause", err)
	} else {
		l.transport.counters.failedHandshakes.Add(1)
		c.log.Warn("handshake failed", "error", printable([]byte(err.Error())))
	}
	c.forget()
}

// forget frees what a connection occupies besides its memory. It is the last thing that happens to it.
func (c *conn) forget() {
	c.transport.table.remove(c)
	c.listener.guests.leave(c.guest)
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
