package engine

import (
	cryptorand "crypto/rand"
	"io"
	"math/rand/v2"
	"time"
)

// MonotoneClock returns a clock that gives milliseconds of the Unix clock and never goes back: the wall
// clock now and the monotonic clock since.
func MonotoneClock() func() int64 {
	start := time.Now()
	wall := start.UnixMilli()
	return func() int64 { return wall + time.Since(start).Milliseconds() }
}

// SystemEntropy returns a ChaCha8 generator that the system has seeded. It is not safe for use by several
// goroutines.
func SystemEntropy() io.Reader {
	var seed [32]byte
	_, _ = cryptorand.Read(seed[:]) // never fails, see its documentation
	return rand.NewChaCha8(seed)
}
