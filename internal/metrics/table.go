package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// put takes one value of a metric, with the values of its labels.
type put func(value float64, labels ...string)

// metric is one row of the table: a name, and how its values come from a snapshot.
type metric struct {
	name   string
	kind   prometheus.ValueType
	help   string
	labels []string
	read   func(s *Snapshot, put put)
}

func gauge(name, help string, read func(s *Snapshot) float64) metric {
	return metric{name, prometheus.GaugeValue, help, nil, func(s *Snapshot, put put) { put(read(s)) }}
}

func counter(name, help string, read func(s *Snapshot) uint64) metric {
	return metric{name, prometheus.CounterValue, help, nil, func(s *Snapshot, put put) { put(float64(read(s))) }}
}

// traffic is a counter that is there only if traffic is counted.
func traffic(name, help string, read func(t *Traffic) uint64) metric {
	return metric{name, prometheus.CounterValue, help, nil, func(s *Snapshot, put put) {
		if s.Traffic != nil {
			put(float64(read(s.Traffic)))
		}
	}}
}

// table lists all metrics but the histogram of step times. docs/metrics.md explains each.
func table() []metric {
	var all []metric
	for _, part := range [][]metric{facts(), documents(), quotes(), connections(), sessions(), messages(), refusals(), core()} {
		all = append(all, part...)
	}
	return all
}

func facts() []metric {
	return []metric{
		{"vouchmq_build_info", prometheus.GaugeValue, "Version of the program; always 1.", []string{"version", "go_version"},
			func(s *Snapshot, put put) { put(1, s.Facts.Version, s.Facts.Go) }},
		{"vouchmq_attestation_info", prometheus.GaugeValue, "What the broker's evidence claims; always 1.",
			[]string{"engine", "tee", "module", "config", "runtime"}, func(s *Snapshot, put put) {
				put(1, s.Engine.Kind, s.Facts.TEE, s.Facts.Module, s.Facts.Config, s.Facts.Runtime)
			}},
		gauge("vouchmq_attestation_simulated", "1 if the TEE is simulated and protects nothing.",
			func(s *Snapshot) float64 { return oneIf(s.Facts.Simulated) }),
		gauge("vouchmq_start_time_seconds", "When the broker started, in seconds of the Unix clock.",
			func(s *Snapshot) float64 { return float64(s.Facts.Started.UnixMilli()) / 1e3 }),
		certificate("vouchmq_certificate_expiry_time_seconds", "When the first of the certificates in use expires, in seconds of the Unix clock.",
			func(_ time.Time, c *Certificates) float64 { return float64(c.Expiry.Unix()) }),
		certificate("vouchmq_certificate_renewal_due", "1 if two thirds of the time of a certificate in use are over.",
			func(now time.Time, c *Certificates) float64 { return oneIf(!now.Before(c.Renewal)) }),
	}
}

// documents are gauges by document, there only if there is a store of collateral.
func documents() []metric {
	labels := []string{"document"}
	return []metric{
		{"vouchmq_collateral_usable", prometheus.GaugeValue, "1 if a document of the store of collateral is Intel's, and in its time.", labels,
			func(s *Snapshot, put put) {
				for _, c := range s.Collateral {
					put(oneIf(c.Usable), c.Document)
				}
			}},
		{"vouchmq_collateral_expiry_time_seconds", prometheus.GaugeValue, "When a document of the store of collateral expires, in seconds of the Unix clock.", labels,
			func(s *Snapshot, put put) {
				for _, c := range s.Collateral {
					if !c.Expiry.IsZero() {
						put(float64(c.Expiry.Unix()), c.Document)
					}
				}
			}},
	}
}

func quotes() []metric {
	return []metric{
		counter("vouchmq_quotes_total", "Quotes that the TEE made.", func(s *Snapshot) uint64 { return s.Quotes.Quotes }),
		counter("vouchmq_quotes_failed_total", "Quotes that the TEE could not make.", func(s *Snapshot) uint64 { return s.Quotes.Failures }),
		counter("vouchmq_evidence_total", "Evidence that the broker made; many share a quote.", func(s *Snapshot) uint64 { return s.Quotes.Evidence }),
		gauge("vouchmq_quote_largest_batch", "Evidence that one quote served, at most.", func(s *Snapshot) float64 { return float64(s.Quotes.Largest) }),
	}
}

// certificate is a gauge that is there only if there are certificates.
func certificate(name, help string, read func(now time.Time, c *Certificates) float64) metric {
	return metric{name, prometheus.GaugeValue, help, nil, func(s *Snapshot, put put) {
		if s.Certificates != nil {
			put(read(s.At, s.Certificates))
		}
	}}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func connections() []metric {
	return []metric{
		gauge("vouchmq_connections", "Network connections now.", func(s *Snapshot) float64 { return float64(s.Transport.Connections) }),
		gauge("vouchmq_handshakes", "Handshakes under way now.", func(s *Snapshot) float64 { return float64(s.Transport.Handshakes) }),
		counter("vouchmq_connections_accepted_total", "Network connections that came.", func(s *Snapshot) uint64 { return s.Transport.Accepted }),
		counter("vouchmq_connections_rejected_total", "Network connections ended at once because there were too many.",
			func(s *Snapshot) uint64 { return s.Transport.Refused }),
		counter("vouchmq_handshakes_failed_total", "Handshakes that failed.", func(s *Snapshot) uint64 { return s.Transport.FailedHandshakes }),
		counter("vouchmq_connections_stalled_total", "Times that a client stopped reading.", func(s *Snapshot) uint64 { return s.Transport.Stalled }),
		counter("vouchmq_connections_overflowed_total", "Connections ended because the client did not read.",
			func(s *Snapshot) uint64 { return s.Transport.Overflowed }),
		traffic("vouchmq_received_packets_total", "MQTT packets received.", func(t *Traffic) uint64 { return t.PacketsIn }),
		traffic("vouchmq_sent_packets_total", "MQTT packets sent.", func(t *Traffic) uint64 { return t.PacketsOut }),
		traffic("vouchmq_received_bytes_total", "Bytes of MQTT packets received.", func(t *Traffic) uint64 { return t.BytesIn }),
		traffic("vouchmq_sent_bytes_total", "Bytes of MQTT packets sent.", func(t *Traffic) uint64 { return t.BytesOut }),
	}
}

func sessions() []metric {
	return []metric{
		gauge("vouchmq_sessions", "Sessions now, connected or not.", func(s *Snapshot) float64 { return float64(s.Core.Sessions) }),
		gauge("vouchmq_sessions_connected", "Sessions with a connection now.", func(s *Snapshot) float64 { return float64(s.Core.Connections) }),
		gauge("vouchmq_subscriptions", "Subscriptions now.", func(s *Snapshot) float64 { return float64(s.Core.Subscriptions) }),
		gauge("vouchmq_shared_subscriptions", "Shared subscriptions now, part of all subscriptions.",
			func(s *Snapshot) float64 { return float64(s.Core.Shared) }),
	}
}

func messages() []metric {
	return []metric{
		counter("vouchmq_messages_received_total", "Messages received from clients.", func(s *Snapshot) uint64 { return s.Core.Received }),
		counter("vouchmq_messages_sent_total", "Messages sent, one for each receiver.", func(s *Snapshot) uint64 { return s.Core.Sent }),
		{"vouchmq_messages_dropped_total", prometheus.CounterValue, "Messages dropped, one for each receiver.", []string{"reason"}, dropped},
		gauge("vouchmq_retained_messages", "Retained messages now.", func(s *Snapshot) float64 { return float64(s.Core.Retained) }),
		gauge("vouchmq_retained_bytes", "Bytes of retained messages now.", func(s *Snapshot) float64 { return float64(s.Core.RetainedBytes) }),
		gauge("vouchmq_queued_messages", "Messages that wait for clients or their acknowledgement now.",
			func(s *Snapshot) float64 { return float64(s.Core.Queued) }),
		gauge("vouchmq_inflight_messages", "Messages sent and not acknowledged now, part of those queued.",
			func(s *Snapshot) float64 { return float64(s.Core.Inflight) }),
		gauge("vouchmq_stored_bytes", "Bytes of messages that the core keeps now.", func(s *Snapshot) float64 { return float64(s.Core.MessageBytes) }),
	}
}

func dropped(s *Snapshot, put put) {
	put(float64(s.Core.DroppedQoS0), "blocked")
	put(float64(s.Transport.DroppedQoS0), "backlog")
	put(float64(s.Core.DroppedQueue), "queue")
	put(float64(s.Core.Expired), "expired")
}

func refusals() []metric {
	return []metric{
		counter("vouchmq_logins_total", "Clients that authentication let in.", func(s *Snapshot) uint64 { return s.Core.Authenticated }),
		counter("vouchmq_connects_refused_total", "CONNECT packets refused, for whatever reason.", func(s *Snapshot) uint64 { return s.Core.Refused }),
		counter("vouchmq_requests_denied_total", "Publishes and subscribes that the rules refused, and what of subscriptions, waiting messages and wills they ended.", func(s *Snapshot) uint64 { return s.Core.Denied }),
		counter("vouchmq_protocol_errors_total", "Connections ended because the client broke the protocol.",
			func(s *Snapshot) uint64 { return s.Core.Faults }),
		{"vouchmq_limits_met_total", prometheus.CounterValue, "Times that a limit was met.", []string{"limit"}, limits},
		{"vouchmq_guard_events_total", prometheus.CounterValue, "What authentication and the guard against brute force did.",
			[]string{"event"}, func(s *Snapshot, put put) {
				for event, n := range s.Guard {
					put(float64(n), event)
				}
			}},
		gauge("vouchmq_guard_locked_addresses", "Addresses that are locked out now.", func(s *Snapshot) float64 { return float64(s.LockedOut) }),
	}
}

func limits(s *Snapshot, put put) {
	for i, n := range s.Core.LimitsMet {
		name := abi.LimitKind(i).String()
		put(float64(n+s.Limits[name]), name)
	}
	for name, n := range s.Limits {
		if !isCoreLimit(name) {
			put(float64(n), name)
		}
	}
}

func isCoreLimit(name string) bool {
	for i := range abi.NumLimits {
		if abi.LimitKind(i).String() == name {
			return true
		}
	}
	return false
}

func core() []metric {
	return []metric{
		gauge("vouchmq_core_memory_bytes", "Bytes that the tables of the core take now.", func(s *Snapshot) float64 { return float64(s.Core.Memory) }),
		gauge("vouchmq_module_memory_bytes", "Bytes of the module's linear memory now; 0 for the native engine.",
			func(s *Snapshot) float64 { return float64(s.Engine.Memory) }),
		counter("vouchmq_core_restarts_total", "Cores that failed and were replaced.", func(s *Snapshot) uint64 { return s.Engine.Restarts }),
		counter("vouchmq_batches_total", "Batches of events that the core handled.", func(s *Snapshot) uint64 { return s.Engine.Batches }),
		counter("vouchmq_event_bytes_total", "Bytes of events that the core handled.", func(s *Snapshot) uint64 { return s.Engine.EventBytes }),
		gauge("vouchmq_event_queue_bytes", "Bytes of events that wait for the core now.", func(s *Snapshot) float64 { return float64(s.Engine.QueueBytes) }),
		gauge("vouchmq_step_longest_seconds", "Longest step of the core, by the clock on the wall.",
			func(s *Snapshot) float64 { return s.Engine.LongestStep.Seconds() }),
		gauge("vouchmq_step_busiest_seconds", "Longest step of the core, by the processor time that it used; 0 where that is not known.",
			func(s *Snapshot) float64 { return s.Engine.BusiestStep.Seconds() }),
	}
}
