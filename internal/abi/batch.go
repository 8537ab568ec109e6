package abi

import "encoding/binary"

// Sizes of the fixed parts of a batch.
const (
	BatchHeaderSize = 48
	EventHeaderSize = 16
	EntropySize     = 32
)

// EventKind tells what happened.
type EventKind uint8

// The kinds of event. "Data" is what follows the event header; "Arg" is the number in it.
const (
	// EventConfigure gives the core its limits and rules. It is the first event that a core sees and may
	// come again. Data: see [Config].
	EventConfigure EventKind = 1 + iota
	// EventOpen announces a connection. Data: see [Peer].
	EventOpen
	// EventPackets brings whole MQTT packets, one after the other, that a connection sent. Arg: how many. With none
	// it says that the connection lives, and its packets wait on the host's side.
	EventPackets
	// EventBadPacket says that what a connection sent is not a packet. Arg: the MQTT 5 reason code, 0x81 or
	// 0x95. Nothing more comes from it.
	EventBadPacket
	// EventClosed says that a connection ended, for whatever reason; also after the core closed it.
	EventClosed
	// EventBlocked says that a connection does not take what is written to it: the core keeps QoS 1 and 2
	// messages in the session's queue and drops those of QoS 0.
	EventBlocked
	// EventUnblocked ends EventBlocked.
	EventUnblocked
	// EventDisconnect asks the core to end a connection. Arg: the MQTT 5 reason code to give.
	EventDisconnect
	// EventShutdown asks the core to end all connections; their wills are not published. Arg: the MQTT 5 reason code
	// to give, 0 is 0x8B. Data: a server reference to give with 0x9C and 0x9D, or nothing. A client whose CONNECT has not
	// been answered gets a CONNACK with the same, or with 0x88 where CONNACK has no such code.
	EventShutdown
	// EventStats asks for [EffectStats].
	EventStats
	// EventSynced answers [EffectSync].
	EventSynced
	// EventAuthenticated answers [EffectAuthenticate]. Arg: the MQTT 5 reason code: 0 lets the client in, 0x18 goes on
	// with enhanced authentication, one from 0x80 refuses. Data: see [AuthAnswer].
	EventAuthenticated
	// EventPublish publishes a message of the host's own, such as those below $SYS; no rule applies to it. One that is
	// malformed means nothing. Data: see [Publication].
	EventPublish
	// EventAsk asks for what the core holds, a page at a time, or for a change; [EffectAnswer] answers it. Arg: a number
	// that comes back with the answer. Data: see [Question].
	EventAsk
	// EventPublishes is EventPackets for a run of PUBLISH packets at QoS 1 or 2 that are of the same size, are the same up
	// to the packet id, and have packet ids that follow each other, none of them 0.
	EventPublishes
	// EventAcks is EventPackets for a run of PUBACK, PUBREC, PUBREL or PUBCOMP of one kind, in their shortest form, whose
	// packet ids follow each other, none of them 0. Data: the first of them.
	EventAcks
)

// BatchHeader is what the host knows at the time of a step.
type BatchHeader struct {
	Now     int64             // milliseconds of the Unix clock; never smaller than in the batch before
	Entropy [EntropySize]byte // fresh random bytes
}

// PutBatchHeader writes h to the first BatchHeaderSize bytes of b.
func PutBatchHeader(b []byte, h *BatchHeader) {
	binary.LittleEndian.PutUint32(b, Version)
	binary.LittleEndian.PutUint32(b[4:], 0)
	binary.LittleEndian.PutUint64(b[8:], uint64(h.Now))
	copy(b[16:BatchHeaderSize], h.Entropy[:])
}

// ReadBatchHeader reads what PutBatchHeader wrote.
func ReadBatchHeader(b []byte, h *BatchHeader) error {
	if len(b) < BatchHeaderSize {
		return Fault("batch is shorter than its header")
	}
	if binary.LittleEndian.Uint32(b) != Version {
		return Fault("batch is of another version")
	}
	h.Now = int64(binary.LittleEndian.Uint64(b[8:]))
	copy(h.Entropy[:], b[16:BatchHeaderSize])
	return nil
}

// Event is one thing that happened. Data aliases the batch.
type Event struct {
	Kind EventKind
	Conn Conn
	Arg  uint32
	Data []byte
	At   uint32 // offset of Data in the batch
}

// PutEvent writes an event with its data to b, which must have room for EventHeaderSize + len(data) bytes,
// and returns how many it wrote.
func PutEvent(b []byte, kind EventKind, conn Conn, arg uint32, data []byte) int {
	putHeader(b, uint8(kind), 0, uint32(conn), uint32(len(data)), arg)
	return EventHeaderSize + copy(b[EventHeaderSize:], data)
}

// AppendEvent is PutEvent for a slice that grows.
func AppendEvent(b []byte, kind EventKind, conn Conn, arg uint32, data []byte) []byte {
	b = appendHeader(b, uint8(kind), 0, uint32(conn), uint32(len(data)), arg)
	return append(b, data...)
}

// NextEvent reads the event at offset at of the batch and returns the offset of the one behind it.
func NextEvent(batch []byte, at uint32, e *Event) (next uint32, err error) {
	if uint64(at)+EventHeaderSize > uint64(len(batch)) {
		return 0, Fault("event header reaches over the end of the batch")
	}
	h := batch[at : at+EventHeaderSize]
	size := binary.LittleEndian.Uint32(h[8:])
	start := at + EventHeaderSize
	if uint64(start)+uint64(size) > uint64(len(batch)) {
		return 0, Fault("event data reaches over the end of the batch")
	}
	e.Kind = EventKind(h[0])
	e.Conn = Conn(binary.LittleEndian.Uint32(h[4:]))
	e.Arg = binary.LittleEndian.Uint32(h[12:])
	e.Data = batch[start : start+size]
	e.At = start
	return start + size, nil
}

// putHeader writes the header that events and effects share: kind, flags, two zero bytes, connection, size
// of the data, argument.
func putHeader(b []byte, kind, flags uint8, conn, size, arg uint32) {
	b = b[:EventHeaderSize]
	b[0], b[1], b[2], b[3] = kind, flags, 0, 0
	binary.LittleEndian.PutUint32(b[4:], conn)
	binary.LittleEndian.PutUint32(b[8:], size)
	binary.LittleEndian.PutUint32(b[12:], arg)
}

func appendHeader(b []byte, kind, flags uint8, conn, size, arg uint32) []byte {
	var h [EventHeaderSize]byte
	putHeader(h[:], kind, flags, conn, size, arg)
	return append(b, h[:]...)
}
