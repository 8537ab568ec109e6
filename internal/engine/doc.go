// Package engine runs a broker core: it gathers what happened into batches, calls the core's step, and hands
// the effects to whoever carries them out.
//
// # Parts
//
// A [Core] is one running core. Two kinds exist: [Native], which is package broker compiled into this
// program, and the instances of a [Module], which is the same package compiled to WebAssembly and run by
// wazero. For any batch both give the same effects, byte for byte; a test shows it.
//
// An [Engine] owns a core. One goroutine runs it, unless there is next to nothing to do:
//
//	producers ── Open, Post ──> queue ── batch ──> Core.Step ── effects ──> Applier.Apply
//
// Batching is natural: a batch is what has come while the last step ran. There is no timer that waits for
// more. The queue is bounded in bytes: [Engine.Post] of packets blocks while it is full, so whoever reads
// from a socket reads more slowly. Events of one connection keep their order.
//
// # One alone
//
// While there is little to do, what a message costs is to wake up: the goroutine that reads it, the engine's, and those that write. So
// a producer that has one event and nothing more may hand it over with [Engine.PostAndStep]. If no step has been taken for a while
// ([Config.Rest]) and nobody runs the core, the producer does so itself, for its own event and no other: what comes meanwhile
// waits in the queue for the engine's goroutine, which also does the work that the step may have left, replaces the core if it has
// failed, and wakes up when the core wants to. A lock, the baton, is held by whoever runs the core; what leaves the queue leaves it
// under the baton, so that events keep their order. Under load no engine rests, and batches are what they were.
//
// # Clock and entropy
//
// The core has neither. The engine writes both into the header of every batch: milliseconds of the Unix
// clock made of the wall clock at the start and the monotonic clock since, so that they never go back; and
// 32 bytes from a ChaCha8 generator seeded by the system.
//
// # When a core fails
//
// A trap in the module, a panic in the native core, or effects that do not follow package abi end the
// instance. The engine drops the events that were queued for it, tells the applier to close the connections
// ([Applier.Reset]), makes a fresh instance and configures it. Listeners never notice. If instances fail in
// quick succession the engine waits between them, twice as long each time.
//
// A step that does not come back cannot be interrupted: native code compiled from WebAssembly has no
// safepoints, so neither a goroutine nor the collector can stop it, and the next collection would freeze
// the whole process. (wazero can check for cancellation at every loop, which makes a Go module five times
// slower.) So a step past [Config.HungStep] ends the process with a message; on Linux a timer of the kernel
// does it even if the collector has already stopped every goroutine, see deadman_linux.go. Whatever started
// the process starts it again.
package engine
