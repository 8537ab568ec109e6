// Package transport moves bytes between network connections and the engine: listeners, pumps that cut streams
// into MQTT packets, and writers that carry out what the core decides.
//
//	net.Conn ── pump ── events ──> engine ── effects ──> Apply ── pending ── writer ── net.Conn
//
// Effects are applied by one goroutine at a time, which runs the engine: mostly the engine's own.
//
// A connection costs one goroutine, its pump. A writer is a goroutine that exists while there is something to
// write. Buffers grow with the traffic and go back to a pool when a connection is idle.
//
// # One goroutine for a message that comes alone
//
// A pump that has read one PUBLISH, and no more, runs an engine that rests by itself, and then writes what the step has left for a few
// connections, as far as their sockets take it at once. So the message is delivered by the goroutine that read it, and nobody else wakes
// up. That never waits for a peer (atonce.go):
//
//   - It writes to a connection only if no writer runs, if it can lock what lies between MQTT and the socket, which the pump of that
//     connection holds while it reads through TLS (which may have to write then), and if this is known to end in the inlet.
//
//   - The inlet gives the socket what that takes without waiting, and keeps the rest of the records. A writer is started
//     for the rest, and until it has ended nobody else writes.
//
// Clients of WebSockets, and those that are still logging in, have writers always.
//
// The pump looks for runs among the packets, of alike messages at QoS 1 and 2 and of acknowledgements, see abi.NextPortion:
// each is one event then, which costs the core as much as a few packets do.
//
// # Below MQTT
//
// A [Listener] takes a connection through these, as its [ListenConfig] says: rates and locked-out addresses, the PROXY
// header, a handshake such as TLS, the upgrade to WebSocket. All of it is bounded by one time and counts as one
// handshake; when there are too many, the oldest is ended. MQTT is then spoken over a net.Conn, whatever lies below.
//
// # Logging in
//
// A client that must log in meets a gate: one packet passes at a time, each when the core asks with EffectProceed.
// EffectAuthenticate runs a step of its [Login] in a goroutine, so that neither the core nor anybody else waits for it.
// The pump goes on reading meanwhile, up to a bound, and sees when the client has gone.
//
// # Numbers
//
// A connection's abi.Conn is its slot in the table and the generation of that slot, so an effect for a
// connection that is gone never reaches the one that came after it.
//
// # Back-pressure
//
// What a connection has still to write is its backlog. [Apply] appends to it and never waits.
//
//   - A target whose backlog passes Limits.SoftBacklog slows its sources: the pump of a connection whose
//     packets led there posts nothing more until the target with the largest backlog among those that it
//     wrote to has come down to half. The pump then does not read either, TCP's window closes, and the flood
//     is slowed where it comes from.
//
//   - A target that made no progress for Limits.StallAfter, or has not come down to half in ten times that, is
//     stalled and loses this courtesy: nobody waits for it. The core is told with EventBlocked and keeps QoS 1
//     and 2 messages in the session's queue. Its QoS 0 messages are dropped and counted until it has read half.
//
//   - Beyond Limits.HardBacklog QoS 0 is dropped whoever the target is; beyond twice that, the connection is
//     closed: what is written then are answers to a client that asks and does not read.
//
//   - A connection that sends faster than its [Rates] waits before its packets are handed over, and is not read
//     meanwhile. The core hears each second that it lives.
//
// # Endings
//
// Each connection posts EventOpen first and EventClosed last, once. When the core closes a connection, what
// was written before is flushed, then the write side is closed and what still comes in is thrown away for a
// moment: closing at once would make TCP discard the farewell that the client has not read yet.
package transport
