package mqtt

import "encoding/binary"

// reader walks over the fields of a packet. The first fault stays: every later
// read gives a zero value, so a parser reads straight down and asks once.
type reader struct {
	b     []byte
	at    int
	fault *Fault
}

func (r *reader) fail(f *Fault) {
	if r.fault == nil {
		r.fault = f
		r.at = len(r.b)
	}
}

// take gives the next n bytes, or nil and the fault "truncated".
func (r *reader) take(n int) []byte {
	if n > len(r.b)-r.at {
		r.fail(faultTruncated)
	}
	if r.fault != nil {
		return nil
	}
	start := r.at
	r.at += n
	return r.b[start:r.at:r.at]
}

func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) byte() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *reader) uint16() uint16 {
	b := r.take(2)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint16(b) // 1.5.2
}

// binary reads a length of two bytes and that many bytes (1.5.6).
func (r *reader) binary() []byte { return r.take(int(r.uint16())) }

// text reads a UTF-8 encoded string (1.5.4).
func (r *reader) text() []byte {
	b := r.binary()
	if f := checkText(b); f != nil {
		r.fail(f)
	}
	return b
}

// packetID reads a packet identifier, which is never zero.
func (r *reader) packetID() uint16 {
	id := r.uint16()
	if id == 0 {
		r.fail(faultPacketID) // [MQTT-2.2.1-3], [MQTT-2.2.1-4]
	}
	return id
}

// properties reads the properties of an MQTT 5 packet; earlier versions have none.
func (r *reader) properties(v Version, allowed PropertySet, p *Properties) {
	p.Reset()
	if v < V5 || r.fault != nil {
		return
	}
	n, f := ParseProperties(r.b[r.at:], allowed, p)
	if f != nil {
		r.fail(f)
		return
	}
	r.at += n
}

// rest takes all that is left.
func (r *reader) rest() []byte { return r.take(r.left()) }

// end gives the first fault; bytes that no field has claimed are one.
func (r *reader) end() *Fault {
	if r.fault == nil && r.at != len(r.b) {
		return faultTrailing
	}
	return r.fault
}

// varint reads the variable byte integer at the start of b and its size.
func varint(b []byte) (value uint32, n int, f *Fault) {
	for n < len(b) && n < 4 {
		c := b[n]
		value |= uint32(c&0x7F) << (7 * n)
		n++
		if c >= 0x80 {
			continue
		}
		if c == 0 && n > 1 {
			return 0, 0, faultVarintMinimal // [MQTT-1.5.5-1]
		}
		return value, n, nil
	}
	if n == 4 {
		return 0, 0, faultVarintLong
	}
	return 0, 0, faultTruncated
}

// sizer adds up the size of a packet before it is written. It notices a field
// that does not fit into its length prefix.
type sizer struct {
	n       int
	tooLong bool
}

func (s *sizer) binary(b []byte) {
	s.n += 2 + len(b)
	s.tooLong = s.tooLong || len(b) > MaxStringLength
}

// properties adds the property length and the properties, of MQTT 5 only.
// It gives the size of the properties without their length.
func (s *sizer) properties(v Version, p *Properties) int {
	if v < V5 {
		return 0
	}
	size := p.measure(s)
	s.n += varintSize(size) + size
	return size
}

func (s *sizer) fits() bool { return !s.tooLong && s.n <= MaxRemainingLength }

func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(dst []byte, n uint32) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func appendUint16(dst []byte, n uint16) []byte { return append(dst, byte(n>>8), byte(n)) }

func appendUint32(dst []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(dst, n) }

func appendBinary(dst, b []byte) []byte {
	return append(appendUint16(dst, uint16(len(b))), b...)
}
