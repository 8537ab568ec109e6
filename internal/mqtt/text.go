package mqtt

import (
	"encoding/binary"
	"unicode/utf8"
)

// textScan tells what a string contains.
type textScan struct {
	nul   bool // U+0000
	wild  bool // # or +
	ascii bool // nothing but ASCII
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// scanText looks at b eight bytes at a time: most topics are ASCII, and then one
// pass answers all that is asked of them.
func scanText(b []byte) textScan {
	var nul, wild, seen uint64
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		nul |= zeroByte(x)
		// # and + differ in one bit; with that bit set both are +.
		wild |= zeroByte((x | lowBits*('#'^'+')) ^ lowBits*'+')
		seen |= x
	}
	for _, c := range b {
		if c == 0 {
			nul = 1
		}
		if c == '#' || c == '+' {
			wild = 1
		}
		seen |= uint64(c)
	}
	return textScan{nul != 0, wild != 0, seen&highBits == 0}
}

// zeroByte is not zero if and only if one of the eight bytes of x is zero.
func zeroByte(x uint64) uint64 { return (x - lowBits) &^ x & highBits }

// ValidText tells whether b can be a UTF-8 encoded string of a packet (1.5.4).
func ValidText(b []byte) bool { return len(b) <= 0xFFFF && checkText(b) == nil }

// checkText checks a UTF-8 encoded string (1.5.4). Control characters and
// non-characters, which the standard discourages, pass.
func checkText(b []byte) *Fault { return scanText(b).check(b) }

func (s textScan) check(b []byte) *Fault {
	if s.nul {
		return faultNUL // [MQTT-1.5.4-2]
	}
	if !s.ascii && !utf8.Valid(b) {
		return faultUTF8 // [MQTT-1.5.4-1] Surrogates are not valid UTF-8.
	}
	return nil
}

// checkTopicName checks a topic name that may be empty (an alias stands for it).
func checkTopicName(b []byte) *Fault {
	scan := scanText(b)
	if scan.wild {
		return faultTopicWildcard // [MQTT-3.3.2-2], [MQTT-4.7.0-1]
	}
	return scan.check(b)
}

// checkFilter checks a topic filter (4.7.1).
func checkFilter(b []byte) *Fault {
	if len(b) == 0 {
		return faultFilterEmpty // [MQTT-4.7.3-1]
	}
	scan := scanText(b)
	if f := scan.check(b); f != nil || !scan.wild {
		return f
	}
	for more := true; more; {
		var level []byte
		level, b, more = CutLevel(b)
		if f := checkLevel(level, more); f != nil {
			return f
		}
	}
	return nil
}

// checkLevel checks one level of a filter; more tells whether others follow.
func checkLevel(level []byte, more bool) *Fault {
	for _, c := range level {
		if c == '#' && (len(level) > 1 || more) {
			return faultFilterHash // [MQTT-4.7.1-1]
		}
		if c == '+' && len(level) > 1 {
			return faultFilterPlus // [MQTT-4.7.1-2]
		}
	}
	return nil
}
