package bench

import (
	"fmt"
	"math"
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

func (b Bar) value() string { return short(b.Value) + unit(b.Unit) }

func (b Bar) limit() string {
	words := "at most "
	if b.AtLeast {
		words = "at least "
	}
	return words + strconv.FormatFloat(b.Limit, 'g', 4, 64) + unit(b.Unit)
}

// short writes a number with three digits, or all of those before the point.
func short(f float64) string {
	if math.Abs(f) >= 1000 && !math.IsInf(f, 0) {
		return thousands(f)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}

func unit(u string) string {
	if u == "" {
		return ""
	}
	return " " + u
}

// What is aimed at.
const (
	barPayload       = 64     // bytes
	paperRate        = 200    // messages per second, the paper's highest
	highRate         = 20_000 // messages per second
	paperRateRatio   = 1.1
	highRateP99      = 2 * time.Millisecond
	barHandshakes    = 0.65                  // attested handshakes for each ordinary one, of the same processor time
	barStep          = 10 * time.Millisecond // of processor time
	barSessions      = 100_000
	barSubscriptions = 1_000_000
)

// MostDearer is how much more a delivery may cost with many topics or receivers: this part of what it costs with few.
const MostDearer = 0.15

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

// Aim is one thing that VouchMQ aims at, with what a run measured of it.
type Aim struct {
	What  string `json:"what"`
	Limit string `json:"limit"`
	Bars  []Bar  `json:"bars"` // empty if nothing of it was measured
}

// Aims are all that VouchMQ aims at, in the order in which they matter, with what was measured.
func (e *Evaluation) Aims() []Aim {
	return []Aim{
		{"native TLS / WebAssembly attested TLS, QoS 0, 64 bytes (the paper: 1.55)", "at most 1.15", e.ratioBars(WasmAttested, 0)},
		{"the same at QoS 1 and 2", "at most 1.25", e.ratioBars(WasmAttested, 1, 2)},
		{"WebAssembly attested TLS / Mosquitto TLS, QoS 0, 64 bytes", "at least 10, fan-out 8", e.ratioBars(MosquittoTLS, 0)},
		{"the same at QoS 1 and 2", "at least 5 and 4", e.ratioBars(MosquittoTLS, 1, 2)},
		{"p99 latency at 200 messages/s, WebAssembly attested TLS / Mosquitto TLS", "at most 1.1", e.pacedBars(PacedReport.paperRateBars)},
		{"p99 latency at 20,000 messages/s, open loop", "at most 2 ms", e.pacedBars(PacedReport.highRateBars)},
		{"CONNACK attested minus TLS, round trip 80 ms, quote 0 ms", "at most 5 ms", barsOf(e.Connect)},
		{"attested / TLS handshakes for each second of processor time", "at least 0.65", barsOf(e.Handshakes)},
		{"longest step with 100,000 sessions and 1,000,000 subscriptions, under load", "at most 10 ms", barsOf(e.steps())},
		{"memory for each idle attested connection", "at most 40 KiB", barsOf(e.Connections)},
		{"cost of a delivery, 10 to 10,000 topics, 10 to 1,000 subscribers", "flat within 15 %", barsOf(e.Scale)},
	}
}

// Bars are those of all aims.
func (e *Evaluation) Bars() (all []Bar) {
	for _, aim := range e.Aims() {
		all = append(all, aim.Bars...)
	}
	return all
}

// barsOf are the bars of a report that there may be.
func barsOf[R interface {
	comparable
	bars() []Bar
}](report R) []Bar {
	var none R
	if report == none {
		return nil
	}
	return report.bars()
}

func (e *Evaluation) steps() *StepsReport {
	if e.Scale == nil {
		return nil
	}
	return e.Scale.Steps
}

// ratioBars are those of ratios to a variant at some QoS.
func (e *Evaluation) ratioBars(to string, qos ...byte) (all []Bar) {
	for _, r := range e.Throughput {
		for _, ratio := range r.Ratios {
			if ratio.Limit != 0 && ratio.To == to && slices.Contains(qos, r.QoS) {
				all = append(all, ratio.bar(fmt.Sprintf("%s / %s, QoS %d, %d bytes, %s", ratio.Of, ratio.To, r.QoS, r.Payload, ratio.Shape)))
			}
		}
	}
	return all
}

// pacedBars are those of the measurements at rising rates.
func (e *Evaluation) pacedBars(of func(PacedReport) []Bar) (all []Bar) {
	for _, r := range e.Paced {
		if r.Case == rateCase {
			all = append(all, of(r)...)
		}
	}
	return all
}

func (r Ratio) bar(what string) Bar {
	return Bar{What: what, Value: r.Value, Limit: r.Limit, AtLeast: r.AtLeast, Spread: r.extremes()}
}

func (r PacedReport) paperRateBars() (all []Bar) {
	for _, ratio := range r.Ratios {
		if ratio.X == paperRate && ratio.Of == WasmAttested && ratio.To == MosquittoTLS {
			all = append(all, Bar{
				What:  fmt.Sprintf("p99 at %d messages/s of %d bytes, %s / %s", paperRate, r.Payload, ratio.Of, ratio.To),
				Value: ratio.Value, Limit: paperRateRatio, Spread: ratio.extremes(),
			})
		}
	}
	return all
}

// highRateBars are missed where rounds failed, or not all kept pace: the latency of what came says nothing of what did not.
func (r PacedReport) highRateBars() (all []Bar) {
	for _, row := range r.Rows {
		if row.X != highRate || row.Variant != WasmAttested {
			continue
		}
		b := Bar{
			What:  fmt.Sprintf("p99 at %s messages/s of %d bytes, %s", thousands(highRate), r.Payload, row.Variant),
			Value: row.P99.Number() / 1000, Limit: milliseconds(highRateP99), Unit: "ms",
			Spread: Spread{Least: row.LeastP99.Number() / 1000, Most: row.MostP99.Number() / 1000}.extremes(),
		}
		if row.Failed > 0 || !row.Kept() {
			b.Value, b.Spread = maxMilliseconds, "rate not kept"
		}
		all = append(all, b)
	}
	return all
}

// maxMilliseconds stands for a latency without end: JSON has no infinity.
const maxMilliseconds = 1e9

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (r *HandshakeReport) bars() (all []Bar) {
	for _, row := range r.Rows {
		if row.Variant == "attested" {
			all = append(all, Bar{
				What: "attested / TLS handshakes, of the same processor time", Value: row.Share, Limit: barHandshakes, AtLeast: true,
				Spread: Spread{row.Share, row.LeastShare, row.MostShare}.extremes(),
			})
		}
	}
	return all
}

// bars is empty if there were fewer sessions or subscriptions than the aim names.
func (r *StepsReport) bars() []Bar {
	if r.Sessions < barSessions || r.Subscriptions < barSubscriptions {
		return nil
	}
	return []Bar{{
		What: fmt.Sprintf("longest step, %s sessions, %s subscriptions, processor time", thousands(float64(r.Sessions)),
			thousands(float64(r.Subscriptions))),
		Value: milliseconds(r.Longest().Used), Limit: milliseconds(barStep), Unit: "ms",
	}}
}

func (r *ScaleReport) bars() (all []Bar) {
	for _, c := range r.Costs {
		all = append(all, Bar{
			What:  fmt.Sprintf("cost of a delivery with %s %s / with %d", thousands(float64(c.Many)), c.Of, c.Few),
			Value: c.Ratio.Value, Limit: 1 + MostDearer, Spread: c.Ratio.extremes(),
		})
	}
	return all
}
