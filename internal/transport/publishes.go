package transport

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// publishes is a run of PUBLISH packets, ready to be written to any of its targets.
type publishes struct {
	d    *abi.Deliver
	span []byte // all payloads, and what lies between them
	// whole says that head and span together are the packets, but for their packet ids: what lies between two payloads is
	// the head. So it is when packets leave as they came, and then a run is copied at once.
	whole bool
}

// isWhole finds out whether what lies between the payloads is the head, whatever the packet ids are.
func isWhole(d *abi.Deliver, span []byte) bool {
	if d.Stride != d.Payload.Size+uint32(len(d.Head)) {
		return d.Count == 1
	}
	before, behind := d.Head, []byte(nil)
	if d.QoS > 0 {
		before, behind = d.Head[:d.PacketIDAt], d.Head[d.PacketIDAt+2:]
	}
	for k := uint32(1); k < d.Count; k++ {
		head := span[k*d.Stride-uint32(len(d.Head)) : k*d.Stride]
		if string(head[:len(before)]) != string(before) || string(head[len(head)-len(behind):]) != string(behind) {
			return false
		}
	}
	return true
}

// each is the size of a packet.
func (p *publishes) each() int { return len(p.d.Head) + int(p.d.Payload.Size) }

// appendTo appends the packets from number from to number to-1, of which the first of all has a packet id.
func (p *publishes) appendTo(b []byte, from, to uint32, packetID uint16) []byte {
	d, at := p.d, len(b)
	if p.whole {
		b = append(b, d.Head...)
		b = append(b, p.span[from*d.Stride:(to-1)*d.Stride+d.Payload.Size]...)
	} else {
		for k := from; k < to; k++ {
			b = append(b, d.Head...)
			b = append(b, p.span[k*d.Stride:k*d.Stride+d.Payload.Size]...)
		}
	}
	if d.QoS > 0 {
		packetID += uint16(from)
		for i := at + int(d.PacketIDAt); i < len(b); i += p.each() {
			binary.BigEndian.PutUint16(b[i:], packetID)
			packetID++
		}
	}
	return b
}
