package bench

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// MatchPlan asks what it costs to find out who gets a message, and to subscribe, with rising numbers of filters.
type MatchPlan struct {
	Filters []int // in all, rising, at least 1,000 each
	Brokers []MatchBroker
	Rounds  int
	Window  time.Duration // of each measurement
	// Progress is told of each measurement, nil for nobody.
	Progress func(MatchSample)
}

// MatchBroker is a broker that runs.
type MatchBroker struct {
	Name string // wasm or native
	ScaleBroker
}

// MatchSample is one measurement. Costs are processor time of the whole process of the broker, in nanoseconds.
type MatchSample struct {
	Broker    string  `json:"broker"`
	Filters   int     `json:"filters"`
	Round     int     `json:"round"`     // from 1
	Known     float64 `json:"known"`     // for each delivery of a message to a topic that the broker has seen before
	Fresh     float64 `json:"fresh"`     // the same for topics that it has not: they are matched with all filters
	Subscribe float64 `json:"subscribe"` // for each filter of a SUBSCRIBE with many
}

// String is for progress.
func (s MatchSample) String() string {
	return fmt.Sprintf("round %d  %9s filters  %-8s known %5.0f ns  fresh %5.0f ns  subscribe %6.0f ns", s.Round, thousands(float64(s.Filters)),
		s.Broker, s.Known, s.Fresh, s.Subscribe)
}

// MatchReport is what came of it.
type MatchReport struct {
	Rounds  int           `json:"rounds"`
	Window  Seconds       `json:"window_seconds"`
	Rows    []MatchRow    `json:"results"`
	Samples []MatchSample `json:"samples"`
}

// MatchRow is the result of one broker with one number of filters, in nanoseconds.
type MatchRow struct {
	Broker    string `json:"broker"`
	Filters   int    `json:"filters"`
	Known     Spread `json:"known"`
	Fresh     Spread `json:"fresh"`
	Subscribe Spread `json:"subscribe"`
	Bytes     uint64 `json:"bytes"` // of the process, resident
}

// filtersPerSleeper is what a broker allows a session unless it is told otherwise.
const filtersPerSleeper = 1000

// Match takes the measurements of a plan. The brokers get more and more filters, of a fleet of devices; with each number of
// filters they are measured in turn, every second round in the opposite order. Messages go to the same thousand devices each time, whose filters are among the others, and
// each message is delivered once. If it cannot go on, or ctx ends, the report has what was measured until then, beside the error.
func Match(ctx context.Context, p MatchPlan) (MatchReport, error) {
	r := MatchReport{Rounds: p.Rounds, Window: Seconds(p.Window)}
	asleep := 0
	for _, filters := range p.Filters {
		more := (filters-fleetMeasured)/filtersPerSleeper - asleep
		for _, b := range p.Brokers {
			err := putToSleep(ctx, b.Plain, asleep, more, filtersPerSleeper, fleetMeasured+asleep*filtersPerSleeper)
			if err != nil {
				return r, endOf(ctx, fmt.Errorf("%s, %d filters: %w", b.Name, filters, err))
			}
		}
		asleep += more
		if err := p.measure(ctx, filters, &r); err != nil {
			return r, endOf(ctx, fmt.Errorf("%d filters: %w", filters, err))
		}
	}
	return r, nil
}

func (p *MatchPlan) measure(ctx context.Context, filters int, r *MatchReport) error {
	rows := make([]MatchRow, len(p.Brokers))
	for i, b := range p.Brokers {
		rows[i].Broker, rows[i].Filters = b.Name, filters
	}
	samples := make([][]MatchSample, len(p.Brokers))
	defer func() { r.add(rows, samples) }() // also what there is if it is interrupted
	for round := range p.Rounds {
		for _, b := range inTurn(p.Brokers, round) {
			i := slices.IndexFunc(p.Brokers, func(one MatchBroker) bool { return one.Name == b.Name })
			s, err := p.sample(ctx, b, MatchSample{Broker: b.Name, Filters: filters, Round: round + 1})
			if err != nil {
				return fmt.Errorf("%s: %w", b.Name, err)
			}
			if rows[i].Bytes, err = b.RSS(); err != nil {
				return err
			}
			samples[i], r.Samples = append(samples[i], s), append(r.Samples, s)
			if p.Progress != nil {
				p.Progress(s)
			}
		}
	}
	return nil
}

// add adds the rows of which there are samples.
func (r *MatchReport) add(rows []MatchRow, samples [][]MatchSample) {
	for i, row := range rows {
		if len(samples[i]) == 0 {
			continue
		}
		row.Known = spreadOf(each(samples[i], func(s MatchSample) float64 { return s.Known }))
		row.Fresh = spreadOf(each(samples[i], func(s MatchSample) float64 { return s.Fresh }))
		row.Subscribe = spreadOf(each(samples[i], func(s MatchSample) float64 { return s.Subscribe }))
		r.Rows = append(r.Rows, row)
	}
}

func (p *MatchPlan) sample(ctx context.Context, b MatchBroker, s MatchSample) (MatchSample, error) {
	for _, x := range []struct {
		shape Shape
		cost  *float64
	}{{knownShape(), &s.Known}, {freshShape(), &s.Fresh}} {
		load := Load{Shape: x.shape, Payload: 64, Warmup: p.Window / 2, Window: p.Window, ProcessorTime: b.ProcessorTime}
		result, err := Measure(ctx, b.Plain, load)
		if err != nil {
			return s, fmt.Errorf("%s topics: %w", x.shape.Name, err)
		}
		*x.cost = result.Cost
	}
	var err error
	s.Subscribe, err = subscribeCost(ctx, b.ScaleBroker)
	return s, err
}

// Measurements of subscribeCost.
const (
	probeFilters = 1000
	probes       = 5
	probeSettle  = 50 * time.Millisecond // in which the broker forgets a client
)

// subscribeCost is what a filter costs that a client adds to those that are there, in nanoseconds.
func subscribeCost(ctx context.Context, b ScaleBroker) (float64, error) {
	const beyond = 1 << 24 // devices that nobody has subscribed to
	var costs []float64
	for i := range probes {
		if err := pause(ctx, probeSettle); err != nil {
			return 0, err
		}
		conn, buf, err := open(ctx, b.Plain, "probe")
		if err != nil {
			return 0, err
		}
		before, err := b.ProcessorTime()
		if err == nil {
			err = subscribeAll(conn, buf, fleetFilters(beyond+i*probeFilters, probeFilters), 0)
		}
		conn.Close()
		if err != nil {
			return 0, err
		}
		after, err := b.ProcessorTime()
		if err != nil {
			return 0, err
		}
		costs = append(costs, float64(after-before)/probeFilters)
	}
	return median(costs), nil
}

// WriteTable writes the report for people.
func (r MatchReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "filters\tengine\tknown topic, ns\t(least\tmost)\tfresh topic, ns\t(least\tmost)\tsubscribe, ns\t(least\tmost)\tprocess, MB\t\n")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t", thousands(float64(row.Filters)), row.Broker)
		for _, s := range []Spread{row.Known, row.Fresh, row.Subscribe} {
			fmt.Fprintf(t, "%.0f\t%.0f\t%.0f\t", s.Value, s.Least, s.Most)
		}
		fmt.Fprintf(t, "%.0f\t\n", float64(row.Bytes)/1e6)
	}
	return t.Flush()
}

// WriteCSV writes every sample.
func (r MatchReport) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{"broker", "filters", "round", "known_ns", "fresh_ns", "subscribe_ns"})
	for _, s := range r.Samples {
		number := func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
		c.Write([]string{s.Broker, strconv.Itoa(s.Filters), strconv.Itoa(s.Round), number(s.Known), number(s.Fresh), number(s.Subscribe)})
	}
	c.Flush()
	return c.Error()
}
