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
	// ProcessorTime is what the broker has used of processors so far; nil if that is not known.
	ProcessorTime func() (time.Duration, error)
}

// Answers connects once and says farewell: an error says why nothing can be measured of a broker.
func (v Variant) Answers(ctx context.Context) error {
	conn, err := openLean(ctx, v.Dial, connectPacket("bench-first", 0))
	if err != nil {
		return err
	}
	conn.Write(disconnectPacket()) // it may have ended
	return conn.Close()
}

// Names of the variants that ratios are between.
const (
	NativeTLS      = "native-tls"
	NativeAttested = "native-attested"
	WasmAttested   = "wasm-attested"
	MosquittoTLS   = "mosquitto-tls"
)

// Plan is a series of measurements: each shape at each QoS and with each payload, of each variant.
type Plan struct {
	Shapes         []Shape
	QoS            []byte
	Payloads       []int // bytes of each message
	Variants       []Variant
	Rounds         int
	Warmup, Window time.Duration // of each measurement
	// Progress is told of each measurement, nil for nobody.
	Progress func(Sample)
}

// Sample is one measurement.
type Sample struct {
	Shape   string `json:"shape"`
	Variant string `json:"variant"`
	QoS     byte   `json:"qos"`
	Payload int    `json:"payload_bytes"`
	Round   int    `json:"round"` // from 1
	Result
	// Error says why there is no result: the broker lost a connection, say.
	Error string `json:"error,omitempty"`
}

// String is for progress.
func (s Sample) String() string {
	what := fmt.Sprintf("round %d  QoS %d  %5d bytes  %-8s %-16s ", s.Round, s.QoS, s.Payload, s.Shape, s.Variant)
	if s.Error != "" {
		return what + s.Error
	}
	return what + fmt.Sprintf("%12s deliveries/s", thousands(s.Rate))
}

// Throughput takes the measurements of a plan. Variants are measured in turn, round after round, so that what slows the
// machine down for a while does so to all of them; every second round has them in the opposite order. That a broker does not
// bear a load is a result, too. If ctx ends before all is measured, the reports have what was, beside the error.
func Throughput(ctx context.Context, p Plan) (Reports, error) {
	var all []Sample
	for round := range p.Rounds {
		for _, s := range p.samples() {
			for _, v := range inTurn(p.Variants, round) {
				s.Variant, s.Round = v.Name, round+1
				s = p.measure(ctx, v, s)
				if ctx.Err() != nil {
					return p.reports(all), context.Cause(ctx)
				}
				all = append(all, s)
				if p.Progress != nil {
					p.Progress(s)
				}
			}
		}
	}
	return p.reports(all), nil
}

// samples are what is measured in a round of one variant.
func (p *Plan) samples() (all []Sample) {
	for _, qos := range p.QoS {
		for _, payload := range p.Payloads {
			for _, shape := range p.Shapes {
				all = append(all, Sample{Shape: shape.Name, QoS: qos, Payload: payload})
			}
		}
	}
	return all
}

func (p *Plan) measure(ctx context.Context, v Variant, s Sample) Sample {
	shape := p.Shapes[slices.IndexFunc(p.Shapes, func(shape Shape) bool { return shape.Name == s.Shape })]
	result, err := Measure(ctx, v.Dial, Load{
		Shape: shape, QoS: s.QoS, Payload: s.Payload, Warmup: p.Warmup, Window: p.Window, ProcessorTime: v.ProcessorTime,
	})
	if s.Result = result; err != nil {
		s.Error = err.Error()
	}
	return s
}

// Reports are what came of a plan: one for each QoS and payload.
type Reports []Report

// Report is what came of a plan at one QoS, with one payload.
type Report struct {
	QoS     byte     `json:"qos"`
	Payload int      `json:"payload_bytes"`
	Window  Seconds  `json:"window_seconds"`
	Rounds  int      `json:"rounds"` // of which the last may not be whole, if it was interrupted
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
	Dropped uint64  `json:"dropped"`          // deliveries, in all rounds together
	Failed  int     `json:"failed,omitempty"` // rounds without a result
	Error   string  `json:"error,omitempty"`  // of the last of them
	// Processors are medians.
	Processors Processors `json:"processors"`
}

// Ratio compares the deliveries of two variants: the ratio of each round, whose two measurements were taken within seconds of
// each other.
type Ratio struct {
	Shape string `json:"shape"`
	Of    string `json:"of"`
	To    string `json:"to"`
	Spread
	Limit   float64 `json:"limit,omitempty"` // what is aimed at; 0 if nothing is
	AtLeast bool    `json:"at_least,omitempty"`
}

// Seconds is a time that is written as a number of seconds.
type Seconds time.Duration

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%g", time.Duration(s).Seconds()), nil
}

func (p *Plan) reports(all []Sample) (reports Reports) {
	for _, qos := range p.QoS {
		for _, payload := range p.Payloads {
			r := Report{QoS: qos, Payload: payload, Window: Seconds(p.Window)}
			for _, s := range all {
				if s.QoS == qos && s.Payload == payload {
					r.Samples = append(r.Samples, s)
					r.Rounds = s.Round
				}
			}
			if len(r.Samples) > 0 {
				r.summarize(p)
				reports = append(reports, r)
			}
		}
	}
	return reports
}

func (r *Report) summarize(p *Plan) {
	for _, shape := range p.Shapes {
		for _, v := range p.Variants {
			if samples := r.samplesOf(shape.Name, v.Name); len(samples) > 0 {
				r.Rows = append(r.Rows, row(shape.Name, v.Name, samples))
			}
		}
		for _, pair := range r.pairs(p.Variants) {
			pair.Shape = shape.Name
			if r.fill(&pair) {
				r.Ratios = append(r.Ratios, pair)
			}
		}
	}
}

// pairs are the variants that are compared: the broker in WebAssembly and attested with its native self, and with others.
func (r *Report) pairs(variants []Variant) []Ratio {
	pairs := []Ratio{{Of: NativeTLS, To: WasmAttested}}
	for _, v := range variants {
		if isOther(v.Name) {
			pairs = append(pairs, Ratio{Of: WasmAttested, To: v.Name})
		}
	}
	return pairs
}

// fill computes a ratio from the rounds that both have. It returns false if there are none.
func (r *Report) fill(ratio *Ratio) (ok bool) {
	rate := func(s Sample) (float64, bool) { return s.Rate, s.Error == "" }
	ratio.Spread, ok = quotients(r.samplesOf(ratio.Shape, ratio.Of), r.samplesOf(ratio.Shape, ratio.To), rate)
	ratio.Limit, ratio.AtLeast = throughputLimit(r.QoS, r.Payload, *ratio)
	return ok
}

// samplesOf returns what was measured, by round; those without a result are among them.
func (r *Report) samplesOf(shape, variant string) (all []Sample) {
	for _, s := range r.Samples {
		if s.Shape == shape && s.Variant == variant {
			all = append(all, s)
		}
	}
	return all
}

func row(shape, variant string, samples []Sample) Row {
	r := Row{Shape: shape, Variant: variant}
	var rates, broker, generator []float64
	for _, s := range samples {
		if s.Error != "" {
			r.Failed++
			r.Error = s.Error
			continue
		}
		r.Dropped += s.Dropped()
		rates = append(rates, s.Rate)
		broker, generator = append(broker, s.Processors.Broker), append(generator, s.Processors.Generator)
	}
	if len(rates) > 0 {
		r.Median, r.Least, r.Most = median(rates), slices.Min(rates), slices.Max(rates)
		r.Processors = Processors{Broker: median(broker), Generator: median(generator)}
	}
	return r
}
