package transport

import (
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// A connection that is behind whenever somebody looks, and has caught up between each look and the next, is not stalled however long that goes
// on. One that makes progress without catching up is in the end, one that makes none is soon.
func TestBusyIsNotStalled(t *testing.T) {
	const soft, long = 1000, 10 * patience * looksPerStall
	for name, x := range map[string]struct {
		written   func(backlog int) int // bytes, between two looks
		stalledAt int                   // by which look; 0: by none
	}{
		"catches up":     {written: func(backlog int) int { return backlog }},
		"half is enough": {written: func(backlog int) int { return backlog - soft/2 }},
		"stays behind":   {written: func(backlog int) int { return backlog - soft/2 - 1 }, stalledAt: patience * looksPerStall},
		"takes nothing":  {written: func(int) int { return 0 }, stalledAt: looksPerStall},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Limits{MaxPacketSize: 100, SoftBacklog: soft, HardBacklog: 100 * soft, StallAfter: time.Hour}, nil) // nobody else looks
			c := unwritten(t, b)
			for look := 1; look <= long; look++ {
				fill(c, soft+1)
				if left := b.lookAtCrowd(time.Hour / looksPerStall); left != 1 {
					t.Fatalf("%d connections are behind", left)
				}
				if c.stalls() {
					if look != x.stalledAt {
						t.Errorf("stalled at look %d, want %d", look, x.stalledAt)
					}
					return
				}
				writeOut(c, x.written(c.behind()))
			}
			if x.stalledAt != 0 {
				t.Errorf("not stalled after %d looks, want %d", long, x.stalledAt)
			}
		})
	}
}

// unwritten is a connection whose writer is the test.
func unwritten(t *testing.T, b *bed) *conn {
	t.Helper()
	client := b.dial(t)
	write(t, client, mqtt.AppendPingreq(nil)) // the answer comes when all of the connection is there
	expect(t, client, 2)
	c := b.table.all()[0]
	awaitWriter(t, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = true
	return c
}

// fill has a connection behind by at least size bytes.
func fill(c *conn, size int) {
	const each = 10
	d := abi.Deliver{PacketIDAt: 2, Payload: abi.Ref{Size: each - 4}, Stride: each - 4, Count: 1, Head: make([]byte, 4)}
	for c.behind() < size {
		c.deliver(&publishes{d: &d, span: make([]byte, each-4)}, 0)
	}
}

// writeOut takes what is to be written, as a writer does, and writes n bytes of all that is.
func writeOut(c *conn, n int) {
	c.mu.Lock()
	if c.pending != nil {
		c.leaving, c.pending = c.size(), nil
	}
	c.mu.Unlock()
	if n > 0 {
		c.wrote(n)
	}
}

func (c *conn) behind() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size()
}

func (c *conn) stalls() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.backlog.stalled
}
