// Package fuzzbound bounds what a parser of foreign bytes may allocate: a fuzz target that goes through it fails if one input makes the parser
// allocate more than in proportion to its size. It is for tests.
package fuzzbound

import (
	"runtime"
	"testing"
)

// What may be allocated for an input: a constant, for certificates that are verified and for arithmetic with keys, and a multiple of its size, for what
// is decoded, encoded again to compare, and hashed.
const (
	Constant = 1 << 20
	Factor   = 64
)

// tries is how often an input is given that seems to exceed the bound. Only what exceeds it each time does: the runtime counts what other goroutines
// allocate, too.
const tries = 3

// Of is a fuzz target with one input, bounded.
func Of(target func(t *testing.T, data []byte)) func(t *testing.T, data []byte) {
	return func(t *testing.T, data []byte) {
		Check(t, len(data), func() { target(t, data) })
	}
}

// OfTwo is a fuzz target with two inputs, bounded.
func OfTwo(target func(t *testing.T, a, b []byte)) func(t *testing.T, a, b []byte) {
	return func(t *testing.T, a, b []byte) {
		Check(t, len(a)+len(b), func() { target(t, a, b) })
	}
}

// Check calls f, and fails the test if f allocates more than may be allocated for an input of so many bytes. Where that seems to be so, f is called
// again.
func Check(t testing.TB, size int, f func()) {
	t.Helper()
	bound := uint64(Constant + Factor*size)
	least := uint64(0)
	for i := range tries {
		if n := allocated(f); i == 0 || n < least {
			least = n
		}
		if least <= bound {
			return
		}
	}
	t.Errorf("an input of %d bytes allocates %d bytes, more than %d", size, least, bound)
}

// allocated is how many bytes f allocates on the heap, whether or not they are freed again.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
