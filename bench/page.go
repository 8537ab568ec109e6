package bench

import (
	_ "embed"
	"html/template"
	"io"
	"slices"
	"strconv"
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
		"seconds":       func(s Seconds) string { return time.Duration(s).String() },
		"mebibytes":     func(b uint64) string { return thousands(float64(b>>20)) + " MiB" },
		"bars":          func(r Report) template.HTML { return r.plot().SVG() },
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
		"value":         func(b Bar) string { return strconv.FormatFloat(b.Value, 'g', 3, 64) + unit(b.Unit) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, e)
}

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
	var names []string
	for _, row := range r.Rows {
		if !slices.Contains(names, row.Variant) {
			names = append(names, row.Variant)
		}
	}
	for i, name := range names {
		p50 := plotLine{name: name + ", median", color: i}
		p99 := plotLine{name: name + ", p99", color: i, dashed: true}
		for _, row := range r.Rows {
			if row.Variant != name || row.Failed > 0 || !row.Kept() {
				continue
			}
			p50.points = append(p50.points, plotPoint{x: row.X, y: row.P50.Number()})
			p99.points = append(p99.points, plotPoint{x: row.X, y: row.P99.Number(), low: row.LeastP99.Number(), high: row.MostP99.Number()})
		}
		p.lines = append(p.lines, p50, p99)
	}
	return p
}
