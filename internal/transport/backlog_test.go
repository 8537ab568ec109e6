package transport

import (
	"errors"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Of a run for a connection with much to write it gets what it would get of single packets: all of it up to the hard limit at
// QoS 0 and to twice as much at QoS 1 and 2; beyond it messages at QoS 0 are dropped, and the others end the connection.
func TestRunForABacklog(t *testing.T) {
	const each, soft, hard = 10, 1000, 2000 // bytes
	for _, x := range []struct {
		qos            uint8
		backlog, count int
		left           int // bytes that are to be written then
		dropped        uint64
		stalled, ended bool
	}{
		{qos: 0, backlog: 990, count: 2, left: 1010},
		{qos: 0, backlog: 1900, count: 10, left: hard},
		{qos: 0, backlog: 1900, count: 13, left: hard, dropped: 3},
		{qos: 0, backlog: 990, count: 5, left: soft, dropped: 4, stalled: true},
		{qos: 1, backlog: 1900, count: 13, left: 2030, stalled: true},
		{qos: 1, backlog: 3900, count: 10, left: 2 * hard},
		{qos: 1, backlog: 3900, count: 11, ended: true},
	} {
		b := newBed(t, Limits{MaxPacketSize: 100, SoftBacklog: soft, HardBacklog: hard}, nil)
		c := unwritten(t, b)
		c.mu.Lock()
		c.room(x.backlog).b = make([]byte, x.backlog, 8192)
		c.backlog.stalled = x.stalled
		c.mu.Unlock()
		d := abi.Deliver{QoS: x.qos, PacketIDAt: 2, Payload: abi.Ref{Size: each - 4}, Stride: each - 4, Count: uint32(x.count), Head: make([]byte, 4)}
		c.deliver(&publishes{d: &d, span: make([]byte, x.count*(each-4))}, 1)
		c.mu.Lock()
		left, dropped, cause := c.size(), c.backlog.dropped, c.cause
		c.mu.Unlock()
		if x.ended != errors.Is(cause, errOverflow) || !x.ended && (left != x.left || dropped != x.dropped) {
			t.Errorf("%+v: %d bytes to write, %d dropped, ended with %v", x, left, dropped, cause)
		}
	}
}
