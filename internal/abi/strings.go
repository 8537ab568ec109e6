package abi

import "encoding/binary"

// maxString bounds strings and lists: their length is a u16.
const maxString = 0xFFFF

func appendCount(b []byte, n int) []byte {
	return binary.LittleEndian.AppendUint16(b, uint16(min(n, maxString)))
}

func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), maxString)]
	return append(appendCount(b, len(s)), s...)
}

func appendStrings(b []byte, list []string) []byte {
	list = list[:min(len(list), maxString)]
	b = appendCount(b, len(list))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func appendBytes(b, p []byte) []byte {
	p = p[:min(len(p), maxString)]
	return append(appendCount(b, len(p)), p...)
}

func appendU32(b []byte, n uint32) []byte { return binary.LittleEndian.AppendUint32(b, n) }

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// reader reads fields one after the other and remembers whether all were there.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) ok() bool { return !r.short }

func (r *reader) end(what string) error {
	if r.short {
		return Fault(what + " is cut short")
	}
	if len(r.b) > 0 {
		return Fault(what + " has bytes behind its end")
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if r.short || n < 0 || len(r.b) < n {
		r.short = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) count() int {
	if p := r.take(2); p != nil {
		return int(binary.LittleEndian.Uint16(p))
	}
	return 0
}

func (r *reader) string() string { return string(r.take(r.count())) }

// bytes returns a copy.
func (r *reader) bytes() []byte {
	return append([]byte(nil), r.take(r.count())...)
}

func (r *reader) strings() []string {
	var list []string
	for n := r.count(); n > 0 && r.ok(); n-- {
		list = append(list, r.string())
	}
	return list
}
