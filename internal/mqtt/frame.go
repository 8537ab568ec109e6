package mqtt

// Version is the protocol version of a connection: the protocol level byte of
// its CONNECT.
type Version uint8

// The versions that this package speaks.
const (
	V31  Version = 3 // MQTT 3.1, protocol name MQIsdp
	V311 Version = 4 // MQTT 3.1.1
	V5   Version = 5 // MQTT 5.0
)

// PacketType is the upper half of the first byte of a packet (2.1.2).
type PacketType uint8

// The packet types. AUTH exists in MQTT 5 only.
const (
	CONNECT     PacketType = 1
	CONNACK     PacketType = 2
	PUBLISH     PacketType = 3
	PUBACK      PacketType = 4
	PUBREC      PacketType = 5
	PUBREL      PacketType = 6
	PUBCOMP     PacketType = 7
	SUBSCRIBE   PacketType = 8
	SUBACK      PacketType = 9
	UNSUBSCRIBE PacketType = 10
	UNSUBACK    PacketType = 11
	PINGREQ     PacketType = 12
	PINGRESP    PacketType = 13
	DISCONNECT  PacketType = 14
	AUTH        PacketType = 15
)

// Limits of the format.
const (
	// MaxRemainingLength is the greatest variable byte integer (1.5.5).
	MaxRemainingLength = 268_435_455
	// MaxPacketSize is the size of the longest packet, fixed header included.
	MaxPacketSize = MaxRemainingLength + 5
	// MaxStringLength is the longest string or binary field, in bytes (1.5.4).
	MaxStringLength = 65_535
)

var packetNames = [16]string{
	"RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// String gives the standard's name of the packet type.
func (t PacketType) String() string { return packetNames[t&15] }

// TypeOf gives the type of the packet at the start of frame, or 0, which is
// reserved, if frame is empty.
func TypeOf(frame []byte) PacketType {
	if len(frame) == 0 {
		return 0
	}
	return PacketType(frame[0] >> 4)
}

// FrameSize gives the size in bytes, fixed header included, of the packet at the
// start of b, which may hold less or more than that packet. ok is false while b
// is too short to tell. The fault is a remaining length of more than four bytes;
// whatever else may be wrong with a packet is for its parser.
func FrameSize(b []byte) (size int, ok bool, f *Fault) {
	if size, ok = ShortFrameSize(b); ok {
		return size, true, nil
	}
	return longFrameSize(b)
}

// ShortFrameSize is FrameSize for packets of 129 bytes at most; ok is false for all others. It is small enough for the
// compiler to put it where it is called.
func ShortFrameSize(b []byte) (size int, ok bool) {
	if len(b) >= 2 && b[1] < 0x80 {
		return 2 + int(b[1]), true
	}
	return 0, false
}

func longFrameSize(b []byte) (size int, ok bool, f *Fault) {
	length := 0
	for i := 1; i < len(b) && i <= 4; i++ {
		length |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i] < 0x80 {
			return 1 + i + length, true, nil
		}
	}
	if len(b) > 4 {
		return 0, false, faultVarintLong // 1.5.5: the maximum is four bytes
	}
	return 0, false, nil
}

// bodyOf gives the offset of the variable header in a frame that must be exactly
// one packet.
func bodyOf(frame []byte, v Version) (at int, f *Fault) {
	size, ok, f := FrameSize(frame)
	if f != nil {
		return 0, f
	}
	if !ok || size != len(frame) {
		return 0, faultFrame
	}
	at = 2
	for frame[at-1] >= 0x80 {
		at++
	}
	// [MQTT-1.5.5-1] Earlier versions do not ask for the shortest form.
	if at > 2 && frame[at-1] == 0 && v >= V5 {
		return 0, faultVarintMinimal
	}
	return at, nil
}

// fixedFlags are the lower four bits of the first byte by packet type (2.1.3).
// Those of PUBLISH have a meaning of their own.
var fixedFlags = [16]byte{PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}

// checkFlags checks the reserved flags of every packet but PUBLISH.
func checkFlags(first byte, v Version) *Fault {
	want := fixedFlags[first>>4]
	if first&15 == want {
		return nil
	}
	// MQTT 3.1 (2.1) sets DUP when it repeats the three packets that it sends with
	// QoS 1, and calls the flags of the others unused.
	if v == V31 && (want == 0 || first&6 == want) {
		return nil
	}
	return flagFaults[first>>4] // [MQTT-2.1.3-1]
}

// open starts a reader at the variable header of a packet of type t.
func open(frame []byte, t PacketType, v Version) reader {
	if TypeOf(frame) != t {
		return reader{fault: faultPacketType}
	}
	at, f := bodyOf(frame, v)
	if f == nil {
		f = checkFlags(frame[0], v)
	}
	if f != nil {
		return reader{fault: f}
	}
	return reader{b: frame, at: at}
}

// appendHeader appends a fixed header.
func appendHeader(dst []byte, first byte, remaining int) []byte {
	return appendVarint(append(dst, first), uint32(remaining))
}

// firstByte gives the first byte of a packet other than PUBLISH.
func firstByte(t PacketType) byte { return byte(t)<<4 | fixedFlags[t] }

// parseEmpty reads a packet that is a fixed header alone: PINGREQ or PINGRESP.
func parseEmpty(frame []byte, v Version, t PacketType) *Fault {
	r := open(frame, t, v)
	return r.end()
}

// ParsePingreq checks a PINGREQ (3.12).
func ParsePingreq(frame []byte, v Version) *Fault { return parseEmpty(frame, v, PINGREQ) }

// ParsePingresp checks a PINGRESP (3.13).
func ParsePingresp(frame []byte, v Version) *Fault { return parseEmpty(frame, v, PINGRESP) }

// AppendPingreq appends a PINGREQ (3.12).
func AppendPingreq(dst []byte) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// AppendPingresp appends a PINGRESP (3.13).
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }
