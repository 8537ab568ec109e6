package abi

import "encoding/binary"

// Sizes of the fixed parts of effects.
const (
	EffectsHeaderSize = 32
	EffectHeaderSize  = EventHeaderSize
	DeliverHeaderSize = 28
	TargetSize        = 8
)

// EffectKind tells what the host is to do.
type EffectKind uint8

// The kinds of effect.
const (
	// EffectSend: write Data to Conn.
	EffectSend EffectKind = 1 + iota
	// EffectDeliver: write a PUBLISH packet to each of several connections, see [Deliver]. Conn is the
	// connection whose packet caused it, 0 if there is none: the one to read more slowly if the targets
	// cannot keep up.
	EffectDeliver
	// EffectClose: end Conn once all that was written to it has left. Arg: the MQTT 5 reason code. Data: a
	// sentence for the log.
	EffectClose
	// EffectNote: something to log. Arg: a [Note]. Data: the client id, or what the note says.
	EffectNote
	// EffectStats answers EventStats. Data: see [Stats].
	EffectStats
	// EffectPause: read nothing more from Conn until EffectResume, because a session that its messages are for
	// has many waiting. Packets that were read already may still be handed over.
	EffectPause
	// EffectResume ends EffectPause.
	EffectResume
	// EffectSync: once all that was written to Conn so far has left, say so with [EventSynced].
	EffectSync
	// EffectAuthenticate: find out who the client of Conn is, and answer with [EventAuthenticated]. Data: see
	// [AuthRequest].
	EffectAuthenticate
	// EffectProceed: the core has handled the packets of Conn so far and wants more. Arg: 0 for one more packet, 1 for
	// all: the client has been accepted. Only for peers with Authenticate set, and only until then. One packet is what
	// the host hands over after EventOpen; it does so again, as an event of its own, for each EffectProceed with Arg 0.
	EffectProceed
	// EffectAnswer answers EventAsk. Arg: the number of the question. Data: see [Answer].
	EffectAnswer
	// EffectAcks: write a run of acknowledgements of one kind to Conn, in their shortest form, whose packet ids follow each
	// other. Arg: how many. Data: the first of them.
	EffectAcks
)

// EffectsHeader is what a step says besides its effects.
type EffectsHeader struct {
	Size     uint32 // of header and effects together
	Consumed uint32 // offset in the batch up to which events have been handled
	More     bool   // the core has work left that needs no event: call step again soon
	Wake     int64  // when to call step even if nothing happens, in milliseconds of the Unix clock; 0 is never
}

// PutEffectsHeader writes h to the first EffectsHeaderSize bytes of b.
func PutEffectsHeader(b []byte, h *EffectsHeader) {
	b = b[:EffectsHeaderSize]
	binary.LittleEndian.PutUint32(b, Version)
	binary.LittleEndian.PutUint32(b[4:], h.Size)
	binary.LittleEndian.PutUint32(b[8:], h.Consumed)
	var more uint32
	if h.More {
		more = 1
	}
	binary.LittleEndian.PutUint32(b[12:], more)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.Wake))
	binary.LittleEndian.PutUint64(b[24:], 0)
}

// ReadEffectsHeader reads what PutEffectsHeader wrote.
func ReadEffectsHeader(b []byte, h *EffectsHeader) error {
	if len(b) < EffectsHeaderSize {
		return Fault("effects are shorter than their header")
	}
	if binary.LittleEndian.Uint32(b) != Version {
		return Fault("effects are of another version")
	}
	h.Size = binary.LittleEndian.Uint32(b[4:])
	h.Consumed = binary.LittleEndian.Uint32(b[8:])
	h.More = binary.LittleEndian.Uint32(b[12:]) == 1
	h.Wake = int64(binary.LittleEndian.Uint64(b[16:]))
	if uint64(h.Size) != uint64(len(b)) {
		return Fault("effects are not of the size that their header says")
	}
	return nil
}

// Effect is one thing to do. Data aliases the effects.
type Effect struct {
	Kind  EffectKind
	Flags uint8
	Conn  Conn
	Arg   uint32
	Data  []byte
}

// AppendEffect appends an effect to b.
func AppendEffect(b []byte, kind EffectKind, flags uint8, conn Conn, arg uint32, data []byte) []byte {
	b = appendHeader(b, uint8(kind), flags, uint32(conn), uint32(len(data)), arg)
	return append(b, data...)
}

// BeginEffect appends the header of an effect whose data is still to be appended; EndEffect completes it.
func BeginEffect(b []byte, kind EffectKind, flags uint8, conn Conn, arg uint32) []byte {
	return appendHeader(b, uint8(kind), flags, uint32(conn), 0, arg)
}

// EndEffect writes the size of the effect whose header begins at offset at and whose data reaches to the end of b.
func EndEffect(b []byte, at int) {
	binary.LittleEndian.PutUint32(b[at+8:], uint32(len(b)-at-EffectHeaderSize))
}

// EffectArg returns the argument of the effect at the start of b.
func EffectArg(b []byte) uint32 { return binary.LittleEndian.Uint32(b[12:]) }

// SetEffectArg changes the argument of the effect at the start of b.
func SetEffectArg(b []byte, arg uint32) { binary.LittleEndian.PutUint32(b[12:], arg) }

// NextEffect reads the effect at offset at (the first is at EffectsHeaderSize) and returns the offset of the
// one behind it.
func NextEffect(effects []byte, at int, e *Effect) (next int, err error) {
	if len(effects)-at < EffectHeaderSize {
		return 0, Fault("effect header reaches over the end of the effects")
	}
	h := effects[at : at+EffectHeaderSize]
	size := binary.LittleEndian.Uint32(h[8:])
	start := at + EffectHeaderSize
	if uint64(size) > uint64(len(effects)-start) {
		return 0, Fault("effect data reaches over the end of the effects")
	}
	e.Kind = EffectKind(h[0])
	e.Flags = h[1]
	e.Conn = Conn(binary.LittleEndian.Uint32(h[4:]))
	e.Arg = binary.LittleEndian.Uint32(h[12:])
	e.Data = effects[start : start+int(size)]
	return start + int(size), nil
}

// Deliver is the data of an EffectDeliver: one PUBLISH packet in the form that all its targets share, or a run of them
// that differ in payload and packet id only.
//
// To each target the host writes Head, in which it has set the two bytes at PacketIDAt (big-endian, as in MQTT) to the
// target's packet id if QoS is not 0, and then the payload. It does so Count times: each time with the payload that lies
// Stride bytes behind the one before, and with a packet id that is one higher.
//
//	payload ref (space u32, offset u32, size u32), stride u32, count u32, size of head u32, number of targets u32,
//	head, targets (connection u32, packet id u16, two zero bytes)
//
// The QoS stands in the effect's flags, PacketIDAt in its argument.
type Deliver struct {
	Source     Conn
	QoS        uint8
	PacketIDAt uint32
	Payload    Ref    // of the first packet
	Stride     uint32 // at least the size of a payload and 1, unless Count is 1
	Count      uint32 // of packets, at least 1
	Head       []byte
	Targets    []byte // TargetSize bytes each, see Target
}

// Span returns the range that holds the payloads of all packets, from the first byte of the first to the last byte of the
// last.
func (d *Deliver) Span() Ref {
	return Ref{Space: d.Payload.Space, Offset: d.Payload.Offset, Size: (d.Count-1)*d.Stride + d.Payload.Size}
}

// Target is one receiver of a delivery.
type Target struct {
	Conn     Conn
	PacketID uint16 // of the first packet
}

// Offsets in the header of a delivery.
const (
	deliverCount   = 16
	deliverHead    = 20
	deliverTargets = 24
)

// maxSpan bounds the payloads of a delivery together: offsets have 32 bits.
const maxSpan = 1 << 31

// ReadDeliver reads the data of an EffectDeliver.
func ReadDeliver(e *Effect, d *Deliver) error {
	b := e.Data
	if len(b) < DeliverHeaderSize {
		return Fault("delivery is shorter than its header")
	}
	d.Source, d.QoS, d.PacketIDAt = e.Conn, e.Flags, e.Arg
	d.Payload.Space = binary.LittleEndian.Uint32(b)
	d.Payload.Offset = binary.LittleEndian.Uint32(b[4:])
	d.Payload.Size = binary.LittleEndian.Uint32(b[8:])
	d.Stride = binary.LittleEndian.Uint32(b[12:])
	d.Count = binary.LittleEndian.Uint32(b[deliverCount:])
	head := uint64(binary.LittleEndian.Uint32(b[deliverHead:]))
	targets := uint64(binary.LittleEndian.Uint32(b[deliverTargets:]))
	b = b[DeliverHeaderSize:]
	if span := uint64(d.Count)*uint64(d.Stride) + uint64(d.Payload.Size); d.Count == 0 || span > maxSpan || d.Count > 1 && d.Stride < max(d.Payload.Size, 1) {
		return Fault("delivery is a run of packets that cannot be")
	}
	if head+targets*TargetSize != uint64(len(b)) {
		return Fault("delivery is not of the size that its header says")
	}
	if d.QoS > 0 && uint64(d.PacketIDAt)+2 > head {
		return Fault("delivery has its packet id outside its head")
	}
	d.Head, d.Targets = b[:head], b[head:]
	return nil
}

// NumTargets says how many receivers a delivery has.
func (d *Deliver) NumTargets() int { return len(d.Targets) / TargetSize }

// Target returns receiver i of a delivery, 0 <= i < NumTargets.
func (d *Deliver) Target(i int) Target {
	b := d.Targets[i*TargetSize : i*TargetSize+TargetSize]
	return Target{
		Conn:     Conn(binary.LittleEndian.Uint32(b)),
		PacketID: binary.LittleEndian.Uint16(b[4:]),
	}
}

// BeginDeliver appends the header of a delivery without targets and returns the offset at which it begins,
// for AppendTarget and EndDeliver. The data of head is appended as it is.
func BeginDeliver(b []byte, source Conn, qos uint8, packetIDAt uint32, payload Ref, head []byte) ([]byte, int) {
	at := len(b)
	b = BeginEffect(b, EffectDeliver, qos, source, packetIDAt)
	var h [DeliverHeaderSize]byte
	binary.LittleEndian.PutUint32(h[:], payload.Space)
	binary.LittleEndian.PutUint32(h[4:], payload.Offset)
	binary.LittleEndian.PutUint32(h[8:], payload.Size)
	binary.LittleEndian.PutUint32(h[deliverCount:], 1)
	binary.LittleEndian.PutUint32(h[deliverHead:], uint32(len(head)))
	b = append(b, h[:]...)
	return append(b, head...), at
}

// AppendTarget appends a receiver to the delivery that was begun last.
func AppendTarget(b []byte, conn Conn, packetID uint16) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(conn)|uint64(packetID)<<32)
}

// EndDeliver completes the delivery that begins at offset at, and says how many receivers it has.
func EndDeliver(b []byte, at int) int {
	size := len(b) - at - EffectHeaderSize
	head := int(binary.LittleEndian.Uint32(b[at+EffectHeaderSize+deliverHead:]))
	n := (size - DeliverHeaderSize - head) / TargetSize
	binary.LittleEndian.PutUint32(b[at+8:], uint32(size))
	binary.LittleEndian.PutUint32(b[at+EffectHeaderSize+deliverTargets:], uint32(n))
	return n
}

// SetRun makes a run of count packets of the delivery that begins at offset at.
func SetRun(b []byte, at int, count, stride uint32) {
	binary.LittleEndian.PutUint32(b[at+EffectHeaderSize+12:], stride)
	binary.LittleEndian.PutUint32(b[at+EffectHeaderSize+deliverCount:], count)
}
