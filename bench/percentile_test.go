package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestPercentiles compares with what can be counted off a sorted list.
func TestPercentiles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 3, 7, 50, 60, 99, 100, 101, 300, 1000, 10_001} {
		h := newLatencies()
		var list []time.Duration
		for range n {
			d := time.Duration(random.Int64N(int64(time.Second)))
			list = append(list, d)
			h.RecordValue(bounded(d))
		}
		slices.Sort(list)
		for _, percent := range append([]float64{1, 100}, CurvePercents...) {
			t.Run(fmt.Sprintf("%g of %d", percent, n), func(t *testing.T) {
				got := time.Duration(percentileOf(h, percent))
				at := 0 // the first that so many are no longer than
				for float64(at+1)*100 < percent*float64(n)*(1-1e-12) {
					at++
				}
				if want := max(list[at], shortestLatency); got < want*999/1000 || got > want*1001/1000+time.Microsecond {
					t.Errorf("%v, want %v", got, want)
				}
			})
		}
	}
	if got := percentileOf(newLatencies(), 50); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestNinetyNinthOfSixtyIsTheLongest(t *testing.T) {
	h := newLatencies()
	for i := range 60 {
		h.RecordValue(bounded(time.Duration(i+1) * time.Millisecond))
	}
	if got := time.Duration(percentileOf(h, 99)).Round(time.Millisecond); got != 60*time.Millisecond {
		t.Error(got)
	}
	if got := time.Duration(percentileOf(h, 50)).Round(time.Millisecond); got != 30*time.Millisecond {
		t.Error(got)
	}
}
