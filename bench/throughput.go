package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Variant is one way to reach one broker.
type Variant struct {
	Name string // such as wasm-attested
	Dial Dialer
}

// Names of the variants that ratios are between.
const (
	NativeTLS    = "native-tls"
	WasmAttested = "wasm-attested"
	MosquittoTLS = "mosquitto-tls"
)

// Plan is a series of measurements.
type Plan struct {
	Shapes   []Shape
	Variants []Variant
	Rounds   int
	Load     Load // but for its shape
	// Progress is told of each measurement, nil for nobody.
	Progress func(round int, s Sample)
}

// Sample is one measurement.
type Sample struct {
	Shape   string `json:"shape"`
	Variant string `json:"variant"`
	Result
}

// Throughput takes the measurements of a plan. Variants are measured in turn, round after round, so that what
// slows the machine down for a while does so to all of them.
func Throughput(ctx context.Context, p Plan) (Report, error) {
	var all []Sample
	for round := range p.Rounds {
		for _, shape := range p.Shapes {
			for _, v := range p.Variants {
				load := p.Load
				load.Shape = shape
				result, err := Measure(ctx, v.Dial, load)
				if err != nil {
					return Report{}, fmt.Errorf("%s, %s: %w", v.Name, shape.Name, err)
				}
				s := Sample{shape.Name, v.Name, result}
				all = append(all, s)
				if p.Progress != nil {
					p.Progress(round+1, s)
				}
			}
		}
	}
	return summarize(p, all), nil
}

// Report is what came of a plan.
type Report struct {
	QoS     byte     `json:"qos"`
	Payload int      `json:"payload_bytes"`
	Window  Seconds  `json:"window_seconds"`
	Rounds  int      `json:"rounds"`
	Rows    []Row    `json:"results"`
	Ratios  []Ratio  `json:"ratios"`
	Samples []Sample `json:"samples"`
}

// Row is the result of one variant with one shape, over all rounds.
type Row struct {
	Shape   string  `json:"shape"`
	Variant string  `json:"variant"`
	Median  float64 `json:"median_deliveries_per_second"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
	Dropped uint64  `json:"dropped"` // deliveries, in all rounds together
}

// Ratio compares two variants: the median of the ratios of each round, whose two measurements were taken within
// seconds of each other.
type Ratio struct {
	Shape string  `json:"shape"`
	Of    string  `json:"of"`
	To    string  `json:"to"`
	Value float64 `json:"value"`
	Goal  float64 `json:"goal"`
}

// Met reports whether the ratio is what was aimed at.
func (r Ratio) Met() bool { return r.Value >= r.Goal }

// Seconds is a time that is written as a number of seconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%g", time.Duration(s).Seconds()), nil
}

// goals are what VouchMQ aims at: a TEE-ready broker in WebAssembly that loses at most a quarter of what the same
// broker does natively over ordinary TLS, and that leaves the reference broker far behind.
var goals = []Ratio{
	{Of: WasmAttested, To: NativeTLS, Goal: 0.75},
	{Of: WasmAttested, To: MosquittoTLS, Goal: 5},
}

func summarize(p Plan, all []Sample) Report {
	r := Report{QoS: p.Load.QoS, Payload: p.Load.Payload, Window: Seconds(p.Load.Window), Rounds: p.Rounds, Samples: all}
	for _, shape := range p.Shapes {
		for _, v := range p.Variants {
			r.Rows = append(r.Rows, row(shape.Name, v.Name, all))
		}
		for _, goal := range goals {
			if ratio, ok := ratio(shape.Name, goal, all); ok {
				r.Ratios = append(r.Ratios, ratio)
			}
		}
	}
	return r
}

func row(shape, variant string, all []Sample) Row {
	r := Row{Shape: shape, Variant: variant}
	for _, s := range all {
		if s.Shape == shape && s.Variant == variant {
			r.Dropped += s.Dropped()
		}
	}
	rates := ratesOf(shape, variant, all)
	if len(rates) > 0 {
		r.Median, r.Least, r.Most = median(rates), slices.Min(rates), slices.Max(rates)
	}
	return r
}

func ratesOf(shape, variant string, all []Sample) (rates []float64) {
	for _, s := range all {
		if s.Shape == shape && s.Variant == variant {
			rates = append(rates, s.Rate)
		}
	}
	return rates
}

func ratio(shape string, goal Ratio, all []Sample) (Ratio, bool) {
	of, to := ratesOf(shape, goal.Of, all), ratesOf(shape, goal.To, all)
	var quotients []float64
	for i := range min(len(of), len(to)) {
		if to[i] > 0 {
			quotients = append(quotients, of[i]/to[i])
		}
	}
	if len(quotients) == 0 {
		return Ratio{}, false
	}
	goal.Shape, goal.Value = shape, median(quotients)
	return goal, true
}

// median of at least one value. It sorts a copy.
func median[T float64 | time.Duration](values []T) T {
	v := slices.Sorted(slices.Values(values))
	middle := len(v) / 2
	if len(v)%2 == 1 {
		return v[middle]
	}
	return (v[middle-1] + v[middle]) / 2
}
