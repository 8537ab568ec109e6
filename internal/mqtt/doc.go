// Package mqtt reads and writes the packets of MQTT 3.1, 3.1.1 and 5.0.
//
// It is a codec and nothing more: no sockets, no clock, no session state. The
// broker core uses it inside WebAssembly, the connection pumps use it to cut a
// stream into packets, and the load generator and the tests use its other half
// to speak as clients. Both directions of all fifteen packet types are here.
//
// # How the parts fit
//
// A stream is cut into packets by [FrameSize], which looks at the fixed header
// alone. Every parser then takes one whole packet, fixed header included, and
// the version of the connection, and fills a structure of the caller:
//
//	size, ok, fault := mqtt.FrameSize(stream)
//	frame := stream[:size]
//	switch mqtt.TypeOf(frame) {
//	case mqtt.PUBLISH:
//		fault = mqtt.ParsePublish(frame, version, &publish)
//
// [ParseConnect] takes no version: it finds it. PUBLISH, DISCONNECT and AUTH
// have rules that depend on who sends them; the plain names ([ParsePublish],
// [ParseDisconnect], [ParseAuth]) read what a client sends, and the names with
// Server in them read what a server sends.
//
// Every packet has a builder (AppendPublish and so on) that appends to a slice
// of the caller. A builder that is given what MQTT cannot carry (a string longer
// than 65,535 bytes, a packet longer than [MaxPacketSize]) appends nothing, so
// a result as long as the input means a refusal. Builders check no more than
// that: their input comes from this program, not from a peer.
//
// # What the caller owes and gets
//
// Parsers do not copy: every []byte in a structure is a part of the input, cut
// to its length so that appending to it cannot overwrite what follows, and valid
// as long as the input is. Parsers and builders do not allocate, given
// structures that are used again and slices with room. A structure is filled
// completely by each parse, except that the fields of [Properties] mean
// something only where Properties.Has says so. After a fault, a structure means
// nothing (but see [ParseConnect] for Connect.Version).
//
// A server that hands a message on takes the Properties of the PUBLISH, keeps
// [ForwardProperties] in Has, and adds what belongs to the receiver. A copied
// Properties shares its slices with the original: give the copy SubscriptionIDs
// of its own before the original parses again.
//
// A parser that returns nil has checked all that MQTT says about the form of the
// packet: flags, lengths, UTF-8, topic names and filters, reason codes,
// properties and their values. What needs memory of earlier packets (a second
// CONNECT, an unknown topic alias, a packet identifier in use) is for the caller.
//
// A refusal is a [*Fault]: a constant with the MQTT 5 reason code to answer
// with, a text for the log and the number of the broken statement. A nil *Fault
// is success. Do not put a *Fault into an error variable by assignment, a nil
// one would not compare equal to nil; use [Fault.Err].
//
// # Version differences
//
// MQTT 3.1 is read as its text allows: unused header flags are ignored, the user
// name and the password may be missing although their flags are set, a client
// identifier has 1 to 23 characters. Statement numbers are those of MQTT 5.0
// unless the text names MQTT 3.1.1.
package mqtt
