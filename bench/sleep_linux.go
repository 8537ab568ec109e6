package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps until t in the kernel. A timer of Go may be a millisecond late when nothing else is to be done, which
// is longer than a message takes. The kernel itself may wake a thread 50 µs late, so that it can wake several at once, unless it is
// told otherwise (PR_SET_TIMERSLACK(2const)); it is told so each time, since goroutines change threads.
func sleepUntil(t time.Time) {
	for left := time.Until(t); left > 0; left = time.Until(t) {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(time.Nanosecond), 0, 0, 0) // else it is later
		spec := unix.NsecToTimespec(left.Nanoseconds())
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &spec, nil) // interrupted: what is left is slept then
	}
}
