package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// The clients of a measurement at QoS 1 and 2 take all packets that have come at once, and look at no more of them
// than they must: a fixed header and a packet id. What they do not know goes to the ordinary functions, which say what
// is wrong with it.

// idSet is a set of packet ids.
type idSet [1 << 16 / 64]uint64

func (s *idSet) has(id uint16) bool { return s[id/64]&(1<<(id%64)) != 0 }
func (s *idSet) add(id uint16)      { s[id/64] |= 1 << (id % 64) }
func (s *idSet) remove(id uint16)   { s[id/64] &^= 1 << (id % 64) }

// acknowledged is a publisher's side of QoS 1 and 2 (MQTT 5, 4.3). Packet ids go up one by one, as those of most
// clients do.
type acknowledged struct {
	packet []byte // a PUBLISH but for its packet id
	idAt   int
	flying idSet
	most   int // messages in flight
	free   int // messages that may be sent now
	last   uint16
	sent   uint64
}

func newAcknowledged(topic string, qos byte, payload int) *acknowledged {
	a := &acknowledged{packet: appendPublish(nil, topic, qos, 1, make([]byte, payload)), most: windowOf(payload)}
	a.free = a.most
	a.idAt = len(a.packet) - payload - 1 - 2 // before the properties, of which there are none, and the payload
	return a
}

// fill appends as many messages to out as may be sent.
func (a *acknowledged) fill(out []byte) []byte {
	for ; a.free > 0; a.free-- {
		for a.last++; a.last == 0 || a.flying.has(a.last); a.last++ {
		}
		a.flying.add(a.last)
		out = append(out, a.packet...)
		binary.BigEndian.PutUint16(out[len(out)-len(a.packet)+a.idAt:], a.last)
		a.sent++
	}
	return out
}

// take handles one packet that the publisher gets and appends the answer to it, if it wants one.
func (a *acknowledged) take(frame, out []byte) ([]byte, error) {
	kind, id, ok := shortAck(frame)
	if !ok {
		return a.takeLong(frame, out)
	}
	switch {
	case !a.flying.has(id):
		return out, fmt.Errorf("the broker acknowledged packet id %d, which is not in use", id)
	case kind == mqtt.PUBREC:
		return append(out, byte(mqtt.PUBREL)<<4|2, 2, frame[2], frame[3]), nil
	case kind == mqtt.PUBACK, kind == mqtt.PUBCOMP:
		a.flying.remove(id)
		a.free++
		return out, nil
	}
	return out, unexpected(frame)
}

func (a *acknowledged) takeLong(frame, out []byte) ([]byte, error) {
	if mqtt.TypeOf(frame) == mqtt.PINGRESP {
		return out, nil
	}
	switch mqtt.TypeOf(frame) {
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		id, err := acknowledgement(frame)
		if err != nil {
			return out, err
		}
		return a.take(appendAck(nil, mqtt.TypeOf(frame), id), out)
	}
	return out, unexpected(frame)
}

// shortAck reads an acknowledgement without reason code, which means success.
func shortAck(frame []byte) (kind mqtt.PacketType, id uint16, ok bool) {
	if len(frame) != 4 {
		return 0, 0, false
	}
	return mqtt.TypeOf(frame), binary.BigEndian.Uint16(frame[2:]), true
}

// acknowledging is a subscriber's side of QoS 1 and 2.
type acknowledging struct {
	pending idSet // packet ids of QoS 2 messages that wait for PUBREL
	got     int
}

// take handles one packet that the subscriber gets and appends the answer to it, if it wants one.
func (a *acknowledging) take(frame, out []byte) ([]byte, error) {
	switch mqtt.TypeOf(frame) {
	case mqtt.PUBLISH:
		return a.takePublish(frame, out)
	case mqtt.PUBREL:
		id, err := acknowledgement(frame)
		a.pending.remove(id)
		return append(out, byte(mqtt.PUBCOMP)<<4, 2, byte(id>>8), byte(id)), err
	case mqtt.PINGRESP:
		return out, nil
	}
	return out, unexpected(frame)
}

func (a *acknowledging) takePublish(frame, out []byte) ([]byte, error) {
	header := 2
	for frame[header-1] >= 0x80 {
		header++
	}
	if len(frame) < header+2 {
		return out, errNoPacket
	}
	at := header + 2 + int(binary.BigEndian.Uint16(frame[header:]))
	if len(frame) < at+2 {
		return out, errNoPacket
	}
	id := binary.BigEndian.Uint16(frame[at:])
	switch frame[0] >> 1 & 3 {
	case 0:
		a.got++
		return out, nil
	case 1:
		a.got++
		return append(out, byte(mqtt.PUBACK)<<4, 2, frame[at], frame[at+1]), nil
	}
	if !a.pending.has(id) { // [MQTT-4.3.3-10]
		a.pending.add(id)
		a.got++
	}
	return append(out, byte(mqtt.PUBREC)<<4, 2, frame[at], frame[at+1]), nil
}

// takeWhole waits for a packet, hands all whole packets that have come to take, and returns the answers.
func takeWhole(r *bufio.Reader, take func(frame, out []byte) ([]byte, error), out []byte) ([]byte, error) {
	for need := 1; ; {
		if _, err := r.Peek(need); err != nil {
			return out, err
		}
		b, _ := r.Peek(r.Buffered())
		used, missing, err := eachWhole(b, func(frame []byte) (err error) {
			out, err = take(frame, out)
			return err
		})
		if err != nil {
			return out, err
		}
		if used > 0 {
			_, err := r.Discard(used)
			return out, err
		}
		if need = missing; need > r.Size() {
			return out, errors.New("the broker sent a packet that is larger than the buffer")
		}
	}
}

// eachWhole calls f with each whole packet at the start of b. If there is none, missing is how many bytes to wait for.
func eachWhole(b []byte, f func(frame []byte) error) (used, missing int, err error) {
	for used < len(b) {
		size, ok, fault := mqtt.FrameSize(b[used:])
		switch {
		case fault != nil:
			return used, 0, fault
		case !ok:
			return used, len(b) - used + 1, nil
		case size > len(b)-used:
			return used, size, nil
		}
		if err := f(b[used : used+size]); err != nil {
			return used, 0, err
		}
		used += size
	}
	return used, 0, nil
}
