package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Why connections end, as far as neither the client nor the core decided it.
var (
	errCoreFailed = errors.New("the broker core failed and was started afresh")
	errOverflow   = errors.New("the client does not read what it asked for")
	errNotFlushed = errors.New("the client did not take what was left to write in time")
)

// conn is one connection.
type conn struct {
	id        abi.Conn
	epoch     atomic.Uint32 // which core knows it
	stream    net.Conn      // what is read and written: TLS or the socket
	socket    net.Conn      // to end it at once
	inlet     inlet         // of socket, for the pump and what comes before it
	transport *Transport
	entrance  *entrance
	guest     *guest    // of the entrance; nil if it does not look at addresses
	auth      *auth     // nil if the client need not log in
	pace      *pace     // nil if it may send as fast as it can
	since     time.Time // when it was accepted
	log       *slog.Logger
	recheck   atomic.Pointer[func() (uint32, error)] // of Secured, nil until the core knows the connection
	gone      chan struct{}                          // closed when the connection is aborted or its pump has ended

	handshake *handshake // nil if there was none to make

	// Flow control of a source: the target that its pump waits for before it posts more.
	slowest atomic.Pointer[conn]
	paused  atomic.Bool   // the core asked for it
	resume  chan struct{} // holds a token if the pump should look again whether to go on
	alive   *time.Timer   // of the pump, see awaitResume

	figures incoming

	// layers is held by the pump while it reads through TLS, which may write then, and by who writes at once, see atonce.go. It
	// guards inlet.patient, too.
	layers sync.Mutex

	// These belong to the goroutine that runs the engine.
	dirty       bool
	slowestMost int // backlog of slowest when it was stored

	mu      sync.Mutex
	address netip.AddrPort // of the client; not valid for Unix sockets
	pending *buffer        // to be written; nil if there is nothing
	leaving int            // bytes that the writer has taken and not yet written
	writing bool           // the writer runs
	closing bool           // the core closed the connection: nothing is appended any more
	dead    bool           // aborted
	cause   error          // why it was aborted
	left    uint64         // bytes that have been written
	syncs   []uint64       // values of left at which the core wants to know
	backlog backlogState

	packetsOut, publishesOut uint64 // that were appended
}

// backlogState is what is known of a connection that has much to write. It is guarded by conn.mu.
type backlogState struct {
	crowded  bool          // in the crowd, see crowd.go
	stalled  bool          // nobody waits for it
	written  uint64        // pieces written, to see progress
	seen     uint64        // the same, when the crowd was last looked at
	idle     time.Duration // time without progress
	crowding time.Duration // time in the crowd
	dropped  uint64        // QoS 0 messages dropped in this episode
	waiters  []*conn       // sources whose pumps wait for it
}

// size returns the backlog in bytes. c.mu is held.
func (c *conn) size() int {
	if c.pending == nil {
		return c.leaving
	}
	return len(c.pending.b) + c.leaving
}

// room returns the pending buffer with room for size more bytes. c.mu is held.
func (c *conn) room(size int) *buffer {
	if c.pending == nil {
		c.pending = getBuffer(size)
	} else {
		c.pending = c.pending.grow(size)
	}
	return c.pending
}

// deliver appends PUBLISH packets and returns the backlog to slow their source by; 0 if nobody is to wait for
// this connection.
func (c *conn) deliver(p *publishes, packetID uint16) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := p.each() * int(p.d.Count)
	if c.size()+all > c.transport.limits.SoftBacklog {
		c.deliverSome(p, packetID)
	} else if !c.closing {
		c.append(p, 0, p.d.Count, packetID)
	}
	if c.closing || c.backlog.stalled || c.pending == nil {
		return 0
	}
	return c.size()
}

// deliverSome appends those of the packets that a connection with a large backlog may still get. c.mu is held.
func (c *conn) deliverSome(p *publishes, packetID uint16) {
	if all := c.size() + p.each()*int(p.d.Count); c.hasRoomFor(p.d.QoS, all) {
		if c.admit(p.d.QoS, all) {
			c.append(p, 0, p.d.Count, packetID)
		}
		return
	}
	for k := range p.d.Count {
		size := c.size() + p.each()
		if size > c.transport.limits.SoftBacklog && !c.admit(p.d.QoS, size) || c.closing {
			continue
		}
		c.append(p, k, k+1, packetID)
	}
}

// append appends the packets from number from to number to-1. c.mu is held.
func (c *conn) append(p *publishes, from, to uint32, packetID uint16) {
	count := to - from
	out := c.room(p.each() * int(count))
	out.b = p.appendTo(out.b, from, to, packetID)
	c.packetsOut += uint64(count)
	c.publishesOut += uint64(count)
}

// send appends what the core wrote.
func (c *conn) send(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if out := c.roomToSend(len(b)); out != nil {
		out.b = append(out.b, b...)
		whole, _ := cut(b, mqtt.MaxPacketSize)
		c.packetsOut += uint64(whole.packets)
		c.publishesOut += uint64(whole.publishes)
	}
}

// sendAcks appends acknowledgements whose packet ids follow each other.
func (c *conn) sendAcks(first []byte, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if out := c.roomToSend(count * abi.AckSize); out != nil {
		out.b = abi.AppendAcks(out.b, first, count)
		c.packetsOut += uint64(count)
	}
}

// roomToSend returns the pending buffer with room for size more bytes, or nil if they are not to be written. c.mu is held.
func (c *conn) roomToSend(size int) *buffer {
	all := c.size() + size
	if c.closing || all > c.transport.limits.SoftBacklog && !c.admit(1, all) {
		return nil
	}
	return c.room(size)
}

// admit decides what becomes of a packet that would make a large backlog. c.mu is held.
func (c *conn) admit(qos uint8, size int) bool {
	if c.closing {
		return false
	}
	c.transport.crowd.join(c)
	refused := qos == 0 && c.backlog.stalled
	switch {
	case c.hasRoomFor(qos, size), c.size() == 0 && !refused:
		return true
	case qos == 0:
		c.backlog.dropped++
		c.transport.counters.droppedQoS0.Add(1)
	default:
		c.transport.counters.overflowed.Add(1)
		c.abortLocked(errOverflow)
	}
	return false
}

// hasRoomFor says whether a backlog of size bytes is not too large for a packet that makes it. c.mu is held.
func (c *conn) hasRoomFor(qos uint8, size int) bool {
	if qos == 0 {
		return !c.backlog.stalled && size <= c.transport.limits.HardBacklog
	}
	return size <= 2*c.transport.limits.HardBacklog
}

// slowDown makes the pump of c wait for target, if that is further behind than who it waits for already.
func (c *conn) slowDown(target *conn, backlog int) {
	if c.slowest.Load() == nil || backlog >= c.slowestMost {
		c.slowestMost = backlog
		c.slowest.Store(target)
	}
}

// pause stops the pump before it posts more, or lets it go on.
func (c *conn) pause(on bool) {
	c.paused.Store(on)
	if !on {
		c.goOn()
	}
}

// goOn makes the pump look again whether to wait.
func (c *conn) goOn() {
	select {
	case c.resume <- struct{}{}:
	default:
	}
}

// sync tells the core when all that has been appended so far has been written.
func (c *conn) sync() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size() == 0 {
		c.postNow(abi.EventSynced)
		return
	}
	c.syncs = append(c.syncs, c.left+uint64(c.size()))
}

// synced answers the syncs that have been reached. c.mu is held.
func (c *conn) synced() {
	for len(c.syncs) > 0 && c.syncs[0] <= c.left {
		c.syncs = c.syncs[1:]
		c.postNow(abi.EventSynced)
	}
}

// close ends the connection once all that was appended has been written. reason is an MQTT 5 reason code.
func (c *conn) close(reason uint32, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	c.closing = true
	c.releaseWaiters()
	c.goOn() // the pump may wait for others
	level := slog.LevelDebug
	if reason >= 0x80 {
		level = slog.LevelInfo
	}
	c.log.Log(context.Background(), level, "closing connection", "reason", fmt.Sprintf("0x%02x", reason), "text", printable(text))
	_ = c.socket.SetWriteDeadline(time.Now().Add(c.transport.limits.FlushTimeout)) // fails only if it is closed
}

// abort ends the connection at once. The pump then posts EventClosed. cause is for the log, nil if there is
// nothing to say.
func (c *conn) abort(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abortLocked(cause)
}

func (c *conn) abortLocked(cause error) {
	if c.dead {
		return
	}
	c.dead, c.closing, c.cause = true, true, cause
	c.releaseWaiters()
	close(c.gone)
	if c.auth != nil && c.auth.cancel != nil {
		c.auth.cancel()
	}
	_ = c.socket.Close() // its error is of no use to anybody
}

// abortedFor reports whether the connection was aborted, and for that cause.
func (c *conn) abortedFor(cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead && c.cause == cause
}

// postNow tells the core what happened to the connection.
func (c *conn) postNow(kind abi.EventKind) {
	c.transport.engine.PostNow(kind, c.id, c.epoch.Load(), 0, nil)
}

// postIncoming gives the core something that came in. It reports whether the connection goes on.
func (c *conn) postIncoming(kind abi.EventKind, arg uint32, data []byte) bool {
	return c.transport.engine.Post(kind, c.id, c.epoch.Load(), arg, data)
}

// finish is the end of the pump, and so of the connection.
func (c *conn) finish(cause error) {
	c.abort(cause)
	c.mu.Lock()
	cause = c.cause
	if c.pending != nil {
		putBuffer(c.pending)
		c.pending = nil
	}
	c.mu.Unlock()
	if w, ok := c.stream.(*webSocket); ok {
		w.release()
	}
	c.postNow(abi.EventClosed)
	c.forget()
	if cause != nil {
		c.log.Info("connection ended", "cause", cause)
		return
	}
	c.log.Debug("connection ended")
}

// where returns the address of the client, for those who do not run the connection.
func (c *conn) where() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address
}

// setAddress is for a connection whose proxy has told whose it is.
func (c *conn) setAddress(address netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.address = address
}
