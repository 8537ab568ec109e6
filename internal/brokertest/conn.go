package brokertest

import (
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Conn is a network connection between a client of the test and the core.
type Conn struct {
	ID     abi.Conn
	Stream []byte // all that was written to the client
	Closed bool   // the core has ended it
	Reason uint32 // of the end
	Why    string // in words
	Paused bool   // nothing more should be read from it
	Caused int    // packets to others, and to itself, that the core says it has caused

	rig   *Rig
	lost  bool // the host has told the core of its end
	read  int  // how much of Stream has been taken
	marks []mark
}

// mark is something that happened to a connection between the bytes that were written to it.
type mark struct {
	at   int // offset in the stream
	what string
}

// Item is a packet that a client received, or a mark: something that the host was told.
type Item struct {
	Packet []byte
	Mark   string // "closed", "paused", "resumed", "sync"
}

// Event queues an event of the connection.
func (c *Conn) Event(kind abi.EventKind, arg uint32, data []byte) {
	if !c.lost {
		c.rig.Event(kind, c.ID, arg, data)
	}
}

// Packets queues whole packets that the client sends, as one event.
func (c *Conn) Packets(packets ...[]byte) {
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	c.Event(abi.EventPackets, uint32(len(packets)), all)
}

// Lose queues the end of the connection by the client or the network.
func (c *Conn) Lose() {
	c.Event(abi.EventClosed, 0, nil)
	c.gone()
}

// gone frees the slot: the core has been told of the end.
func (c *Conn) gone() {
	if !c.lost {
		c.lost = true
		c.rig.free = append(c.rig.free, c.ID.Slot())
		c.rig.leaving = append(c.rig.leaving, c.ID)
	}
}

// Gone says whether the connection has ended, by whichever side.
func (c *Conn) Gone() bool { return c.Closed || c.lost }

func (c *Conn) write(b []byte) { c.Stream = append(c.Stream, b...) }

func (c *Conn) mark(what string) { c.marks = append(c.marks, mark{len(c.Stream), what}) }

func (c *Conn) close(reason uint32, why string) {
	c.Closed, c.Reason, c.Why = true, reason, why
	c.mark("closed")
	c.rig.after = append(c.rig.after, c.Lose)
}

func (c *Conn) pause(paused bool) error {
	if c.Paused == paused {
		return fmt.Errorf("paused is %v already", paused)
	}
	c.Paused = paused
	if paused {
		c.mark("paused")
	} else {
		c.mark("resumed")
	}
	return nil
}

// Received returns what the client got since the last call, in order.
func (c *Conn) Received() (items []Item, err error) {
	for {
		if len(c.marks) > 0 && c.marks[0].at <= c.read {
			items = append(items, Item{Mark: c.marks[0].what})
			c.marks = c.marks[1:]
			continue
		}
		left := c.Stream[c.read:]
		if len(left) == 0 {
			return items, nil
		}
		size, ok, fault := mqtt.FrameSize(left)
		if fault != nil || !ok || size > len(left) {
			return items, fmt.Errorf("the stream to the client does not consist of whole packets: % x", left[:min(len(left), 40)])
		}
		items = append(items, Item{Packet: left[:size:size]})
		c.read += size
	}
}
