package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Ways to connect, which new connections and idle ones are measured over.
const (
	Plain    = "plain"    // TCP
	TLS      = "tls"      // ordinary TLS 1.3
	Attested = "attested" // the broker gives evidence
	Mutual   = "mutual"   // the client gives evidence, too
)

// ConnectWays are the ways to connect to VouchMQ, the cheapest first.
var ConnectWays = []string{Plain, TLS, Attested, Mutual}

// BesideWays are what they are compared with: the same core natively, and Mosquitto. Other brokers have names of their own.
var BesideWays = []string{NativeTLS, NativeAttested, MosquittoTLS}

// Device is what quotes are made with: a kind of TEE, and how long the simulated one takes.
type Device struct {
	TEE       string `json:"tee,omitempty"` // sim or tpm; "" where no evidence is made
	QuoteTime Micros `json:"quote_us"`
}

// FastDevice is the simulated TEE as it is.
var FastDevice = Device{TEE: "sim"}

// String is for tables and plots.
func (d Device) String() string {
	switch {
	case d.TEE == "":
		return "-"
	case d.TEE != FastDevice.TEE:
		return d.TEE
	}
	return fmt.Sprintf("%s %v", d.TEE, time.Duration(d.QuoteTime))
}

// ConnectSetting is how clients come: what measurements differ in.
type ConnectSetting struct {
	Way       string  `json:"way"`
	Device    Device  `json:"device"`
	RoundTrip Micros  `json:"round_trip_us"` // that the network adds
	Rate      float64 `json:"rate"`          // new connections a second, 0: as fast as some clients can
}

// String is for progress.
func (s ConnectSetting) String() string {
	return fmt.Sprintf("%-15s  quote %-8v  round trip %-5v %9s new/s", s.Way, s.Device, time.Duration(s.RoundTrip), s.rate())
}

func (s ConnectSetting) rate() string {
	if s.Rate == 0 {
		return "saturated"
	}
	return number(s.Rate)
}

// PaperConnectRates are the paper's new connections a second with TLS.
var PaperConnectRates = []float64{1, 5, 10, 20, 50}

// ConnectParts are what measurements of new connections are made of.
var ConnectParts = []string{"rate", "round-trip", "quote", "saturated"}

// ConnectChoice says which settings are measured: not all combinations, of which there are too many, but parts.
//
//   - rate: every way, at all rates, with the first round trip and the first device
//   - round-trip: every way, over all round trips, at the rate At, with the first device
//   - quote: attested and mutual, with all devices, at all rates, with the first round trip
//   - saturated: every way with all devices, as fast as possible, with the first round trip
//
// What is not of ConnectWays has the first device only.
type ConnectChoice struct {
	Parts      []string
	Ways       []string // of ConnectWays and BesideWays, and names of other brokers
	Devices    []Device
	RoundTrips []time.Duration
	Rates      []float64
	At         float64
}

// Settings returns what is chosen, each setting once. Those that are compared are neighbours.
func (c *ConnectChoice) Settings() (all []ConnectSetting) {
	beside := c.beside()
	every := slices.Concat(ConnectWays, beside)
	add := func(roundTrip time.Duration, rate float64, devices []Device, ways ...string) {
		for _, way := range ways {
			for _, d := range devices {
				s := ConnectSetting{Way: way, Device: d, RoundTrip: Micros(roundTrip), Rate: rate}
				if !attests(way) {
					s.Device = Device{}
				}
				if slices.Contains(c.Ways, way) && !slices.Contains(all, s) {
					all = append(all, s)
				}
			}
		}
	}
	for _, rate := range c.Rates {
		if slices.Contains(c.Parts, "rate") {
			add(c.RoundTrips[0], rate, c.Devices[:1], every...)
		}
		if slices.Contains(c.Parts, "quote") {
			add(c.RoundTrips[0], rate, c.Devices, Attested, Mutual)
		}
	}
	if slices.Contains(c.Parts, "round-trip") {
		for _, roundTrip := range c.RoundTrips {
			add(roundTrip, c.At, c.Devices[:1], every...)
		}
	}
	if slices.Contains(c.Parts, "saturated") {
		add(c.RoundTrips[0], 0, c.Devices, ConnectWays...)
		add(c.RoundTrips[0], 0, c.Devices[:1], beside...)
	}
	slices.SortStableFunc(all, func(a, b ConnectSetting) int {
		return cmp.Or(cmp.Compare(a.RoundTrip, b.RoundTrip), cmp.Compare(a.order(), b.order()))
	})
	return all
}

// beside are the ways that are not of ConnectWays.
func (c *ConnectChoice) beside() (ways []string) {
	for _, way := range c.Ways {
		if !slices.Contains(ConnectWays, way) {
			ways = append(ways, way)
		}
	}
	return ways
}

// attests reports whether evidence is made for a way to connect.
func attests(way string) bool { return way == Attested || way == Mutual || way == NativeAttested }

// order puts what is saturated last.
func (s ConnectSetting) order() float64 {
	if s.Rate == 0 {
		return 1e9
	}
	return s.Rate
}

// ConnectPlan is a series of measurements of new connections.
type ConnectPlan struct {
	Settings       []ConnectSetting
	Rounds         int
	Clients        int           // of saturated measurements
	Warmup, Window time.Duration // of each measurement
	// Dial returns how to connect with a setting, and starts what it takes.
	Dial func(context.Context, ConnectSetting) (Dialer, error)
	// Progress is told of each measurement, nil for nobody.
	Progress func(ConnectSample)
}

// ConnectSample is one measurement.
type ConnectSample struct {
	ConnectSetting
	Round int `json:"round"` // from 1
	ConnectTimes
}

// String is for progress.
func (s ConnectSample) String() string {
	text := fmt.Sprintf("%v  p50 %7s ms  p99 %7s ms  %d of %d", s.ConnectSetting, millis(s.P50), millis(s.P99), s.Made, s.Due)
	if s.Rate == 0 {
		text += fmt.Sprintf("  %s/s", thousands(s.PerSecond))
	}
	if s.Error != "" {
		text += "  " + s.Error
	}
	return text
}

// Connects takes the measurements of a plan, round after round, and in each all settings in turn; every second round in the opposite
// order. What slows the machine down for a while so does it to all of them. If it cannot go on, or ctx ends, the report has what was
// measured until then, beside the error.
func Connects(ctx context.Context, p ConnectPlan) (ConnectReport, error) {
	r := ConnectReport{Window: Seconds(p.Window), Clients: p.Clients}
	for round := range p.Rounds {
		for _, setting := range inTurn(p.Settings, round) {
			s, err := p.measure(ctx, setting)
			if err != nil {
				r.summarize(p.Settings)
				return r, endOf(ctx, fmt.Errorf("new connections (%s): %w", setting.Way, err))
			}
			s.Round, r.Rounds = round+1, round+1
			r.Samples = append(r.Samples, s)
			if p.Progress != nil {
				p.Progress(s)
			}
		}
	}
	r.summarize(p.Settings)
	return r, nil
}

func (p *ConnectPlan) measure(ctx context.Context, setting ConnectSetting) (ConnectSample, error) {
	s := ConnectSample{ConnectSetting: setting}
	dial, err := p.Dial(ctx, setting)
	if err != nil {
		return s, err
	}
	s.ConnectTimes, err = MeasureConnects(ctx, dial, ConnectPace{
		Rate: setting.Rate, Clients: p.Clients, Warmup: p.Warmup, Window: p.Window,
	})
	return s, err
}

// ConnectReport is what came of a plan.
type ConnectReport struct {
	Rounds      int                 `json:"rounds"`
	Window      Seconds             `json:"window_seconds"`
	Clients     int                 `json:"clients"` // of saturated measurements
	Rows        []ConnectRow        `json:"results"`
	Comparisons []ConnectComparison `json:"comparisons"`
	Samples     []ConnectSample     `json:"samples"`
}

// ConnectRow is the result of one setting: medians over all rounds, sums of Due and Made, and the extremes of the median latency, or
// of the rate if it was saturated.
type ConnectRow struct {
	ConnectSetting
	ConnectTimes
	LeastP50  Micros  `json:"least_p50_us"`
	MostP50   Micros  `json:"most_p50_us"`
	LeastRate float64 `json:"least_per_second"`
	MostRate  float64 `json:"most_per_second"`
}

// ConnectComparison compares two ways to connect: medians of what was compared in each round, with the extremes.
type ConnectComparison struct {
	Of        ConnectSetting `json:"of"`
	To        string         `json:"to"`             // way
	Later     Micros         `json:"later_us"`       // difference of the median latencies
	Ratio     Spread         `json:"ratio"`          // of the median latencies
	RateRatio Spread         `json:"rate_ratio"`     // of the connections a second
	Least     Micros         `json:"least_later_us"` // of a round
	Most      Micros         `json:"most_later_us"`
}

func (r *ConnectReport) summarize(settings []ConnectSetting) {
	for _, s := range settings {
		if samples := r.of(s); len(samples) > 0 {
			r.Rows = append(r.Rows, connectRow(s, samples))
		}
	}
	for _, s := range settings {
		for _, to := range r.comparedWith(s.Way) {
			if c, ok := r.compare(s, to); ok {
				r.Comparisons = append(r.Comparisons, c)
			}
		}
	}
}

// comparedWith are the ways that a way is compared with: attested connections with all that is beside them.
func (r *ConnectReport) comparedWith(way string) (ways []string) {
	switch way {
	case TLS:
		return []string{Plain}
	case Mutual:
		return []string{TLS}
	case Attested:
		ways = []string{TLS}
		for _, other := range r.ways() {
			if !slices.Contains(ConnectWays, other) {
				ways = append(ways, other)
			}
		}
	}
	return ways
}

// ways are those that were measured, in their order.
func (r *ConnectReport) ways() []string {
	return distinct(r.Rows, func(row ConnectRow) string { return row.Way })
}

// of returns what was measured, by round.
func (r *ConnectReport) of(setting ConnectSetting) (all []ConnectSample) {
	for _, s := range r.Samples {
		if s.ConnectSetting == setting {
			all = append(all, s)
		}
	}
	return all
}

func connectRow(setting ConnectSetting, samples []ConnectSample) ConnectRow {
	row := ConnectRow{ConnectSetting: setting}
	var good []ConnectSample
	for _, s := range samples {
		row.Due += s.Due
		row.Made += s.Made
		row.Error = cmp.Or(s.Error, row.Error)
		if s.Made > 0 {
			good = append(good, s)
		}
	}
	if len(good) == 0 {
		return row
	}
	of := func(value func(ConnectSample) Micros) Micros {
		return Micros(median(each(good, func(s ConnectSample) time.Duration { return time.Duration(value(s)) })))
	}
	p50s, rates := each(good, func(s ConnectSample) Micros { return s.P50 }), each(good, func(s ConnectSample) float64 { return s.PerSecond })
	row.P50, row.P90 = of(func(s ConnectSample) Micros { return s.P50 }), of(func(s ConnectSample) Micros { return s.P90 })
	row.P99, row.Max = of(func(s ConnectSample) Micros { return s.P99 }), of(func(s ConnectSample) Micros { return s.Max })
	row.Late = of(func(s ConnectSample) Micros { return s.Late })
	row.PerSecond = median(rates)
	row.LeastP50, row.MostP50 = slices.Min(p50s), slices.Max(p50s)
	row.LeastRate, row.MostRate = slices.Min(rates), slices.Max(rates)
	return row
}

// compare compares a setting with the same over another way to connect, if that was measured.
func (r *ConnectReport) compare(setting ConnectSetting, to string) (ConnectComparison, bool) {
	other := setting
	other.Way = to
	if !attests(to) {
		other.Device = Device{}
	}
	a, b := r.of(setting), r.of(other)
	var later []time.Duration
	var ratios, rates []float64
	for i := range min(len(a), len(b)) {
		if a[i].Made == 0 || b[i].Made == 0 {
			continue
		}
		later = append(later, time.Duration(a[i].P50-b[i].P50))
		ratios = append(ratios, float64(a[i].P50)/float64(b[i].P50))
		rates = append(rates, a[i].PerSecond/b[i].PerSecond)
	}
	if len(later) == 0 {
		return ConnectComparison{}, false
	}
	return ConnectComparison{
		Of: setting, To: to, Later: Micros(median(later)), Ratio: spreadOf(ratios), RateRatio: spreadOf(rates),
		Least: Micros(slices.Min(later)), Most: Micros(slices.Max(later)),
	}, true
}

// Bar of what attestation may add to CONNACK.
const (
	barRoundTrip = 80 * time.Millisecond
	// MostLater is how much later CONNACK may come with attestation, where a quote takes no time.
	MostLater = 5 * time.Millisecond
)

// Later is by how much attestation makes CONNACK later than ordinary TLS over a network of that round trip, with a quote that takes
// no time: the worst of all rates. false is that it was not measured.
func (r *ConnectReport) Later(roundTrip time.Duration) (worst time.Duration, ok bool) {
	c, ok := r.latest(roundTrip)
	return time.Duration(c.Later), ok
}

// latest is the comparison that Later is about.
func (r *ConnectReport) latest(roundTrip time.Duration) (worst ConnectComparison, ok bool) {
	for _, c := range r.Comparisons {
		if c.Of.Way == Attested && c.To == TLS && c.Of.Device == FastDevice && c.Of.Rate > 0 && time.Duration(c.Of.RoundTrip) == roundTrip {
			if !ok || c.Later > worst.Later {
				worst, ok = c, true
			}
		}
	}
	return worst, ok
}

// bars compares with what VouchMQ aims at.
func (r *ConnectReport) bars() []Bar {
	worst, ok := r.latest(barRoundTrip)
	if !ok {
		return nil
	}
	return []Bar{{
		What:  fmt.Sprintf("CONNACK attested minus TLS, round trip %v", barRoundTrip),
		Value: milliseconds(time.Duration(worst.Later)), Limit: milliseconds(MostLater), Unit: "ms",
		Spread: Spread{Least: milliseconds(time.Duration(worst.Least)), Most: milliseconds(time.Duration(worst.Most))}.extremes(),
	}}
}
