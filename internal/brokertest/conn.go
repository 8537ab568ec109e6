package brokertest

import (
	"errors"
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Conn is a network connection between a client of the test and the core.
type Conn struct {
	ID     abi.Conn
	Stream []byte           // all that was written to the client
	Closed bool             // the core has ended it
	Reason uint32           // of the end
	Why    string           // in words
	Paused bool             // nothing more should be read from it
	Caused int              // packets to others, and to itself, that the core says it has caused
	Asked  *abi.AuthRequest // what the core wants to know of the client, nil if it has been answered

	rig   *Rig
	lost  bool // the host has told the core of its end
	read  int  // how much of Stream has been taken
	marks []mark

	gated  bool     // packets are handed over one at a time
	credit int      // how many may be handed over now
	held   [][]byte // those that wait
}

// mark is something that happened to a connection between the bytes that were written to it.
type mark struct {
	at   int // offset in the stream
	what string
}

// Item is a packet that a client received, or a mark: something that the host was told.
type Item struct {
	Packet []byte
	Mark   string // "closed", "paused", "resumed", "sync", "proceed one", "proceed all", "authenticate ..."
}

// Event queues an event of the connection.
func (c *Conn) Event(kind abi.EventKind, arg uint32, data []byte) {
	if !c.lost {
		c.rig.Event(kind, c.ID, arg, data)
	}
}

// Packets queues whole packets that the client sends, as one event; or as many as the core has asked for.
func (c *Conn) Packets(packets ...[]byte) {
	if c.gated {
		c.held = append(c.held, packets...)
		for c.credit > 0 && len(c.held) > 0 {
			c.credit--
			c.Event(abi.EventPackets, 1, c.held[0])
			c.held = c.held[1:]
		}
		return
	}
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	if c.rig.Shortest == 0 {
		c.Event(abi.EventPackets, uint32(len(packets)), all)
		return
	}
	var p abi.Portion
	for left := len(packets); left > 0; {
		all, left = abi.NextPortion(all, left, c.rig.Shortest, &p)
		c.Event(p.Kind, p.Arg, p.Data)
	}
}

// Hasty queues a packet whether the core has asked for one or not.
func (c *Conn) Hasty(packet []byte) {
	c.credit = 0
	c.Event(abi.EventPackets, 1, packet)
}

// Answer queues what the host has found out about the client. It need not make sense, nor have been asked for.
func (c *Conn) Answer(reason uint32, data []byte) {
	c.Asked = nil
	c.rig.Event(abi.EventAuthenticated, c.ID, reason, data)
}

// ask notes that the core wants to know who the client is.
func (c *Conn) ask(data []byte) error {
	var request abi.AuthRequest
	if err := abi.ReadAuthRequest(data, &request); err != nil {
		return err
	}
	if c.Asked != nil {
		return errors.New("the host has been asked already")
	}
	c.Asked = &request
	if find := c.rig.Authenticate; find != nil {
		c.rig.after = append(c.rig.after, func() {
			if c.Asked == &request {
				reason, answer := find(&request)
				c.Answer(reason, abi.AppendAuthAnswer(nil, &answer))
			}
		})
		return nil
	}
	c.mark(describeRequest(&request))
	return nil
}

// proceed notes that the core wants one packet more, or all.
func (c *Conn) proceed(all uint32) error {
	if !c.gated || c.credit > 0 || all > 1 {
		return fmt.Errorf("packets are not handed over one at a time, or argument %d is wrong", all)
	}
	c.credit, c.gated = 1, all == 0
	if c.rig.Authenticate == nil {
		c.mark([]string{"proceed one", "proceed all"}[all])
	}
	c.rig.after = append(c.rig.after, func() {
		held := c.held
		if c.held = nil; len(held) > 0 {
			c.Packets(held...)
		}
	})
	return nil
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
