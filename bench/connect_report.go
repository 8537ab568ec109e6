package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// WriteTable writes the report for people. Times are in milliseconds.
func (r ConnectReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "round trip\tnew/s\tway\tquote\tp50 ms\t(least\tmost)\tp90\tp99\tmax\tlate p99\tmade\tof\tper second\t\n")
	for i, row := range r.Rows {
		if i > 0 && !row.together(r.Rows[i-1].ConnectSetting) {
			fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n")
		}
		fmt.Fprintf(t, "%v\t%s\t%s\t%v\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", time.Duration(row.RoundTrip), row.rate(), row.Way, row.Device,
			millis(row.P50), millis(row.LeastP50), millis(row.MostP50), millis(row.P90), millis(row.P99), millis(row.Max), millis(row.Late),
			row.Made, row.Due, number(row.PerSecond), row.remark())
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	return r.writeComparisons(w)
}

// together reports whether two settings are to be compared.
func (s ConnectSetting) together(other ConnectSetting) bool {
	return s.RoundTrip == other.RoundTrip && s.Rate == other.Rate
}

func (r ConnectReport) writeComparisons(w io.Writer) error {
	if len(r.Comparisons) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "round trip\tnew/s\tway\tquote\tcompared with\tlater by ms\t(least\tmost)\tlatency ratio\trate ratio\t\n")
	for _, c := range r.Comparisons {
		fmt.Fprintf(t, "%v\t%s\t%s\t%v\t%s\t%s\t%s\t%s\t%v\t%v\t\n", time.Duration(c.Of.RoundTrip), c.Of.rate(), c.Of.Way, c.Of.Device, c.To,
			millis(c.Later), millis(c.Least), millis(c.Most), c.Ratio, c.RateRatio)
	}
	return t.Flush()
}

func (r ConnectRow) remark() string {
	if r.Error == "" {
		return ""
	}
	return " " + r.Error
}

// millis writes a time in milliseconds.
func millis(m Micros) string { return strconv.FormatFloat(m.Number()/1000, 'f', 2, 64) }

// WriteCSV writes every measurement.
func (r ConnectReport) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{
		"round_trip_ms", "rate", "way", "tee", "quote_ms", "round", "p50_us", "p90_us", "p99_us", "max_us", "late_p99_us", "made", "due", "per_second", "error",
	})
	for _, s := range r.Samples {
		line := []string{
			millis(s.RoundTrip), strconv.FormatFloat(s.Rate, 'g', -1, 64), s.Way, s.Device.TEE, millis(s.Device.QuoteTime), strconv.Itoa(s.Round),
		}
		for _, m := range []Micros{s.P50, s.P90, s.P99, s.Max, s.Late} {
			line = append(line, strconv.FormatFloat(m.Number(), 'f', 1, 64))
		}
		c.Write(append(line, strconv.FormatUint(s.Made, 10), strconv.FormatUint(s.Due, 10),
			strconv.FormatFloat(s.PerSecond, 'f', 2, 64), s.Error))
	}
	c.Flush()
	return c.Error()
}

// where returns the rows that a plot shows.
func (r *ConnectReport) where(wanted func(ConnectSetting) bool) (rows []ConnectRow) {
	for _, row := range r.Rows {
		if wanted(row.ConnectSetting) && row.Made > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// first is the round trip with which all but round trips are measured.
func (r *ConnectReport) first() Micros {
	return slices.Min(each(r.Rows, func(row ConnectRow) Micros { return row.RoundTrip }))
}

// ratePlot shows latency by rate: a line for the median of each way, and one for the 99th percentile.
func (r *ConnectReport) ratePlot() linePlot {
	p := linePlot{xLabel: "new connections per second", yLabel: "CONNACK after, milliseconds"}
	for i, way := range r.ways() {
		rows := r.where(func(s ConnectSetting) bool {
			return s.Way == way && s.Rate > 0 && s.RoundTrip == r.first() && (s.Device == FastDevice || !attests(way))
		})
		p.add(way+", median", i, false, rows, medianConnack)
		p.add(way+", p99", i, true, rows, func(row ConnectRow) plotPoint { return plotPoint{y: row.P99.Number()} })
	}
	return p
}

// quotePlot shows latency by rate, with a line for each device.
func (r *ConnectReport) quotePlot() linePlot {
	p := linePlot{xLabel: "new connections per second", yLabel: "CONNACK after, milliseconds (median)"}
	for i, device := range r.devices() {
		for _, way := range []string{Attested, Mutual} {
			rows := r.where(func(s ConnectSetting) bool {
				return s.Way == way && s.Rate > 0 && s.RoundTrip == r.first() && s.Device == device
			})
			p.add(fmt.Sprintf("%s, %v", way, device), i, way == Mutual, rows, medianConnack)
		}
	}
	return p
}

// medianConnack is the median latency of a row with its extremes, in microseconds.
func medianConnack(row ConnectRow) plotPoint {
	return plotPoint{y: row.P50.Number(), low: row.LeastP50.Number(), high: row.MostP50.Number()}
}

// add adds a line of what rows have, in microseconds, by their rate.
func (p *linePlot) add(name string, color int, dashed bool, rows []ConnectRow, value func(ConnectRow) plotPoint) {
	if len(rows) == 0 {
		return
	}
	l := plotLine{name: name, color: color, dashed: dashed}
	for _, row := range rows {
		v := value(row)
		l.points = append(l.points, plotPoint{x: row.Rate, y: v.y / 1000, low: v.low / 1000, high: v.high / 1000})
	}
	p.lines = append(p.lines, l)
}

// devices are those that evidence was made with.
func (r *ConnectReport) devices() (all []Device) {
	for _, row := range r.Rows {
		if row.Device.TEE != "" && !slices.Contains(all, row.Device) {
			all = append(all, row.Device)
		}
	}
	return all
}

// roundTripPlot shows latency by round trip, where several were measured.
func (r *ConnectReport) roundTripPlot() barPlot {
	ways := r.ways()
	p := barPlot{yLabel: "CONNACK after, milliseconds (median)", names: ways}
	at := r.comparedAt()
	for _, trip := range r.roundTrips() {
		g := barGroup{name: "round trip " + time.Duration(trip).String(), values: slices.Repeat([]plotPoint{unmeasured}, len(ways))}
		for i, way := range ways {
			rows := r.where(func(s ConnectSetting) bool {
				return s.Way == way && s.RoundTrip == trip && s.Rate == at && (s.Device == FastDevice || !attests(way))
			})
			for _, row := range rows {
				g.values[i] = plotPoint{y: row.P50.Number() / 1000, low: row.LeastP50.Number() / 1000, high: row.MostP50.Number() / 1000}
			}
		}
		p.groups = append(p.groups, g)
	}
	return p
}

func (r *ConnectReport) roundTrips() []Micros {
	return distinct(r.Rows, func(row ConnectRow) Micros { return row.RoundTrip })
}

// comparedAt is the rate at which round trips were compared.
func (r *ConnectReport) comparedAt() float64 {
	last := r.roundTrips()
	for _, row := range r.Rows {
		if row.RoundTrip == last[len(last)-1] && row.Rate > 0 {
			return row.Rate
		}
	}
	return 0
}

// saturatedPlot shows how many clients a second can connect securely. Plain connections are so many more that the others would not
// be seen.
func (r *ConnectReport) saturatedPlot() barPlot {
	secure := slices.DeleteFunc(r.ways(), func(way string) bool { return way == Plain })
	p := barPlot{yLabel: "new connections per second", names: secure}
	if len(secure) < len(r.ways()) {
		p.before = []string{Plain}
	}
	groups := append([]Device{{}}, r.devices()...)
	for _, device := range groups {
		g := barGroup{name: "quote: " + device.String(), values: slices.Repeat([]plotPoint{unmeasured}, len(secure))}
		if device.TEE == "" {
			g.name = "no evidence"
		}
		for _, row := range r.where(func(s ConnectSetting) bool { return s.Rate == 0 && s.Way != Plain && s.Device == device }) {
			g.values[slices.Index(secure, row.Way)] = plotPoint{y: row.PerSecond, low: row.LeastRate, high: row.MostRate}
		}
		p.groups = append(p.groups, g)
	}
	return p
}
