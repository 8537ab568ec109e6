package bench

import (
	"fmt"
	"slices"
	"time"
)

// Spread is the median of what the rounds gave, with the extremes.
type Spread struct {
	Value float64 `json:"value"` // median
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// String is for tables.
func (s Spread) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", s.Value, s.Least, s.Most) }

// extremes are for a table that has the median in another column.
func (s Spread) extremes() string { return short(s.Least) + " to " + short(s.Most) }

func spreadOf(values []float64) Spread {
	return Spread{median(values), slices.Min(values), slices.Max(values)}
}

// quotients divides what two variants have of each round. It returns false if there is no round of which both have something.
func quotients[S any](of, to []S, value func(S) (float64, bool)) (Spread, bool) {
	var all []float64
	for i := range min(len(of), len(to)) {
		a, aOK := value(of[i])
		b, bOK := value(to[i])
		if aOK && bOK && b > 0 {
			all = append(all, a/b)
		}
	}
	if len(all) == 0 {
		return Spread{}, false
	}
	return spreadOf(all), true
}

// median of at least one value. It sorts a copy.
func median[T float64 | time.Duration](values []T) T {
	v := slices.Sorted(slices.Values(values))
	middle := len(v) / 2
	if len(v)%2 == 1 {
		return v[middle]
	}
	return (v[middle-1] + v[middle]) / 2
}
