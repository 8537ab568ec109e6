package bench

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// percentileOf is the least of the values that are as long as or longer than so many percent of all (nearest rank), to the three digits
// that a histogram has; 0 if there are none. The histogram by itself rounds the rank, so that the 99th percentile of 60 values would be
// the second longest, of which only 98.3 % are no longer.
func percentileOf(h *hdrhistogram.Histogram, percent float64) Micros {
	all := float64(h.TotalCount())
	if all == 0 {
		return 0
	}
	const slip = 1e-9 // of numbers such as 99.9 that are not exact
	rank := math.Ceil(percent/100*all - slip)
	return Micros(h.ValueAtPercentile(100 * rank / all))
}
