package bench

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Size of a plot in units of SVG, and where its axes are.
const (
	plotWidth, plotHeight         = 860, 420
	plotLeft, plotRight           = 80, 190 // the legend is on the right
	plotTop, plotBottom           = 16, 56
	plotInnerWidth                = plotWidth - plotLeft - plotRight
	plotInnerHeight               = plotHeight - plotTop - plotBottom
	plotBarShare          float64 = 0.8 // of a group's width
)

// plotColors can be told apart by most people who see colours less well, on white and on black.
var plotColors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#999999", "#9467bd", "#bcbd22"}

// variantColors are those of variants that are often measured, so that they look the same in all plots.
var variantColors = []string{NativeTLS, "wasm-plain", WasmAttested, MosquittoTLS, "native-plain", "wasm-tls", "native-attested"}

// colorOf is the number of the color of a name in a plot that has these names before it. In a plot of variants they have theirs, and
// what is none, such as another broker beside them, gets one that no variant has. In a plot that begins with something else, such as
// ways to connect, all have that of their place.
func colorOf(name string, before []string) int {
	if len(before) > 0 && !slices.Contains(variantColors, before[0]) {
		return len(before)
	}
	if i := slices.Index(variantColors, name); i >= 0 {
		return i
	}
	others := 0
	for _, b := range before {
		if !slices.Contains(variantColors, b) {
			others++
		}
	}
	if others < len(before) {
		return len(variantColors) + others
	}
	return others
}

// linePlot has lines over a logarithmic scale in both directions.
type linePlot struct {
	xLabel, yLabel string
	lines          []plotLine
	xTick          func(float64) string // how places on the horizontal axis are written; nil is axisNumber
}

type plotLine struct {
	name   string
	color  int // of plotColors
	dashed bool
	points []plotPoint
}

// plotPoint is a value with its extremes; no extremes are drawn where both are 0.
type plotPoint struct{ x, y, low, high float64 }

// svg is a drawing that grows.
type svg struct{ strings.Builder }

func (s *svg) add(format string, args ...any) { fmt.Fprintf(&s.Builder, format+"\n", args...) }

func (s *svg) text(x, y float64, anchor, class, text string) {
	s.add(`<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	s.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

func newSVG(label string) *svg {
	s := &svg{}
	s.add(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, plotWidth, plotHeight, html.EscapeString(label))
	return s
}

func (s *svg) done() template.HTML {
	s.add("</svg>")
	return template.HTML(s.String()) //nolint:gosec // every text has been escaped
}

// scale maps values to places on an axis.
type plotScale struct {
	least, most float64 // of values
	from, to    float64 // places
	log         bool
}

func (a plotScale) at(v float64) float64 {
	least, most := a.least, a.most
	if a.log {
		v, least, most = math.Log10(max(v, a.least)), math.Log10(a.least), math.Log10(a.most)
	}
	if most == least {
		return (a.from + a.to) / 2
	}
	return a.from + (v-least)/(most-least)*(a.to-a.from)
}

// SVG draws the plot.
func (p linePlot) SVG() template.HTML {
	s := newSVG(p.yLabel + " by " + p.xLabel)
	var xs, ys []float64
	for _, l := range p.lines {
		for _, pt := range l.points {
			xs = append(xs, pt.x)
			ys = append(ys, pt.y)
			if pt.high > 0 {
				ys = append(ys, pt.low, pt.high)
			}
		}
	}
	if len(xs) == 0 {
		s.text(plotWidth/2, plotHeight/2, "middle", "label", "nothing was measured")
		return s.done()
	}
	x := plotScale{slices.Min(xs), slices.Max(xs), plotLeft + 12, plotLeft + plotInnerWidth - 12, true}
	y := plotScale{decade(slices.Min(ys), math.Floor), decade(slices.Max(ys), math.Ceil), plotTop + plotInnerHeight, plotTop, true}
	if y.least == y.most {
		y.most *= 10
	}
	s.logAxis(y)
	slices.Sort(xs)
	tick := p.xTick
	if tick == nil {
		tick = axisNumber
	}
	s.places(x, slices.Compact(xs), tick)
	s.labels(p.xLabel, p.yLabel)
	for i, l := range p.lines {
		s.drawLine(l, x, y)
		s.legend(i, l.name, l.color, l.dashed)
	}
	return s.done()
}

// decade is the power of ten next to v.
func decade(v float64, round func(float64) float64) float64 {
	return math.Pow(10, round(math.Log10(max(v, 1e-9))))
}

// logAxis has a line for each power of ten, and between few of them one for twice and five times as much.
func (s *svg) logAxis(y plotScale) {
	steps := []float64{1}
	if y.most <= y.least*100.1 {
		steps = []float64{1, 2, 5}
	}
	for power := y.least; power <= y.most*1.001; power *= 10 {
		for _, step := range steps {
			if v := power * step; v <= y.most*1.001 {
				s.line(plotLeft, y.at(v), plotLeft+plotInnerWidth, y.at(v), "grid")
				s.text(plotLeft-8, y.at(v)+4, "end", "tick", axisNumber(v))
			}
		}
	}
}

// places marks the values that were measured; labels that would lie on others are left out.
func (s *svg) places(x plotScale, values []float64, tick func(float64) string) {
	last := math.Inf(-1)
	for _, v := range values {
		at := x.at(v)
		s.line(at, plotTop+plotInnerHeight, at, plotTop+plotInnerHeight+4, "axis")
		if at-last >= 40 {
			s.text(at, plotTop+plotInnerHeight+18, "middle", "tick", tick(v))
			last = at
		}
	}
}

func (s *svg) labels(x, y string) {
	s.line(plotLeft, plotTop+plotInnerHeight, plotLeft+plotInnerWidth, plotTop+plotInnerHeight, "axis")
	s.text(plotLeft+plotInnerWidth/2, plotHeight-14, "middle", "label", x)
	s.add(`<text transform="translate(18 %d) rotate(-90)" text-anchor="middle" class="label">%s</text>`,
		plotTop+plotInnerHeight/2, html.EscapeString(y))
}

func (s *svg) drawLine(l plotLine, x, y plotScale) {
	color, dash := plotColors[l.color%len(plotColors)], ""
	if l.dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	var places []string
	for _, p := range l.points {
		places = append(places, fmt.Sprintf("%.1f,%.1f", x.at(p.x), y.at(p.y)))
	}
	s.add(`<g stroke="%s" fill="%[1]s"><polyline points="%s" fill="none" stroke-width="2"%s/>`, color, strings.Join(places, " "), dash)
	for _, p := range l.points {
		s.add(`<circle cx="%.1f" cy="%.1f" r="3"><title>%s: %s, %s</title></circle>`,
			x.at(p.x), y.at(p.y), html.EscapeString(l.name), axisNumber(p.x), axisNumber(p.y))
		if p.high > 0 {
			s.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" opacity="0.5"/>`, x.at(p.x), y.at(p.low), x.at(p.x), y.at(p.high))
		}
	}
	s.add("</g>")
}

func (s *svg) legend(i int, name string, color int, dashed bool) {
	y, dash := float64(plotTop+12+18*i), ""
	if dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	s.add(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="3"%s/>`,
		plotWidth-plotRight+14, y, plotWidth-plotRight+38, y, plotColors[color%len(plotColors)], dash)
	s.text(plotWidth-plotRight+44, y+4, "start", "tick", name)
}

// barPlot has groups of bars over a linear scale.
type barPlot struct {
	yLabel string
	before []string // names that have colors of their own in other plots beside it, and no bars here
	names  []string // of the bars of each group
	groups []barGroup
}

// color is that of the bars of a name.
func (p barPlot) color(i int) int { return colorOf(p.names[i], slices.Concat(p.before, p.names[:i])) }

type barGroup struct {
	name   string
	values []plotPoint // one for each name; x does not count
}

// unmeasured stands for what a group has no bar of, which is something else than 0.
var unmeasured = plotPoint{y: math.NaN()}

func (p plotPoint) measured() bool { return !math.IsNaN(p.y) }

// most is the largest value, extremes included.
func (p barPlot) most() (most float64) {
	for _, g := range p.groups {
		for _, v := range g.values {
			if v.measured() {
				most = max(most, v.y, v.high)
			}
		}
	}
	return most
}

// SVG draws the plot.
func (p barPlot) SVG() template.HTML {
	s := newSVG(p.yLabel)
	most := p.most()
	if most == 0 {
		s.text(plotWidth/2, plotHeight/2, "middle", "label", "nothing was measured")
		return s.done()
	}
	headroom := 1.05 // for what is written above bars
	if p.upright() {
		headroom = 1.12
	}
	y := plotScale{0, most * headroom, plotTop + plotInnerHeight, plotTop, false}
	for v, step := 0.0, niceStep(most); v <= y.most; v += step {
		s.line(plotLeft, y.at(v), plotLeft+plotInnerWidth, y.at(v), "grid")
		s.text(plotLeft-8, y.at(v)+4, "end", "tick", axisNumber(v))
	}
	for i, g := range p.groups {
		s.drawGroup(g, p, plotLeft+float64(i)*p.width(), y)
	}
	s.labels("", p.yLabel)
	for i, name := range p.names {
		s.legend(i, name, p.color(i), false)
	}
	return s.done()
}

// width is that of a group.
func (p barPlot) width() float64 { return plotInnerWidth / float64(len(p.groups)) }

// bar is the width of a bar, with the gap beside it.
func (p barPlot) bar() float64 { return p.width() * plotBarShare / float64(len(p.names)) }

// valueDigit is the width of a digit above a bar, and a bit.
const valueDigit = 6.5

// upright reports whether what is written above bars has to stand upright, for it would lie on its neighbour.
func (p barPlot) upright() bool {
	longest := 0
	for _, g := range p.groups {
		for _, v := range g.values {
			if v.measured() {
				longest = max(longest, len(axisNumber(v.y)))
			}
		}
	}
	return float64(longest)*valueDigit > p.bar()
}

func (s *svg) drawGroup(g barGroup, p barPlot, left float64, y plotScale) {
	s.text(left+p.width()/2, plotTop+plotInnerHeight+18, "middle", "tick", g.name)
	for i, v := range g.values {
		if !v.measured() {
			continue
		}
		at := left + p.width()*(1-plotBarShare)/2 + float64(i)*p.bar()
		s.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s, %s: %s</title></rect>`,
			at, y.at(v.y), p.bar()*0.9, y.at(0)-y.at(v.y), plotColors[p.color(i)%len(plotColors)],
			html.EscapeString(g.name), html.EscapeString(p.names[i]), axisNumber(v.y))
		middle, top := at+p.bar()*0.45, y.at(max(v.y, v.high))-5
		if v.high > 0 {
			s.line(middle, y.at(v.low), middle, y.at(v.high), "axis")
		}
		s.barValue(middle, top, axisNumber(v.y), p.upright()) // some bars are too small to be seen
	}
}

func (s *svg) barValue(x, y float64, text string, upright bool) {
	if !upright {
		s.text(x, y, "middle", "value", text)
		return
	}
	s.add(`<text transform="translate(%.1f %.1f) rotate(-90)" text-anchor="start" class="value">%s</text>`, x+3, y, html.EscapeString(text))
}

// niceStep is 1, 2 or 5 times a power of ten, so that some five steps reach v.
func niceStep(v float64) float64 {
	power := decade(v/5, math.Floor)
	for _, f := range []float64{1, 2, 5} {
		if power*f >= v/5 {
			return power * f
		}
	}
	return power * 10
}

// axisNumber writes a number shortly: 25, 1.5k, 20k, 3M.
func axisNumber(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
