package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// payloadPlots have a line for each variant: deliveries by the size of the payload, point to point. One for each QoS that was measured
// with several sizes.
func (e *Evaluation) payloadPlots() (all []titledPlot) {
	for qos := range byte(3) {
		p := linePlot{xLabel: "payload", yLabel: "deliveries per second", xTick: byteSize}
		sizes := 0
		for _, r := range e.Throughput {
			if r.QoS != qos {
				continue
			}
			for _, row := range r.Rows {
				if row.Shape == Shapes[0].Name && row.Median > 0 {
					p.put(row.Variant, plotPoint{float64(r.Payload), row.Median, row.Least, row.Most})
				}
			}
			sizes++
		}
		if sizes > 1 {
			all = append(all, titledPlot{fmt.Sprintf("QoS %d, point to point, closed loop", qos), p})
		}
	}
	return all
}

// byteSize writes a size as people do.
func byteSize(bytes float64) string {
	if bytes >= 1<<10 {
		return axisNumber(bytes/(1<<10)) + " KiB"
	}
	return axisNumber(bytes) + " B"
}

type titledPlot struct {
	Title string
	linePlot
}

// put adds a point to the line of that name, which it makes if there is none.
func (p *linePlot) put(name string, point plotPoint) {
	i := slices.IndexFunc(p.lines, func(l plotLine) bool { return l.name == name })
	if i < 0 {
		i = len(p.lines)
		p.lines = append(p.lines, plotLine{name: name, color: colorOf(name, p.names())})
	}
	p.lines[i].points = append(p.lines[i].points, point)
}

// names are those of the lines.
func (p *linePlot) names() []string { return each(p.lines, func(l plotLine) string { return l.name }) }

// curvePlots show all percentiles of the latencies at a rate: the paper's highest, and the one that an aim is about.
func (r PacedReport) curvePlots() (all []titledPlot) {
	if r.Case != rateCase {
		return nil
	}
	for _, x := range []float64{paperRate, highRate} {
		p := linePlot{xLabel: "percentile", yLabel: "latency, microseconds", xTick: percentile}
		for _, row := range r.Rows {
			if row.X != x || row.Failed > 0 || !row.Kept() {
				continue
			}
			for i, latency := range row.Curve {
				if oneIn := 100 / (100 - CurvePercents[i]); math.Round(oneIn) <= row.ofARound(r.Rounds) {
					p.put(row.Variant, plotPoint{x: oneIn, y: latency.Number()})
				}
			}
		}
		if len(p.lines) > 0 {
			all = append(all, titledPlot{fmt.Sprintf("Percentiles at %s messages/s, %s", number(x), r.Load()), p})
		}
	}
	return all
}

// ofARound is how many messages came in a round: there is no percentile of less than one of them.
func (r PacedRow) ofARound(rounds int) float64 {
	return float64(r.Delivered) / float64(max(rounds-r.Failed, 1))
}

// percentile writes one in so many as a percentile.
func percentile(oneIn float64) string {
	return strconv.FormatFloat(100-100/oneIn, 'g', 4, 64)
}

// plot has the cost of a delivery by the number of filters.
func (r *MatchReport) plot() linePlot {
	p := linePlot{xLabel: "filters", yLabel: "processor time of the broker, nanoseconds"}
	for _, row := range r.Rows {
		for _, line := range []struct {
			name string
			cost Spread
		}{{"known topic", row.Known}, {"fresh topic", row.Fresh}, {"subscribe", row.Subscribe}} {
			p.put(row.Broker+", "+line.name, plotPoint{float64(row.Filters), line.cost.Value, line.cost.Least, line.cost.Most})
		}
	}
	return p
}
