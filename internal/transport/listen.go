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
)

// ListenConfig says what a listener does with its connections before MQTT begins, and what they may use. Only Name
// is needed.
//
// The order is: Rates and Admit, the PROXY header, Handshake, WebSocket. Behind a proxy, Admit and what is said of
// addresses come after the header, and mean the address that stands there. Any goroutine may call the functions.
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
	Platform   string   // of the TEE that the evidence comes from, "" if there was none
	Module     string   // digest of the peer's module, "" if there was no evidence
	// Recheck says, with an MQTT 5 reason code, whether the peer would still be let in; 0 if it would, or why not. It is
	// asked after a change of what lets in, see Transport.Recheck, and by Client.Review. nil: always.
	Recheck func() (reason uint32, why error)
	// Login adds methods of enhanced authentication of the connection's own to the login of the listener, which is nil if
	// clients need not log in. nil: there are none.
	Login func(c Client, listener Login) Login
}

// Handshake secures a connection that has just been accepted, until ctx ends. After an error the transport
// closes the socket. nil means that there is nothing to do: plain TCP.
type Handshake func(ctx context.Context, socket net.Conn) (Secured, error)

// Listener accepts connections.
type Listener struct {
	name      string
	transport *Transport
	socket    net.Listener
	log       *slog.Logger
	entrance  atomic.Pointer[entrance] // for the next connection
	done      chan struct{}
	close     sync.Once
}

func (l *Listener) newEntrance(config ListenConfig) *entrance {
	return &entrance{
		config: config, transport: l.transport, log: l.log,
		pace: newBucket(config.Rates.Connections), guests: newGuests(&config.Rates),
	}
}

// ErrClosed says that the transport has been closed.
var ErrClosed = errors.New("transport is closed")

// Listen accepts connections from socket, which it owns from now on, also after an error: a TCP or Unix socket, one
// that systemd opened, or any other. What config points to must not change any more.
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
		name: config.Name, transport: t, socket: socket, log: t.log.With("listener", config.Name), done: make(chan struct{}),
	}
	l.entrance.Store(l.newEntrance(config))
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

// Reconfigure changes what happens to connections that come from now on; those that are there stay as they are. What
// was known of addresses is forgotten. The name stays: config.Name is not looked at. After an error nothing has changed.
func (l *Listener) Reconfigure(config ListenConfig) error {
	config.Name = l.name
	if err := config.check(l.socket.Addr()); err != nil {
		return fmt.Errorf("listener %s: %w", l.name, err)
	}
	l.entrance.Store(l.newEntrance(config))
	return nil
}

// Name returns what rules call the listener.
func (l *Listener) Name() string { return l.name }

// Addr returns the address that the listener is bound to.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// Close lets no connection in any more. Connections and handshakes stay. To close again does nothing.
func (l *Listener) Close() (err error) {
	l.close.Do(func() {
		l.transport.forgetListener(l)
		close(l.done)
		if err = l.socket.Close(); err != nil {
			err = fmt.Errorf("close listener %s: %w", l.name, err)
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
			l.entrance.Load().admit(socket)
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
