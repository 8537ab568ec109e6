package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bar is what VouchMQ aims at, and what was measured.
type Bar struct {
	What    string  `json:"what"`
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"` // else at most
	Unit    string  `json:"unit,omitempty"`
	// Spread are the extremes over the rounds, where there are rounds.
	Spread string `json:"spread,omitempty"`
}

// Met reports whether it was reached.
func (b Bar) Met() bool {
	if b.AtLeast {
		return b.Value >= b.Limit
	}
	return b.Value <= b.Limit
}

// Verdict says whether it was reached.
func (b Bar) Verdict() string {
	if b.Met() {
		return "reached"
	}
	return "NOT reached"
}

// String is a line for people.
func (b Bar) String() string {
	return fmt.Sprintf("%-72s %8s  %-16s %-16s %s", b.What, b.value(), b.Spread, b.limit(), b.Verdict())
}

func (b Bar) value() string { return strconv.FormatFloat(b.Value, 'g', 3, 64) + unit(b.Unit) }

func (b Bar) limit() string {
	words := "at most "
	if b.AtLeast {
		words = "at least "
	}
	return words + strconv.FormatFloat(b.Limit, 'g', 4, 64) + unit(b.Unit)
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

// What is aimed at.
const (
	barPayload      = 64     // bytes
	paperRate       = 200    // messages per second, the paper's highest
	highRate        = 20_000 // messages per second
	paperRateRatio  = 1.1
	highRateP99     = 2 * time.Millisecond
	connackLater    = 5 * time.Millisecond
	connackAt       = 80 * time.Millisecond // round trip
	barStep         = 10 * time.Millisecond // of processor time
	barStepSessions = 100_000
	barStepFilters  = 1_000_000
	barIdleBytes    = 40 << 10 // of the process for an idle attested connection
	barSpread       = 0.15     // how much more a delivery may cost with many topics or receivers
)

// lossGoals are how many times as much the same broker may deliver natively over ordinary TLS, by QoS. The paper lost a
// factor of 1.55.
var lossGoals = [3]float64{1.15, 1.25, 1.25}

// mosquittoGoals are how many times as much as Mosquitto, by QoS and shape.
var mosquittoGoals = [3]map[string]float64{
	{"p2p": 10, "fan-in": 10, "fan-out": 8},
	{"p2p": 5, "fan-in": 5, "fan-out": 5},
	{"p2p": 4, "fan-in": 4, "fan-out": 4},
}

// throughputLimit is what is aimed at for a ratio; 0 if nothing is.
func throughputLimit(qos byte, payload int, r Ratio) (limit float64, atLeast bool) {
	switch {
	case payload != barPayload:
		return 0, false
	case r.To == WasmAttested:
		return lossGoals[qos], false
	case r.To == MosquittoTLS:
		return mosquittoGoals[qos][r.Shape], true
	}
	return 0, false
}

// isOther reports whether a variant is another broker.
func isOther(variant string) bool {
	return !strings.HasPrefix(variant, "native-") && !strings.HasPrefix(variant, "wasm-")
}

// Bars compares what was measured with what VouchMQ aims at. What was not measured is not among them.
func (e *Evaluation) Bars() (all []Bar) {
	for _, r := range e.Throughput {
		all = append(all, r.bars()...)
	}
	for _, r := range e.Paced {
		all = append(all, r.bars()...)
	}
	for _, c := range e.Connects {
		all = append(all, c.bars()...)
	}
	if e.Steps != nil {
		all = append(all, e.Steps.bars()...)
	}
	if e.Scale != nil {
		all = append(all, e.Scale.bars()...)
	}
	return all
}

func (r Report) bars() (all []Bar) {
	for _, ratio := range r.Ratios {
		if ratio.Limit != 0 {
			all = append(all, ratio.bar(fmt.Sprintf("%s / %s, QoS %d, %d bytes, %s", ratio.Of, ratio.To, r.QoS, r.Payload, ratio.Shape)))
		}
	}
	return all
}

func (r Ratio) bar(what string) Bar {
	return Bar{What: what, Value: r.Value, Limit: r.Limit, AtLeast: r.AtLeast, Spread: fmt.Sprintf("%.2f to %.2f", r.Least, r.Most)}
}

func (r PacedReport) bars() (all []Bar) {
	if r.Case != rateCase {
		return nil
	}
	for _, ratio := range r.Ratios {
		if ratio.X == paperRate && ratio.Of == WasmAttested && ratio.To == MosquittoTLS {
			all = append(all, Bar{
				What:  fmt.Sprintf("p99 at %d messages/s of %d bytes, %s / %s", paperRate, r.Payload, ratio.Of, ratio.To),
				Value: ratio.Value, Limit: paperRateRatio, Spread: fmt.Sprintf("%.2f to %.2f", ratio.Least, ratio.Most),
			})
		}
	}
	i := slices.IndexFunc(r.Rows, func(row PacedRow) bool { return row.X == highRate && row.Variant == WasmAttested && row.Failed == 0 })
	if i >= 0 {
		row := r.Rows[i]
		all = append(all, Bar{
			What:  fmt.Sprintf("p99 at %s messages/s of %d bytes, %s", thousands(highRate), r.Payload, row.Variant),
			Value: row.P99.Number() / 1000, Limit: milliseconds(highRateP99), Unit: "ms",
			Spread: fmt.Sprintf("%.3g to %.3g", row.LeastP99.Number()/1000, row.MostP99.Number()/1000),
		})
	}
	return all
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (c ConnectCase) bars() []Bar {
	if time.Duration(c.RoundTrip) != connackAt {
		return nil
	}
	return []Bar{{
		What: fmt.Sprintf("CONNACK attested minus TLS, round trip %v", connackAt), Value: milliseconds(c.Difference), Limit: milliseconds(connackLater), Unit: "ms",
	}}
}

// bars are of what was measured: fewer connections or topics than the aim names would say too little.
func (r ScaleReport) bars() (all []Bar) {
	for _, i := range r.Idle {
		if i.Transport == "attested" {
			all = append(all, Bar{
				What:  fmt.Sprintf("memory of an idle attested connection, %s of them", thousands(float64(i.Connections))),
				Value: i.Each() / 1024, Limit: barIdleBytes >> 10, Unit: "KiB",
			})
		}
	}
	for _, c := range r.Costs {
		all = append(all, Bar{
			What:  fmt.Sprintf("cost of a delivery with %s %s / with %d", thousands(float64(c.Many)), c.Of, c.Few),
			Value: 1 + c.Dearer(), Limit: 1 + barSpread,
		})
	}
	return all
}
