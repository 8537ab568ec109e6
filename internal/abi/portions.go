package abi

import (
	"bytes"
	"encoding/binary"
)

// Clients at QoS 1 and 2 send long runs of packets that differ in next to nothing. What is the same in all of them the host
// finds out natively, and says it to the core once, so that the core need not look at each.

// Portion is what one event brings of the packets that a connection sent.
type Portion struct {
	Kind EventKind // EventPackets, EventPublishes or EventAcks
	Arg  uint32
	Data []byte
}

// ShortestRun is how many packets a run should have to be an event of its own: each event costs the core about as much as a
// few packets.
const ShortestRun = 8

// AckSize is the size of a PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form (MQTT 5, 3.4 to 3.7).
const AckSize = 4

// First bytes of MQTT packets that come in runs (MQTT 5, 2.1.2 and 2.1.3).
const (
	firstPublish1 = 0x32
	firstPublish2 = 0x34
	firstPuback   = 0x40
	firstPubrec   = 0x50
	firstPubrel   = 0x62
	firstPubcomp  = 0x70
)

// NextPortion says how the host hands over the beginning of count whole MQTT packets, and returns those that are left. A
// run has shortest packets at least. Packets that begin with a PUBLISH at QoS 0 are handed over as they are.
func NextPortion(packets []byte, count, shortest int, p *Portion) (rest []byte, left int) {
	*p = Portion{EventPackets, uint32(count), packets}
	if len(packets) == 0 || packets[0]&0xF6 == 0x30 {
		return nil, 0
	}
	for at, n := 0, 0; n < count && at < len(packets); {
		kind, alike, size := runAt(packets[at:])
		switch {
		case alike < shortest || kind == EventPackets:
			at, n = at+alike*size, n+alike
			continue
		case n > 0:
			*p = Portion{EventPackets, uint32(n), packets[:at]}
			return packets[at:], count - n
		case kind == EventAcks:
			*p = Portion{kind, uint32(alike), packets[:AckSize]}
		default:
			*p = Portion{kind, uint32(alike), packets[:alike*size]}
		}
		return packets[alike*size:], count - alike
	}
	return nil, 0
}

// runAt returns how many packets at the start of b, at least one, make an event of some kind, and the size of each.
func runAt(b []byte) (kind EventKind, alike, size int) {
	size, header := packetSize(b)
	switch b[0] {
	case firstPuback, firstPubrec, firstPubrel, firstPubcomp:
		if size == AckSize {
			return EventAcks, acksAlike(b), size
		}
	case firstPublish1, firstPublish2:
		if at := publishIDAt(b, header); at+2 <= size {
			return EventPublishes, publishesAlike(b, at, size), size
		}
	}
	return EventPackets, 1, size
}

// packetSize returns the sizes of the packet at the start of b, which is whole, and of its fixed header.
func packetSize(b []byte) (size, header int) {
	length, shift := 0, 0
	for header = 1; header < len(b) && header <= 4; shift += 7 {
		c := b[header]
		length |= int(c&0x7F) << shift
		header++
		if c < 0x80 {
			break
		}
	}
	return min(header+length, len(b)), header
}

// publishIDAt returns where the packet id of a PUBLISH is; behind its end if the packet is malformed.
func publishIDAt(b []byte, header int) int {
	if len(b) < header+2 {
		return len(b)
	}
	return header + 2 + int(binary.BigEndian.Uint16(b[header:]))
}

// acksAlike returns how many acknowledgements at the start of b have packet ids that follow each other.
func acksAlike(b []byte) (n int) {
	want := binary.BigEndian.Uint32(b)
	for n = 1; want&0xFFFF != 0 && len(b) >= (n+1)*AckSize; n++ {
		if want++; want&0xFFFF == 0 || binary.BigEndian.Uint32(b[n*AckSize:]) != want {
			break
		}
	}
	return n
}

// publishesAlike returns how many packets at the start of b have the same size and the same bytes up to the packet id, and
// packet ids that follow each other.
func publishesAlike(b []byte, idAt, size int) (n int) {
	head, want := b[:idAt], binary.BigEndian.Uint16(b[idAt:])
	for n = 1; want != 0 && len(b) >= (n+1)*size; n++ {
		next := b[n*size : (n+1)*size]
		if want++; want == 0 || binary.BigEndian.Uint16(next[idAt:]) != want || !bytes.Equal(next[:idAt], head) {
			break
		}
	}
	return n
}

// ReadAcks reads the data of an EffectAcks: the first acknowledgement, and how many there are.
func ReadAcks(e *Effect) (first []byte, count int, err error) {
	if len(e.Data) != AckSize || e.Arg == 0 || uint64(binary.BigEndian.Uint16(e.Data[2:]))+uint64(e.Arg) > 1<<16 {
		return nil, 0, Fault("acknowledgements are a run that cannot be")
	}
	return e.Data, int(e.Arg), nil
}

// AppendAcks appends count acknowledgements whose packet ids follow each other, of which first is the first.
func AppendAcks(b, first []byte, count int) []byte {
	next := binary.BigEndian.Uint32(first)
	for range count {
		b = binary.BigEndian.AppendUint32(b, next)
		next++
	}
	return b
}
