package dcbor

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// What follows is for structures of one fixed shape that every handshake makes and reads: they are put together from
// pieces, and read by asking for the same pieces in the same order. Whoever appends the keys of a map is to do so in
// the order of their encodings.

// Major types (RFC 8949, section 3.1), in the place where they stand in the first byte of an item.
const (
	unsigned   = 0 << 5
	negative   = 1 << 5
	byteString = 2 << 5
	textString = 3 << 5
	array      = 4 << 5
	mapping    = 5 << 5
	null       = 0xf6
)

// appendHead appends the shortest head of an item.
func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// AppendUint appends an unsigned integer.
func AppendUint(b []byte, n uint64) []byte { return appendHead(b, unsigned, n) }

// AppendInt appends an integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return appendHead(b, negative, uint64(^n))
	}
	return appendHead(b, unsigned, uint64(n))
}

// AppendBytes appends a byte string, null for nil.
func AppendBytes(b, value []byte) []byte {
	if value == nil {
		return append(b, null)
	}
	return append(appendHead(b, byteString, uint64(len(value))), value...)
}

// AppendText appends a text string, which the caller knows to be valid UTF-8.
func AppendText(b []byte, value string) []byte {
	return append(appendHead(b, textString, uint64(len(value))), value...)
}

// AppendArray appends the head of an array of n items.
func AppendArray(b []byte, n int) []byte { return appendHead(b, array, uint64(n)) }

// AppendMap appends the head of a map of n pairs.
func AppendMap(b []byte, n int) []byte { return appendHead(b, mapping, uint64(n)) }

// Reader reads a structure of a fixed shape. Once something else comes than is asked for, in another encoding than the
// deterministic one, or nothing, it has failed, and gives zero values from then on. What it returns lies in what it reads.
type Reader struct {
	rest   []byte
	failed bool
}

// NewReader returns a reader of data.
func NewReader(data []byte) *Reader { return &Reader{rest: data} }

// Done reports whether all was as it was asked for, and nothing is left.
func (r *Reader) Done() bool { return !r.failed && len(r.rest) == 0 }

func (r *Reader) fail() { r.rest, r.failed = nil, true }

// head reads the head of an item of a major type.
func (r *Reader) head(major byte) uint64 {
	if len(r.rest) == 0 || r.rest[0]&0xe0 != major {
		r.fail()
		return 0
	}
	info := r.rest[0] & 0x1f
	if info < 24 {
		r.rest = r.rest[1:]
		return uint64(info)
	}
	return r.longHead(info)
}

// longHead reads a head with its number in the 1, 2, 4 or 8 bytes behind the first. It must be the shortest for its number.
func (r *Reader) longHead(info byte) (n uint64) {
	least := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}
	if int(info) >= 24+len(least) || len(r.rest) < 1+1<<(info-24) {
		r.fail()
		return 0
	}
	size := 1 << (info - 24)
	for _, b := range r.rest[1 : 1+size] {
		n = n<<8 | uint64(b)
	}
	r.rest = r.rest[1+size:]
	if n < least[info-24] {
		r.fail()
		return 0
	}
	return n
}

// Map reads the head of a map and returns how many pairs it has, which may be more than come.
func (r *Reader) Map() uint64 { return r.head(mapping) }

// Array reads the head of an array and returns how many items it has, which may be more than come.
func (r *Reader) Array() uint64 { return r.head(array) }

// Count fails unless what was counted is what it should be.
func (r *Reader) Count(have, want uint64) {
	if have != want {
		r.fail()
	}
}

// Key reads an integer that must be key.
func (r *Reader) Key(key int64) {
	if r.Int() != key {
		r.fail()
	}
}

// Name reads a text string that must be name.
func (r *Reader) Name(name string) {
	if string(r.content(r.head(textString))) != name {
		r.fail()
	}
}

// NextIsName reports whether the text string name comes next, and leaves it there.
func (r *Reader) NextIsName(name string) bool {
	ahead := *r
	ahead.Name(name)
	return !ahead.failed
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 { return r.head(unsigned) }

// Int reads an integer.
func (r *Reader) Int() int64 {
	major := byte(unsigned)
	if len(r.rest) > 0 && r.rest[0]&0xe0 == negative {
		major = negative
	}
	n := r.head(major)
	if n > math.MaxInt64 {
		r.fail()
		return 0
	}
	if major == negative {
		return ^int64(n)
	}
	return int64(n)
}

// Null reports whether null comes next, and reads it if so.
func (r *Reader) Null() bool {
	if len(r.rest) == 0 || r.rest[0] != null {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

// Bytes reads a byte string, or null as nil.
func (r *Reader) Bytes() []byte {
	if r.Null() {
		return nil
	}
	return r.content(r.head(byteString))
}

// Fill reads a byte string that must be as long as dst.
func (r *Reader) Fill(dst []byte) {
	if value := r.content(r.head(byteString)); len(value) != len(dst) || copy(dst, value) != len(dst) {
		r.fail()
	}
}

// Text reads a text string of valid UTF-8.
func (r *Reader) Text() string {
	value := r.content(r.head(textString))
	if !utf8.Valid(value) {
		r.fail()
		return ""
	}
	return string(value)
}

// content reads the n bytes behind a head.
func (r *Reader) content(n uint64) []byte {
	if r.failed || n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	value := r.rest[:n:n]
	r.rest = r.rest[n:]
	return value
}
