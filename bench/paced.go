package bench

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// PacedCase is a series of paces that differ in one number.
type PacedCase struct {
	Name  string // such as rate
	Title string // a line for people
	Axis  string // what the number is
	Paces []PacedPoint
}

// PacedPoint is a pace, and the number by which it differs from others of its case.
type PacedPoint struct {
	X    float64
	Pace Pace
}

// rateCase is the name of what RateCase makes.
const rateCase = "rate"

// RateCase is one publisher and one subscriber, at rising rates: the second case of the paper, and beyond.
func RateCase(perSecond []float64, payload int, qos byte) PacedCase {
	c := PacedCase{Name: rateCase, Title: "One publisher, one subscriber", Axis: "messages per second"}
	for _, rate := range perSecond {
		c.Paces = append(c.Paces, PacedPoint{rate, Pace{Shape: paperShape(1, 1, false), PerSecond: rate, Payload: payload, QoS: qos}})
	}
	return c
}

// SubscribersCase is one publisher at 25 messages a second, and a rising number of subscribers that share one subscription:
// the third case of the paper.
func SubscribersCase(subscribers []int, payload int, qos byte) PacedCase {
	c := PacedCase{Name: "subscribers", Title: "One publisher at 25 messages/s, subscribers of one shared subscription", Axis: "subscribers"}
	for _, n := range subscribers {
		c.Paces = append(c.Paces, PacedPoint{float64(n), Pace{
			Shape: paperShape(1, n, true), PerSecond: 25, Payload: payload, QoS: qos,
		}})
	}
	return c
}

// PublishersCase is 25 subscribers that get everything from a rising number of publishers at 5 messages a second each: the
// fourth case of the paper.
func PublishersCase(publishers []int, payload int, qos byte) PacedCase {
	c := PacedCase{Name: "publishers", Title: "Publishers at 5 messages/s each, 25 subscribers of everything", Axis: "publishers"}
	for _, n := range publishers {
		c.Paces = append(c.Paces, PacedPoint{float64(n), Pace{
			Shape: paperShape(n, 25, false), PerSecond: 5, Payload: payload, QoS: qos,
		}})
	}
	return c
}

// payloadAxis is the axis of what OpenLoopCase makes.
const payloadAxis = "bytes of payload"

// OpenLoopCase is one of Shapes at a fixed rate of messages in all, with payloads of rising size.
func OpenLoopCase(shape Shape, perSecond float64, payloads []int, qos byte) PacedCase {
	c := PacedCase{
		Name: "open-loop-" + shape.Name, Axis: payloadAxis,
		Title: fmt.Sprintf("%s, %s messages/s (%s deliveries/s), QoS %d", shape.Name, number(perSecond), number(perSecond*float64(shape.fan)), qos),
	}
	for _, payload := range payloads {
		c.Paces = append(c.Paces, PacedPoint{float64(payload), Pace{
			Shape: shape, PerSecond: perSecond / float64(shape.Publishers), Payload: payload, QoS: qos,
		}})
	}
	return c
}

// paperShape has publishers with a topic each, and subscribers that get everything or share one subscription.
func paperShape(publishers, subscribers int, shared bool) Shape {
	s := Shape{Name: "all", Publishers: publishers, Subscribers: subscribers, fan: subscribers, topic: numbered("bench/pace/"), filter: always("bench/pace/#")}
	if shared {
		s.fan, s.filter = 1, always("$share/bench/bench/pace/#")
	}
	return s
}

// The numbers of the paper's cases.
var (
	PaperRates       = []float64{1, 5, 10, 25, 50, 100, 200}
	BeyondPaperRates = []float64{1_000, 5_000, 20_000, 50_000, 100_000}
	PaperSubscribers = []int{1, 2, 4, 8, 16, 32, 64, 128, 256}
	PaperPublishers  = []int{5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 64}
)

// PacedPlan is a series of measurements at fixed rates.
type PacedPlan struct {
	Case           PacedCase
	Variants       []Variant
	Rounds         int
	Warmup, Window time.Duration // of each measurement
	// Progress is told of each measurement, nil for nobody.
	Progress func(PacedSample)
}

// PacedSample is one measurement.
type PacedSample struct {
	X       float64 `json:"x"`
	Variant string  `json:"variant"`
	Round   int     `json:"round"` // from 1
	Latency
	// Error says why there is no result: the broker lost a connection, say.
	Error string `json:"error,omitempty"`
}

// Paced takes the measurements of a plan: round after round, and in each the variants in turn at one number, so that what
// slows the machine down for a while does so to all of them. Every second round has them in the opposite order. That a broker
// does not bear a load is a result, too. If ctx ends before all is measured, the report has what was, beside the error.
func Paced(ctx context.Context, p PacedPlan) (PacedReport, error) {
	report := PacedReport{
		Case: p.Case.Name, Title: p.Case.Title, Axis: p.Case.Axis, Window: Seconds(p.Window),
		Payload: p.Case.payload(), QoS: p.Case.Paces[0].Pace.QoS,
	}
	for round := range p.Rounds {
		for _, point := range p.Case.Paces {
			for _, v := range inTurn(p.Variants, round) {
				s := measurePoint(ctx, v, point, p)
				if ctx.Err() != nil {
					report.summarize(p)
					return report, context.Cause(ctx)
				}
				s.Round, report.Rounds = round+1, round+1
				report.Samples = append(report.Samples, s)
				if p.Progress != nil {
					p.Progress(s)
				}
			}
		}
	}
	report.summarize(p)
	return report, nil
}

// payload is the one that all paces have; 0 if they differ in that.
func (c PacedCase) payload() int {
	size := c.Paces[0].Pace.Payload
	if slices.ContainsFunc(c.Paces, func(p PacedPoint) bool { return p.Pace.Payload != size }) {
		return 0
	}
	return size
}

// Load says in words what all messages of the report had in common.
func (r PacedReport) Load() string {
	if r.Payload == 0 {
		return fmt.Sprintf("QoS %d", r.QoS)
	}
	return fmt.Sprintf("QoS %d, %d bytes", r.QoS, r.Payload)
}

// inTurn returns variants, or what else is measured in turn, in the order of a round: every second one has them in the opposite order.
func inTurn[V any](variants []V, round int) []V {
	v := slices.Clone(variants)
	if round%2 == 1 {
		slices.Reverse(v)
	}
	return v
}

func measurePoint(ctx context.Context, v Variant, point PacedPoint, p PacedPlan) PacedSample {
	s := PacedSample{X: point.X, Variant: v.Name}
	pace := point.Pace
	pace.Warmup, pace.Window = p.Warmup, p.Window
	var err error
	if s.Latency, err = MeasurePace(ctx, v.Dial, pace); err != nil {
		s.Error = err.Error()
	}
	return s
}

// PacedReport is what came of a plan.
type PacedReport struct {
	Case    string        `json:"case"`
	Title   string        `json:"title"`
	Axis    string        `json:"axis"`
	Rounds  int           `json:"rounds"`
	Window  Seconds       `json:"window_seconds"`
	Payload int           `json:"payload_bytes,omitempty"` // 0 if that is what differs
	QoS     byte          `json:"qos"`
	Rows    []PacedRow    `json:"results"`
	Ratios  []PacedRatio  `json:"ratios"`
	Samples []PacedSample `json:"samples"`
}

// PacedRow is the result of one variant at one number: medians over all rounds, and the extremes of the 99th percentile.
type PacedRow struct {
	X       float64 `json:"x"`
	Variant string  `json:"variant"`
	Latency
	LeastP99 Micros `json:"least_p99_us"`
	MostP99  Micros `json:"most_p99_us"`
	Failed   int    `json:"failed,omitempty"` // rounds without a result
	Error    string `json:"error,omitempty"`  // of the last of them
}

// PacedRatio compares the 99th percentiles of two variants: the ratio of each round.
type PacedRatio struct {
	X  float64 `json:"x"`
	Of string  `json:"of"`
	To string  `json:"to"`
	Spread
}

func (r *PacedReport) summarize(p PacedPlan) {
	for _, point := range p.Case.Paces {
		for _, v := range p.Variants {
			if samples := r.samplesOf(point.X, v.Name); len(samples) > 0 {
				r.Rows = append(r.Rows, pacedRow(point.X, v.Name, samples))
			}
		}
		for _, v := range p.Variants {
			if v.Name != NativeTLS && !isOther(v.Name) {
				continue
			}
			if ratio, ok := r.ratio(point.X, WasmAttested, v.Name); ok {
				r.Ratios = append(r.Ratios, ratio)
			}
		}
	}
}

// samplesOf returns what was measured, by round; those without a result are among them.
func (r *PacedReport) samplesOf(x float64, variant string) (all []PacedSample) {
	for _, s := range r.Samples {
		if s.X == x && s.Variant == variant {
			all = append(all, s)
		}
	}
	return all
}

func pacedRow(x float64, variant string, samples []PacedSample) PacedRow {
	row := PacedRow{X: x, Variant: variant}
	var good []PacedSample
	for _, s := range samples {
		if s.Error != "" {
			row.Failed++
			row.Error = s.Error
			continue
		}
		good = append(good, s)
		row.Expected += s.Expected
		row.Delivered += s.Delivered
	}
	if len(good) == 0 {
		return row
	}
	of := func(value func(PacedSample) Micros) Micros {
		return Micros(median(each(good, func(s PacedSample) time.Duration { return time.Duration(value(s)) })))
	}
	p99 := func(s PacedSample) Micros { return s.P99 }
	row.P50, row.P90, row.P99 = of(func(s PacedSample) Micros { return s.P50 }), of(func(s PacedSample) Micros { return s.P90 }), of(p99)
	row.P999, row.Max = of(func(s PacedSample) Micros { return s.P999 }), of(func(s PacedSample) Micros { return s.Max })
	row.Late = of(func(s PacedSample) Micros { return s.Late })
	for i := range CurvePercents {
		row.Curve = append(row.Curve, of(func(s PacedSample) Micros { return s.Curve[i] }))
	}
	row.Rate = median(each(good, func(s PacedSample) float64 { return s.Rate }))
	row.LeastP99, row.MostP99 = slices.Min(each(good, p99)), slices.Max(each(good, p99))
	return row
}

func each[T, V any](list []T, value func(T) V) (values []V) {
	for _, x := range list {
		values = append(values, value(x))
	}
	return values
}

func (r *PacedReport) ratio(x float64, of, to string) (PacedRatio, bool) {
	p99 := func(s PacedSample) (float64, bool) { return float64(s.P99), s.Error == "" }
	spread, ok := quotients(r.samplesOf(x, of), r.samplesOf(x, to), p99)
	return PacedRatio{X: x, Of: of, To: to, Spread: spread}, ok
}

// number writes a number as people do.
func number(x float64) string {
	if x >= 1000 {
		return thousands(x)
	}
	return strconv.FormatFloat(x, 'g', 4, 64)
}

// String is for progress.
func (s PacedSample) String() string {
	if s.Error != "" {
		return fmt.Sprintf("%8s  %-16s %s", number(s.X), s.Variant, s.Error)
	}
	return fmt.Sprintf("%8s  %-16s p50 %8.0f us  p99 %8.0f us  %3.0f %% of %d delivered",
		number(s.X), s.Variant, s.P50.Number(), s.P99.Number(), 100*float64(s.Delivered)/float64(max(s.Expected, 1)), s.Expected)
}
