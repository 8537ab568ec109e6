// Package abi is the contract between the broker's core and the host that runs it: how events go in and
// effects come out, byte for byte.
//
// The core (package broker) is a deterministic state machine. The host gathers what has happened, one
// [EventKind] each, into a batch, hands the batch to the core's step, and carries out the effects that come
// back. The same bytes serve the core compiled to WebAssembly and the core compiled into the host, which is
// what lets a test compare the two.
//
//	batch   = batch header (48 bytes), then events
//	event   = event header (16 bytes), data
//	effects = effects header (32 bytes), then effects
//	effect  = effect header (16 bytes), data
//
// All numbers are little-endian. Nothing is aligned. Sizes are in bytes, times in milliseconds of the Unix
// clock, made by the host so that they never go back.
//
// # Payloads
//
// A payload is never copied by the core. A delivery names a [Ref]: a range of the batch (space 0) or of one
// of the chunks in which the core keeps messages (space n is chunk n-1). The host copies the range out
// while it applies the effects, before the next step.
//
// # Exports of the module
//
// A module is a WASI preview 1 reactor. It exports its memory and these functions:
//
//	vouchmq_abi_version() -> i32          Version
//	vouchmq_batch(size i32) -> i32        address of room for a batch of that many bytes
//	vouchmq_step(start, end i32) -> i64   runs the events in [start, end) of the batch; address<<32 | size of the effects
//	vouchmq_chunk(index i32) -> i64       address<<32 | size of a chunk; size 0 if there is no such chunk
//
// The addresses of a batch and of a chunk stay what they are until the next call of vouchmq_batch; those of
// effects until the next step.
//
// A step may stop before the end, when it has done as much work as one step should: the effects header says
// how far it came, and the host calls again from there. The batch header is read at every call.
package abi

// Version is the number of this contract. Host and core refuse to work with another one.
const Version = 2

// Names of the functions that a module exports, see the package comment.
const (
	ExportVersion = "vouchmq_abi_version"
	ExportBatch   = "vouchmq_batch"
	ExportStep    = "vouchmq_step"
	ExportChunk   = "vouchmq_chunk"
)

// Conn is the host's number of a connection, never 0 for a real one. The host reuses a number only after it
// has told the core with [EventClosed] that the connection ended.
type Conn uint32

// Ref names a range of bytes: of the batch if Space is 0, of chunk Space-1 of the core otherwise.
type Ref struct {
	Space  uint32
	Offset uint32
	Size   uint32
}

// Fault says why bytes that should follow this contract do not. It is an error of the program on the other
// side, never of an MQTT client.
type Fault string

func (f Fault) Error() string { return "abi: " + string(f) }

// SlotBits is how many of the low bits of a [Conn] are its slot: a small number, from 1, that the host uses
// again for a later connection. The bits above tell apart the connections that used the slot.
const SlotBits = 24

// Slot returns the slot of a connection: from 1 to 1<<SlotBits - 1.
func (c Conn) Slot() uint32 { return uint32(c) & (1<<SlotBits - 1) }
