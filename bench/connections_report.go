package bench

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// WriteTable writes the report for people.
func (r ConnectionsReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "connections\tway\tMiB\tKiB each\t(least\tmost)\tadded each\tto TLS\tCPU ms/s\twith pings\tus a ping\t\n")
	for i, row := range r.Rows {
		if i > 0 && row.Connections != r.Rows[i-1].Connections {
			fmt.Fprintf(t, "\t\t\t\t\t\t\t\t\t\t\t\n")
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f\t%s\t%s\t%s\t%s\t%s\t%.1f\t%.1f\t%s\t\n", thousands(float64(row.Connections)), row.Way, row.Bytes/(1<<20),
			kib(row.Each), kib(row.LeastEach), kib(row.MostEach), kib(row.Added), ratioOrNone(row.ToTLS), row.Silent, row.Pinging, micros(row.PingCost))
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, reason := range r.LeftOut {
		if _, err := fmt.Fprintln(w, "left out:", reason); err != nil {
			return err
		}
	}
	return nil
}

// ratioOrNone writes a ratio; 0 is that there is none.
func ratioOrNone(r float64) string {
	if r == 0 {
		return "-"
	}
	return strconv.FormatFloat(r, 'f', 2, 64)
}

// kib writes a number of bytes in KiB.
func kib(bytes float64) string { return strconv.FormatFloat(bytes/1024, 'f', 1, 64) }

// WriteCSV writes every measurement.
func (r ConnectionsReport) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write([]string{
		"way", "connections", "round", "empty_bytes", "bytes", "silent_cpu_ms_per_second", "pinging_cpu_ms_per_second", "pings",
	})
	for _, s := range r.Samples {
		c.Write([]string{
			s.Way, strconv.Itoa(s.Connections), strconv.Itoa(s.Round), strconv.FormatUint(s.Empty, 10), strconv.FormatUint(s.Bytes, 10),
			strconv.FormatFloat(s.Silent, 'f', 2, 64), strconv.FormatFloat(s.Pinging, 'f', 2, 64), strconv.Itoa(s.Pings),
		})
	}
	c.Flush()
	return c.Error()
}

// memoryPlot shows memory for each connection by their number: all of the process, and what was added to it.
func (r *ConnectionsReport) memoryPlot() linePlot {
	p := linePlot{xLabel: "idle connections", yLabel: "KiB for each connection"}
	r.lines(&p, "", "added", func(row ConnectionsRow) (solid, dashed plotPoint) {
		return plotPoint{y: row.Each / 1024, low: row.LeastEach / 1024, high: row.MostEach / 1024}, plotPoint{y: row.Added / 1024}
	})
	return p
}

// processorPlot shows processor time by the number of connections, with pings and without.
func (r *ConnectionsReport) processorPlot() linePlot {
	p := linePlot{xLabel: "idle connections", yLabel: "processor time, milliseconds per second"}
	r.lines(&p, "pinging", "silent", func(row ConnectionsRow) (solid, dashed plotPoint) {
		return plotPoint{y: row.Pinging}, plotPoint{y: row.Silent}
	})
	return p
}

// lines adds two lines for each way to connect. The scale is logarithmic, and has no place for what is 0.
func (r *ConnectionsReport) lines(p *linePlot, solidName, dashedName string, values func(ConnectionsRow) (solid, dashed plotPoint)) {
	for i, way := range r.ways() {
		solid := plotLine{name: joined(way, solidName), color: i}
		dashed := plotLine{name: joined(way, dashedName), color: i, dashed: true}
		for _, row := range r.Rows {
			if row.Way != way {
				continue
			}
			a, b := values(row)
			solid.point(float64(row.Connections), a)
			dashed.point(float64(row.Connections), b)
		}
		if len(solid.points) > 0 {
			p.lines = append(p.lines, solid, dashed)
		}
	}
}

// ways are those that were measured, in their order.
func (r *ConnectionsReport) ways() []string {
	return distinct(r.Rows, func(row ConnectionsRow) string { return row.Way })
}

func joined(name, more string) string {
	if more == "" {
		return name
	}
	return name + ", " + more
}

func (l *plotLine) point(x float64, p plotPoint) {
	if p.x = x; p.y > 0 {
		l.points = append(l.points, p)
	}
}
