package bench

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// DelayProxy is a TCP proxy that hands on each piece of data a while after it came: a network of that latency,
// without a limit on its throughput.
type DelayProxy struct {
	listener net.Listener
	target   string
	oneWay   time.Duration
	all      sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
	closed   bool
}

// NewDelayProxy starts a proxy on this machine to target; half of roundTrip is added each way. The opening of a
// connection is not delayed, for the first data is, and that is what a client waits for.
func NewDelayProxy(target string, roundTrip time.Duration) (*DelayProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &DelayProxy{listener: l, target: target, oneWay: roundTrip / 2, open: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *DelayProxy) Addr() string { return p.listener.Addr().String() }

// Dial connects to the proxy, whatever the address, and waits for a round trip: as long as opening a connection takes over such a
// network.
func (p *DelayProxy) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	opened := time.Now().Add(2 * p.oneWay)
	if err := pause(ctx, 2*p.oneWay-wakingTime); err != nil {
		return nil, err
	}
	sleepUntil(opened)
	return new(net.Dialer).DialContext(ctx, network, p.Addr())
}

// wakingTime is how late a timer of Go may be when there is nothing else to be done, with room to spare: what is left is slept in the kernel.
const wakingTime = 2 * time.Millisecond

// Close ends the proxy and all its connections.
func (p *DelayProxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

func (p *DelayProxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(in) })
	}
}

func (p *DelayProxy) serve(in net.Conn) {
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		in.Close()
		return
	}
	if !p.track(in, out) {
		return
	}
	defer p.forget(in, out)
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in) })
	both.Go(func() { p.copy(in, out) })
	both.Wait()
}

func (p *DelayProxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			c.Close()
			continue
		}
		p.open[c] = true
	}
	return !p.closed
}

func (p *DelayProxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.open, c)
	}
}

// delayed is data and the time at which it is due.
type delayed struct {
	data []byte
	due  time.Time
}

// delayedPieces is how many pieces may be on their way; a sender that is faster waits.
const delayedPieces = 1024

// copy hands on what comes from in, late, until one side ends; then both end, after what is on its way.
func (p *DelayProxy) copy(out, in net.Conn) {
	line := make(chan delayed, delayedPieces)
	var writer sync.WaitGroup
	writer.Go(func() { deliver(out, line) })
	for {
		room := make([]byte, 32<<10)
		n, err := in.Read(room)
		if n > 0 {
			line <- delayed{room[:n], time.Now().Add(p.oneWay)}
		}
		if err != nil {
			break
		}
	}
	close(line)
	writer.Wait()
	if half, ok := out.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() // so that the other direction may still say its last
	}
}

// deliver writes each piece when it is due, and not a millisecond later, as a timer of Go might be: a handshake has six of them. After an error it only empties the line, so that nobody waits for it.
func deliver(out io.Writer, line <-chan delayed) {
	failed := false
	for d := range line {
		sleepUntil(d.due)
		if !failed {
			_, err := out.Write(d.data)
			failed = err != nil
		}
	}
}
