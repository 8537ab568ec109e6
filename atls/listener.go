package atls

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// DefaultMaxHandshakes is how many handshakes a Listener does at a time unless it is told otherwise.
const DefaultMaxHandshakes = 256

// ListenerOptions are what a caller may want otherwise than by default. The zero value is good.
type ListenerOptions struct {
	// MaxHandshakes bounds the handshakes at a time, and the connections that wait for Accept; default 256. Further
	// peers wait in the queue of the operating system. Each handshake is bounded by the timeouts of ServerConfig.
	MaxHandshakes int
	// Failed is told of each handshake that came to nothing, for a log: error and address of the peer. It may be
	// called by several goroutines at once. It must not close the Listener.
	Failed func(peer net.Addr, err error)
}

// Listener is a net.Listener whose Accept returns connections over which peers have been appraised: each is a *Conn.
// Handshakes run beside each other, so that a slow peer holds up nobody.
//
// Where the server does not require evidence, peers without any are accepted too: look at Conn.Peer.
type Listener struct {
	inner   net.Listener
	server  atomic.Pointer[Server]
	options ListenerOptions

	ctx    context.Context // ends when the Listener is closed
	cancel context.CancelFunc
	places chan struct{} // one for each handshake there may be
	ready  chan *Conn
	failed chan error // of inner
	work   sync.WaitGroup
}

// NewListener accepts connections of inner for server, until it is closed. It owns inner from now on.
func NewListener(inner net.Listener, server *Server, options ListenerOptions) *Listener {
	if options.MaxHandshakes <= 0 {
		options.MaxHandshakes = DefaultMaxHandshakes
	}
	l := &Listener{
		inner: inner, options: options, places: make(chan struct{}, options.MaxHandshakes),
		ready: make(chan *Conn), failed: make(chan error),
	}
	l.server.Store(server)
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.work.Go(l.acceptAll)
	return l
}

// Listen listens on a TCP address for server.
func Listen(address string, server *Server, options ListenerOptions) (*Listener, error) {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return NewListener(inner, server, options), nil
}

// Accept returns the next connection whose handshake is done. Its dynamic type is *Conn. An error of the listener
// below is returned once, and does not end this one; net.ErrClosed does.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case err := <-l.failed:
		return nil, err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// SetServer has another server do the handshakes to come: for a renewed certificate, other keys, another policy.
func (l *Listener) SetServer(server *Server) { l.server.Store(server) }

// Close ends the listener, all handshakes, and all connections that nobody has accepted. Connections that were
// returned by Accept stay.
func (l *Listener) Close() error {
	l.cancel()
	err := l.inner.Close()
	l.work.Wait()
	return err
}

// Addr returns the address of the listener below.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

func (l *Listener) acceptAll() {
	for l.takePlace() {
		raw, err := l.inner.Accept()
		switch {
		case err == nil:
			l.work.Go(func() { defer l.leavePlace(); l.handshake(raw) })
			continue
		case errors.Is(err, net.ErrClosed):
			l.cancel()
			return
		}
		l.leavePlace()
		select {
		case l.failed <- err: // whoever accepts decides whether to go on, and after how long
		case <-l.ctx.Done():
		}
	}
}

// takePlace waits for a place and reports whether there still is a listener.
func (l *Listener) takePlace() bool {
	select {
	case l.places <- struct{}{}:
		return l.ctx.Err() == nil
	case <-l.ctx.Done():
		return false
	}
}

func (l *Listener) leavePlace() { <-l.places }

func (l *Listener) handshake(raw net.Conn) {
	conn, err := l.server.Load().Handshake(l.ctx, raw)
	if err != nil {
		if l.options.Failed != nil && l.ctx.Err() == nil {
			l.options.Failed(raw.RemoteAddr(), err)
		}
		return
	}
	select {
	case l.ready <- conn:
	case <-l.ctx.Done():
		_ = conn.Close()
	}
}
