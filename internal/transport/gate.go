package transport

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// gate holds back what a client sends until the core knows who it is: one packet passes at a time, each when the
// core asks for it. Meanwhile the pump goes on reading, up to a bound, to see the client's end; so what it has read is
// handed over by the pump, or by whoever runs the engine while the pump waits for more.
type gate struct {
	mu     sync.Mutex
	in     *buffer         // what was read; only the pump moves it
	from   int             // in.b[from:] has not been handed over
	credit bool            // a packet may pass
	open   bool            // all may
	busy   bool            // the pump is handing something over
	fault  mqtt.ReasonCode // what follows is no packet, and nothing more passes; 0 if there is no fault
}

// gateBuffer bounds what is read ahead of packets that wait at the gate. One packet may be larger.
const gateBuffer = 64 << 10

// errGone says that a connection has ended, and that its cause is known elsewhere.
var errGone = io.EOF

// readGated reads until the gate is open. An error says that the connection has ended. It returns the buffer, with
// what has not been handed over.
func (c *conn) readGated(in *buffer) (*buffer, error) {
	g := &c.auth.gate
	g.in = in // nobody else looks before a packet has been handed over
	for {
		if !c.handOver() {
			return g.finish(), errGone
		}
		if g.isOpen() {
			return g.finish(), nil
		}
		free := g.room(int(c.transport.maxPacketSize.Load()))
		if len(free) == 0 {
			if !c.awaitResume() {
				return g.finish(), errGone
			}
			continue
		}
		if err := c.readAhead(free); err != nil {
			return g.finish(), err
		}
	}
}

// readAhead reads once. At the end of what the client sends, packets that wait still get their turn: it need not wait
// for CONNACK [MQTT-3.1.4-5].
func (c *conn) readAhead(free []byte) error {
	n, err := c.stream.Read(free)
	c.figures.bytes.Add(uint64(n))
	g := &c.auth.gate
	g.came(n)
	if errors.Is(err, io.EOF) {
		for c.handOver() && g.holds(int(c.transport.maxPacketSize.Load())) && c.awaitResume() {
		}
	}
	return err
}

// handOver hands over what may pass. It returns false if the connection is at its end.
func (c *conn) handOver() bool {
	g := &c.auth.gate
	for {
		next := g.take(int(c.transport.maxPacketSize.Load()), c.isClosing())
		switch {
		case next.over:
			c.discard()
			return false
		case next.fault != 0:
			_ = c.refuse(next.fault) // how reading ends then is of no interest
			return false
		case next.whole.packets == 0:
			return !c.isGone()
		}
		c.figures.add(next.whole)
		if !c.postIncoming(abi.EventPackets, uint32(next.whole.packets), next.packets) {
			return false
		}
	}
}

// proceed lets one packet pass, or all. Whoever runs the engine calls it, so it must not wait.
func (c *conn) proceed(all bool) {
	if c.auth == nil {
		return
	}
	g := &c.auth.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open {
		return
	}
	g.credit, g.open = true, all
	for !g.busy && c.passNow() {
	}
	c.goOn()
}

// passNow hands over without waiting, in place of the pump. g.mu is held. It returns false if nothing more may pass.
func (c *conn) passNow() bool {
	next := c.auth.gate.next(int(c.transport.maxPacketSize.Load()))
	post := c.transport.engine.PostNow
	switch {
	case next.over:
		return false
	case next.fault != 0:
		post(abi.EventBadPacket, c.id, c.epoch.Load(), uint32(next.fault), nil)
		_ = c.stream.SetReadDeadline(time.Now().Add(c.transport.limits.FlushTimeout)) // fails only if it is closed
		return false
	case next.whole.packets == 0:
		return false
	}
	c.figures.add(next.whole)
	post(abi.EventPackets, c.id, c.epoch.Load(), uint32(next.whole.packets), next.packets)
	return true
}

// passage is what may pass the gate.
type passage struct {
	packets []byte
	whole   run
	fault   mqtt.ReasonCode // of what follows, which has been found now; 0 is none
	over    bool            // a fault was found before
}

// take is next for the pump. drop throws away what waits, for a connection that the core closes.
func (g *gate) take(most int, drop bool) passage {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	if drop {
		g.from = len(g.in.b)
	}
	next := g.next(most)
	g.busy = next.whole.packets > 0
	return next
}

// next takes what may pass. g.mu is held.
func (g *gate) next(most int) passage {
	if g.fault != 0 {
		return passage{over: true}
	}
	if !g.credit || g.in == nil {
		return passage{}
	}
	rest := g.in.b[g.from:]
	most = g.bound(most)
	whole, fault := cut(rest, most)
	if whole.packets == 0 {
		g.fault = fault
		return passage{fault: fault}
	}
	if !g.open {
		size, _, _ := mqtt.FrameSize(rest) // it was cut, so it has one
		whole, _ = cut(rest[:size], most)
		g.credit = false
	}
	g.from += whole.size
	return passage{packets: rest[:whole.size], whole: whole}
}

// came adds n bytes that were read behind those that are there.
func (g *gate) came(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.in.b = g.in.b[:len(g.in.b)+n]
}

// room returns where to read to, nothing if there is enough to hand over, or nothing that could be.
func (g *gate) room(most int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.compact()
	if len(g.in.b) == cap(g.in.b) {
		whole, fault := cut(g.in.b, g.bound(most))
		if cap(g.in.b) >= gateBuffer && (whole.size > 0 || fault != 0) {
			return nil
		}
		g.in = g.in.grow(1)
	}
	return g.in.b[len(g.in.b):cap(g.in.b)]
}

// holds says whether whole packets wait.
func (g *gate) holds(most int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	whole, _ := cut(g.in.b[g.from:], g.bound(most))
	return whole.size > 0
}

// bound is how large a packet may be, most once the core knows the client. g.mu is held.
func (g *gate) bound(most int) int {
	if !g.open {
		return min(most, mostUnknown)
	}
	return most
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// finish takes the buffer out, with what has not been handed over and room for more: it may be full with the beginning of a packet that
// was too large as long as the client was not known.
func (g *gate) finish() *buffer {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.compact()
	in := g.in.grow(1)
	g.in = nil
	return in
}

func (g *gate) compact() {
	if g.from > 0 {
		g.in.b = g.in.b[:copy(g.in.b, g.in.b[g.from:])]
		g.from = 0
	}
}
