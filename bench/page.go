package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"time"
)

//go:embed page.html
var pageText string

// WritePage writes the evaluation as one page of HTML that needs nothing else: tables, plots, the machine and the command.
func (e *Evaluation) WritePage(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"thousands":     thousands,
		"number":        number,
		"micros":        micros,
		"rounds":        rounds,
		"failures":      failures,
		"seconds":       func(s Seconds) string { return time.Duration(s).String() },
		"mebibytes":     func(b uint64) string { return thousands(float64(b>>20)) + " MiB" },
		"bars":          func(r Report) template.HTML { return r.plot().SVG() },
		"payloadPlots":  func() []titledPlot { return e.payloadPlots() },
		"curvePlots":    func(r PacedReport) []titledPlot { return r.curvePlots() },
		"draw":          func(p titledPlot) template.HTML { return p.SVG() },
		"matchPlot":     func(r *MatchReport) template.HTML { return r.plot().SVG() },
		"ns":            func(s Spread) string { return fmt.Sprintf("%.0f (%.0f to %.0f)", s.Value, s.Least, s.Most) },
		"ratio":         func(s Spread) string { return s.String() },
		"clock":         func(d time.Duration) string { return d.Round(10 * time.Microsecond).String() },
		"lines":         func(r PacedReport) template.HTML { return r.plot().SVG() },
		"ratePlot":      func(r *ConnectReport) template.HTML { return r.ratePlot().SVG() },
		"roundTripPlot": func(r *ConnectReport) template.HTML { return r.roundTripPlot().SVG() },
		"quotePlot":     func(r *ConnectReport) template.HTML { return r.quotePlot().SVG() },
		"saturatedPlot": func(r *ConnectReport) template.HTML { return r.saturatedPlot().SVG() },
		"memoryPlot":    func(r *ConnectionsReport) template.HTML { return r.memoryPlot().SVG() },
		"processorPlot": func(r *ConnectionsReport) template.HTML { return r.processorPlot().SVG() },
		"millis":        millis,
		"ratioOrNone":   ratioOrNone,
		"kib":           kib,
		"duration":      func(m Micros) string { return time.Duration(m).String() },
		"limit":         func(b Bar) string { return b.limit() },
		"value":         func(b Bar) string { return b.value() },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, e)
}

// rounds says in words how many rounds there were of which length.
func rounds(n int, each Seconds) string {
	if n == 1 {
		return fmt.Sprintf("One round of %v", time.Duration(each))
	}
	return fmt.Sprintf("%d rounds of %v", n, time.Duration(each))
}

// HasShapes reports whether more than one shape was measured, so that there is something to compare.
func (r Report) HasShapes() bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Shape != r.Rows[0].Shape })
}

func (r Report) plot() barPlot {
	p := barPlot{yLabel: "deliveries per second"}
	for _, row := range r.Rows {
		if !slices.Contains(p.names, row.Variant) {
			p.names = append(p.names, row.Variant)
		}
		if len(p.groups) == 0 || p.groups[len(p.groups)-1].name != row.Shape {
			p.groups = append(p.groups, barGroup{name: row.Shape})
		}
		g := &p.groups[len(p.groups)-1]
		g.values = append(g.values, plotPoint{y: row.Median, low: row.Least, high: row.Most})
	}
	return p
}

// plot has two lines for each variant: median, and 99th percentile with its extremes over the rounds. What does not keep pace
// is left out.
func (r PacedReport) plot() linePlot {
	p := linePlot{xLabel: r.Axis, yLabel: "latency, microseconds"}
	if r.Axis == payloadAxis {
		p.xTick = byteSize
	}
	names := distinct(r.Rows, func(row PacedRow) string { return row.Variant })
	for i, name := range names {
		color := colorOf(name, names[:i])
		p50, p99 := plotLine{name: name + ", median", color: color}, plotLine{name: name + ", p99", color: color, dashed: true}
		for _, row := range r.Rows {
			if row.Variant != name || row.Expected == 0 || !row.Kept() {
				continue
			}
			p50.points = append(p50.points, plotPoint{x: row.X, y: row.P50.Number()})
			p99.points = append(p99.points, plotPoint{x: row.X, y: row.P99.Number(), low: row.LeastP99.Number(), high: row.MostP99.Number()})
		}
		p.lines = append(p.lines, p50, p99)
	}
	return p
}
