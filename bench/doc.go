// Package bench measures brokers: how many messages a second they deliver, whether they stay as they are under
// hours of load, and how long a client waits for its connection.
//
// The load generator must cost little, for it runs on the processors of the broker that it measures:
//
//   - All its connections are in one process; each broker is another.
//   - A publisher writes one buffer of ready PUBLISH packets over and over, 16 KiB at a time, which is one record
//     of TLS.
//   - A subscriber reads as much as there is and counts packets by their fixed headers. It allocates nothing.
//   - At QoS 1 and 2 publishers keep up to [Window] messages in flight, but at most 1 MiB, and subscribers allow [ReceiveMaximum]. A subscriber
//     acknowledges all that it has read in one go.
//
// A measurement at QoS 0 is a closed pipeline: nothing limits a publisher but the broker, which reads it as fast
// as it gets rid of what it has read. What is counted are messages that have reached subscribers within a window
// after a warm-up. Afterwards the publishers stop, the pipeline drains, and what was sent is compared with what has
// come: a broker that is fast because it drops shows as such.
//
// A measurement of latency is an open loop: each message has its time, which does not depend on the broker, and
// latency counts from that time ([Pace]).
//
// [Measure] takes one measurement of throughput, [Throughput] many of them, for several brokers in turn;
// [MeasurePace] and [Paced] do the same for latency, in the cases of the paper that VouchMQ comes from; [Soak] puts a
// broker under load for long and watches its memory; [Scale] measures what many subscriptions and connections cost, and the
// longest step; [Match] measures what it costs to find the receivers of a message;
// [ConnectTimes] measures the time to CONNACK over a slow network, and [Handshakes] what it costs to connect. An [Evaluation] is all that was measured at one go,
// with the machine, and can be written as a page.
package bench
