package broker

import (
	"encoding/binary"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Runs are looked at several at a time, and end where they would end if each was looked at.
func TestZerosApart(t *testing.T) {
	const stride, at = 3, 2
	for most := range uint32(14) {
		for first := range most + 1 { // the first that is not zero, if there is one
			b := make([]byte, at+stride*most)
			for i := range b {
				b[i] = 1
			}
			for k := range most {
				b[at+stride*k] = 0
			}
			if first < most {
				b[at+stride*first] = 1
			}
			if n := zerosApart(b, at, stride, most); n != first {
				t.Errorf("%d of %d, want %d", n, most, first)
			}
		}
	}
}

// The packet ids of a run are free ones up to the first in use, and all of them are taken.
func TestPacketIDsOfARun(t *testing.T) {
	for wanted := uint32(1); wanted <= 20; wanted++ {
		for used := uint32(1); used <= wanted; used++ { // how many ids before the one in use
			b := newBencher()
			b.connect(1, mqtt.V5, mqtt.Filter{Topic: []byte("a"), QoS: 1})
			s := b.core.sessions.at(b.core.connectionOf(abi.Conn(1)).session)
			for s.slots.size < 4*64 { // half of them may be in use
				b.core.growSlots(s)
			}
			s.nextSlot = 0
			slots := b.core.store.bytes(s.slots)
			if used < wanted {
				binary.LittleEndian.PutUint32(slots[4*used:], 77)
			}
			count := b.core.findPacketIDs(s, wanted)
			if count != used {
				t.Fatalf("%d packet ids of %d, want %d", count, wanted, used)
			}
			n, d := b.core.deliveries.alloc()
			d.count, d.qos = uint16(count), 1
			b.core.takePacketIDs(s, n, d)
			slots = b.core.store.bytes(s.slots)
			for i := range used {
				if got := binary.LittleEndian.Uint32(slots[4*i:]); got != n {
					t.Fatalf("slot %d of %d holds %d", i, count, got)
				}
			}
			if got := binary.LittleEndian.Uint32(slots[4*used:]); got == n {
				t.Fatalf("slot %d is taken, too", used)
			}
		}
	}
}
