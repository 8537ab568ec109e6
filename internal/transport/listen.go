package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Secured is a connection after its handshake.
type Secured struct {
	Stream     net.Conn // what MQTT is read from and written to; CloseWrite is used if it has one
	Identities []string // of the policy, that the peer's evidence holds for
	User       string   // authenticated user name, "" if there is none
	// Recheck says, with an MQTT 5 reason code, whether the peer would still be let in; 0 if it would. It is asked
	// after a change of what lets in, see Transport.Recheck. nil: always.
	Recheck func() uint32
}

// Handshake secures a connection that has just been accepted, until ctx ends. After an error the transport
// closes the socket. nil means that there is nothing to do: plain TCP.
type Handshake func(ctx context.Context, socket net.Conn) (Secured, error)

// Listener accepts connections.
type Listener struct {
	name      string
	transport *Transport
	socket    net.Listener
	handshake Handshake
	log       *slog.Logger
	done      chan struct{}
}

// ErrClosed says that the transport has been closed.
var ErrClosed = errors.New("transport is closed")

// Listen accepts connections from socket, which it owns from now on. name is what rules call the listener.
func (t *Transport) Listen(name string, socket net.Listener, handshake Handshake) (*Listener, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errors.Join(ErrClosed, socket.Close())
	}
	l := &Listener{
		name: name, transport: t, socket: socket, handshake: handshake,
		log: t.log.With("listener", name), done: make(chan struct{}),
	}
	t.listeners = append(t.listeners, l)
	t.tasks.Go(l.accept)
	return l, nil
}

// Addr returns the address that the listener is bound to.
func (l *Listener) Addr() net.Addr { return l.socket.Addr() }

// close stops accepting.
func (l *Listener) close() error {
	close(l.done)
	if err := l.socket.Close(); err != nil {
		return fmt.Errorf("close listener %s: %w", l.name, err)
	}
	return nil
}

// maxAcceptBackoff bounds the wait after a failure to accept.
const maxAcceptBackoff = time.Second

// accept accepts connections until close.
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

// admit gives a socket a number and a goroutine, if there is room.
func (l *Listener) admit(socket net.Conn) {
	t := l.transport
	t.counters.accepted.Add(1)
	c := &conn{
		stream: socket, socket: socket, transport: t,
		gone: make(chan struct{}), resume: make(chan struct{}, 1),
	}
	if !t.table.add(c) {
		_ = socket.Close()
		if n := t.counters.refused.Add(1); n&(n-1) == 0 { // the 1st, 2nd, 4th, 8th ... time
			l.log.Error("too many connections: refusing more", "limit", t.table.most(), "refused", n)
		}
		return
	}
	c.log = l.log.With("conn", uint32(c.id), "address", socket.RemoteAddr().String())
	leave := func() {}
	if l.handshake != nil {
		leave = t.handshakes.enter(c) // here, so that they are in the order of their coming
	}
	t.tasks.Go(func() { l.serve(c, leave) })
	if t.isClosed() {
		c.abort(nil) // Close may have looked at the table before this connection was in it
	}
}

// serve is the life of a connection. leave is to be called when the handshake is over.
func (l *Listener) serve(c *conn, leave func()) {
	peer := abi.Peer{Listener: l.name, Address: c.socket.RemoteAddr().String()}
	rechecks := l.transport.rechecks.Load()
	var recheck func() uint32
	if l.handshake != nil {
		secured, err := l.secure(c)
		leave()
		if err != nil {
			l.failed(c, err)
			return
		}
		c.stream = secured.Stream
		peer.Identities, peer.User = secured.Identities, secured.User
		recheck = secured.Recheck
	}
	epoch, ok := l.transport.engine.Open(c.id, abi.AppendPeer(nil, &peer))
	if !ok {
		c.abort(nil)
		l.transport.table.remove(c)
		return
	}
	c.epoch.Store(uint32(epoch))
	c.admitted(recheck, rechecks)
	c.log.Debug("connection opened", "identities", peer.Identities)
	c.pump()
}

// secure runs the handshake within its time.
func (l *Listener) secure(c *conn) (Secured, error) {
	limits := &l.transport.limits
	ctx, cancel := context.WithTimeout(context.Background(), limits.HandshakeTimeout)
	defer cancel()
	if err := c.socket.SetDeadline(time.Now().Add(limits.HandshakeTimeout)); err != nil {
		return Secured{}, err
	}
	secured, err := l.handshake(ctx, c.socket)
	if err != nil {
		return Secured{}, err
	}
	return secured, c.socket.SetDeadline(time.Time{})
}

// failed ends a connection that the core never heard of.
func (l *Listener) failed(c *conn, err error) {
	l.transport.counters.failedHandshakes.Add(1)
	c.abort(nil)
	c.log.Warn("handshake failed", "error", err)
	l.transport.table.remove(c)
}
