package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Names of the metrics that do not come from the table.
const (
	respondingName = "vouchmq_core_responding"
	stepTimesName  = "vouchmq_step_duration_seconds"
)

// scrapeTimeout bounds how long one scrape waits for the core.
const scrapeTimeout = 2 * time.Second

// NewRegistry returns a registry with the broker's metrics and those of the Go runtime and the process. It is a
// registry of its own: nothing else in the program can add to it.
func NewRegistry(source Source) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(source), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// collector turns one snapshot into metrics, at each scrape.
type collector struct {
	source     Source
	metrics    []described
	responding *prometheus.Desc
	stepTimes  *prometheus.Desc
}

type described struct {
	metric
	desc *prometheus.Desc
}

func newCollector(source Source) *collector {
	c := &collector{
		source:     source,
		responding: prometheus.NewDesc(respondingName, "1 if the core answered this scrape in time; if not, most other metrics are missing.", nil, nil),
		stepTimes:  prometheus.NewDesc(stepTimesName, "How long steps of the core took, by the clock on the wall.", nil, nil),
	}
	for _, m := range table() {
		c.metrics = append(c.metrics, described{m, prometheus.NewDesc(m.name, m.help, m.labels, nil)})
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.responding
	out <- c.stepTimes
	for _, m := range c.metrics {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector. A core that does not answer is itself something to show: the metrics of
// runtime and process are worth most then.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	s, err := c.source.Snapshot(ctx)
	out <- prometheus.MustNewConstMetric(c.responding, prometheus.GaugeValue, oneIf(err == nil))
	if err != nil {
		return
	}
	for _, m := range c.metrics {
		m.read(&s, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, value, valid(labels)...)
		})
	}
	out <- c.histogram(&s)
}

// Buckets of the histogram: steps shorter than 2^i microseconds, for each second i from 16 µs to 16 s.
const (
	firstBucket = 4
	lastBucket  = 24
	bucketStep  = 2
)

func (c *collector) histogram(s *Snapshot) prometheus.Metric {
	buckets := map[float64]uint64{}
	var count uint64
	for i, n := range s.Engine.StepTimes {
		count += n
		if i >= firstBucket && i <= lastBucket && i%bucketStep == 0 {
			buckets[float64(uint64(1)<<i)/1e6] = count
		}
	}
	return prometheus.MustNewConstHistogram(c.stepTimes, count, s.Engine.StepTime.Seconds(), buckets)
}
