package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps until t in the kernel. A timer of Go may be a millisecond late when nothing else is to be done, which
// is longer than a message takes.
func sleepUntil(t time.Time) {
	for left := time.Until(t); left > 0; left = time.Until(t) {
		spec := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &spec, nil) // interrupted: what is left is slept then
	}
}
