package transport

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Figures are what went over a connection, or over all: packets and bytes of MQTT.
type Figures struct {
	BytesIn, PacketsIn, PublishesIn    uint64
	BytesOut, PacketsOut, PublishesOut uint64 // bytes that have been written; packets that were or wait for it
}

func (f *Figures) add(other Figures) {
	f.BytesIn += other.BytesIn
	f.PacketsIn += other.PacketsIn
	f.PublishesIn += other.PublishesIn
	f.BytesOut += other.BytesOut
	f.PacketsOut += other.PacketsOut
	f.PublishesOut += other.PublishesOut
}

// ConnectionInfo is what the transport knows of a connection.
type ConnectionInfo struct {
	Conn     abi.Conn
	Listener string
	Address  netip.AddrPort // not valid for Unix sockets; behind a proxy the one that it tells
	Since    time.Time      // when it was accepted
	Figures  Figures
	Backlog  int  // bytes that it has still to write
	Stalled  bool // it does not read, and nobody waits for it
}

// Connections returns what is known of all connections, those in their handshake included, by number.
func (t *Transport) Connections() []ConnectionInfo {
	all := t.table.all()
	list := make([]ConnectionInfo, 0, len(all))
	for _, c := range all {
		list = append(list, c.info())
	}
	return list
}

// Connection returns what is known of a connection, and false if there is none of that number.
func (t *Transport) Connection(id abi.Conn) (ConnectionInfo, bool) {
	c := lookup(*t.table.slots.Load(), id)
	if c == nil {
		return ConnectionInfo{}, false
	}
	return c.info(), true
}

func (c *conn) info() ConnectionInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ConnectionInfo{
		Conn: c.id, Listener: c.entrance.config.Name, Address: c.address, Since: c.since,
		Figures: c.total(), Backlog: c.size(), Stalled: c.backlog.stalled,
	}
}

// incoming counts what a connection has sent. It costs a connection's run three additions that nobody else wants to do.
type incoming struct {
	bytes, packets, publishes atomic.Uint64
}

// add counts packets. Their bytes are counted when they are read.
func (f *incoming) add(whole run) {
	f.packets.Add(uint64(whole.packets))
	if whole.publishes > 0 {
		f.publishes.Add(uint64(whole.publishes))
	}
}

// total returns the figures of c. c.mu is held.
func (c *conn) total() Figures {
	return Figures{
		BytesIn: c.figures.bytes.Load(), PacketsIn: c.figures.packets.Load(), PublishesIn: c.figures.publishes.Load(),
		BytesOut: c.left, PacketsOut: c.packetsOut, PublishesOut: c.publishesOut,
	}
}

// figures returns the sum over all connections that ever were. It never goes back.
func (t *table) figures() Figures {
	t.mu.Lock() // so that no connection is counted twice, or not at all, because it ends now
	defer t.mu.Unlock()
	sum := t.past
	for _, c := range t.all() {
		c.mu.Lock()
		sum.add(c.total())
		c.mu.Unlock()
	}
	return sum
}
