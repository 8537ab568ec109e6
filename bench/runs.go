package bench

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// First bytes of packets that come in runs (MQTT 5, 2.1.2 and 2.1.3).
const (
	firstPublish1 = byte(mqtt.PUBLISH)<<4 | 1<<1
	firstPublish2 = byte(mqtt.PUBLISH)<<4 | 2<<1
	firstPuback   = byte(mqtt.PUBACK) << 4
	firstPubrec   = byte(mqtt.PUBREC) << 4
	firstPubrel   = byte(mqtt.PUBREL)<<4 | 2
	firstPubcomp  = byte(mqtt.PUBCOMP) << 4
	shortSize     = 4 // of an acknowledgement in its shortest form
)

// taker is a side of QoS 1 and 2. Both methods append the answers to out.
type taker interface {
	// takeRun handles packets at the start of b as long as they are of those that come in runs, and returns how many
	// bytes they were.
	takeRun(b, out []byte) (used int, answers []byte)
	// take handles any one packet.
	take(frame, out []byte) (answers []byte, err error)
}

// takeWhole waits for a packet, hands all whole packets that have come to take, and returns the answers.
func takeWhole(r *bufio.Reader, take func(frame, out []byte) ([]byte, error), out []byte) ([]byte, error) {
	return takeBuffered(r, single(take), out)
}

// single is a taker that takes packets one by one.
type single func(frame, out []byte) ([]byte, error)

func (s single) takeRun(_, out []byte) (int, []byte)                { return 0, out }
func (s single) take(frame, out []byte) (answers []byte, err error) { return s(frame, out) }

// takeBuffered waits for a packet, hands all whole packets that have come to t, and returns the answers.
func takeBuffered(r *bufio.Reader, t taker, out []byte) ([]byte, error) {
	for need := 1; ; {
		if _, err := r.Peek(need); err != nil {
			return out, err
		}
		b, _ := r.Peek(r.Buffered())
		var used, missing int
		var err error
		if used, missing, out, err = takeEach(b, t, out); err != nil {
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

// takeEach hands each whole packet at the start of b to t. If there is none, missing is how many bytes to wait for.
func takeEach(b []byte, t taker, out []byte) (used, missing int, answers []byte, err error) {
	for used < len(b) {
		var n int
		if n, out = t.takeRun(b[used:], out); n > 0 {
			used += n
			continue
		}
		size, ok, fault := mqtt.FrameSize(b[used:])
		switch {
		case fault != nil:
			return used, 0, out, fault
		case !ok:
			return used, len(b) - used + 1, out, nil
		case size > len(b)-used:
			return used, size, out, nil
		}
		if out, err = t.take(b[used:used+size], out); err != nil {
			return used, 0, out, err
		}
		used += size
	}
	return used, 0, out, nil
}

// takeRun implements taker, for acknowledgements in their shortest form.
func (w *sendWindow) takeRun(b, out []byte) (used int, answers []byte) {
	for ; len(b) >= shortSize && b[1] == shortSize-2; b = b[shortSize:] {
		id := binary.BigEndian.Uint16(b[2:])
		if !w.inUse.has(id) {
			break
		}
		switch b[0] {
		case firstPuback, firstPubcomp:
			w.inUse.remove(id)
			w.flying--
		case firstPubrec:
			out = append(out, firstPubrel, shortSize-2, b[2], b[3])
		default:
			return used, out
		}
		used += shortSize
	}
	return used, out
}

// takeRun implements taker, for PUBREL in its shortest form, and for messages that nobody wants to see.
func (r *receiver) takeRun(b, out []byte) (used int, answers []byte) {
	switch {
	case b[0] == firstPubrel:
		return r.takeReleases(b, out)
	case r.message == nil && (b[0] == firstPublish1 || b[0] == firstPublish2):
		return r.takePublishes(b, out)
	}
	return 0, out
}

func (r *receiver) takeReleases(b, out []byte) (used int, answers []byte) {
	for ; len(b) >= shortSize && b[0] == firstPubrel && b[1] == shortSize-2; b = b[shortSize:] {
		if id := binary.BigEndian.Uint16(b[2:]); r.unreleased.has(id) {
			r.unreleased.remove(id)
			r.waiting--
		}
		out = append(out, firstPubcomp, shortSize-2, b[2], b[3])
		used += shortSize
	}
	return used, out
}

// takePublishes takes PUBLISH packets of one QoS, and of one size up to 127 bytes, to topics of one length.
func (r *receiver) takePublishes(b, out []byte) (used int, answers []byte) {
	if len(b) < 4 {
		return 0, out
	}
	head := binary.BigEndian.Uint32(b)
	size, at := 2+int(b[1]), 4+int(b[2])<<8+int(b[3])
	if b[1] >= 0x80 || at+2 > size {
		return 0, out
	}
	for ; len(b) >= size && binary.BigEndian.Uint32(b) == head; b = b[size:] {
		out = r.receive(b[0], b[at:at+2], out)
		used += size
	}
	return used, out
}

// receive acknowledges and counts a message at QoS 1 or 2 that nobody wants to see.
func (r *receiver) receive(first byte, id, out []byte) []byte {
	if first == firstPublish1 {
		r.got++
		return append(out, firstPuback, shortSize-2, id[0], id[1])
	}
	if n := binary.BigEndian.Uint16(id); !r.unreleased.has(n) { // [MQTT-4.3.3-10]
		r.unreleased.add(n)
		r.waiting++
		r.got++
	}
	return append(out, firstPubrec, shortSize-2, id[0], id[1])
}
