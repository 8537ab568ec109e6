package bench

import (
	"encoding/csv"
	"io"
	"strconv"
)

// WriteCSV writes every measurement.
func (r HandshakeReport) WriteCSV(w io.Writer) error {
	lines := [][]string{{"variant", "round", "handshakes_per_second", "client_ns", "broker_ns"}}
	rounds := map[string]int{}
	for _, s := range r.Samples {
		rounds[s.Variant]++
		lines = append(lines, []string{
			s.Variant, strconv.Itoa(rounds[s.Variant]), decimal(s.Rate), strconv.FormatInt(int64(s.Client), 10), strconv.FormatInt(int64(s.Broker), 10),
		})
	}
	return writeLines(w, lines)
}

// WriteCSV writes every measurement.
func (r VerifyReport) WriteCSV(w io.Writer) error {
	lines := [][]string{{"evidence", "round", "ns"}}
	for _, s := range r.Samples {
		lines = append(lines, []string{s.Evidence, strconv.Itoa(s.Round), strconv.FormatInt(int64(s.Each), 10)})
	}
	return writeLines(w, lines)
}

// WriteCSV writes the broker's memory over time.
func (r SoakReport) WriteCSV(w io.Writer) error {
	lines := [][]string{{"at_seconds", "rss_bytes"}}
	for _, s := range r.RSS {
		at, _ := s.At.MarshalJSON() // which does not fail
		lines = append(lines, []string{string(at), strconv.FormatUint(s.Bytes, 10)})
	}
	return writeLines(w, lines)
}

// WriteCSV writes every measurement, a value a line.
func (r ScaleReport) WriteCSV(w io.Writer) error {
	lines := [][]string{{"part", "what", "round", "value", "unit"}}
	add := func(part, what string, round int, value float64, unit string) {
		lines = append(lines, []string{part, what, strconv.Itoa(round), decimal(value), unit})
	}
	if r.SubscriptionBytes > 0 {
		add("subscriptions", "empty", 1, float64(r.EmptyBytes), "bytes")
		add("subscriptions", "clients", 1, float64(r.ClientsBytes), "bytes")
		add("subscriptions", "all", 1, float64(r.SubscriptionBytes), "bytes")
	}
	for _, i := range r.Idle {
		add("idle", i.Transport, 1, float64(i.Bytes), "bytes")
	}
	for _, c := range r.Costs {
		for _, s := range c.Samples {
			add(c.Of, strconv.Itoa(c.Few), s.Round, s.Cost, "ns")
			add(c.Of, strconv.Itoa(c.Many), s.Round, s.Then, "ns")
		}
	}
	if r.Steps != nil {
		for _, p := range r.Steps.Phases {
			add("steps", p.Name, 1, float64(p.Used), "ns")
		}
	}
	return writeLines(w, lines)
}

func writeLines(w io.Writer, lines [][]string) error { return csv.NewWriter(w).WriteAll(lines) }

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
