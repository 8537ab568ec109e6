// Package bench measures brokers: how many messages a second they deliver, whether they stay as they are under
// hours of load, and how long a client waits for its connection.
//
// The load generator must cost little, for it runs on the processors of the broker that it measures:
//
//   - All its connections are in one process; each broker is another.
//   - A publisher writes one buffer of ready PUBLISH packets over and over, 16 KiB at a time, which is one record
//     of TLS.
//   - A subscriber reads as much as there is and counts packets by their fixed headers. It allocates nothing.
//
// A measurement at QoS 0 is a closed pipeline: nothing limits a publisher but the broker, which reads it as fast
// as it gets rid of what it has read. What is counted are messages that have reached subscribers within a window
// after a warm-up. Afterwards the publishers stop, the pipeline drains, and what was sent is compared with what has
// come: a broker that is fast because it drops shows as such.
//
// [Measure] takes one measurement, [Throughput] many of them, for several brokers in turn; [Soak] puts a broker
// under load for long and watches its memory; [ConnectTimes] measures the time to CONNACK over a slow network, and [Handshakes]
// what it costs to connect.
package bench
