package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime returns how much processor time the calling thread has used, to which the goroutine must be locked.
// It is not what has passed on the clock: a machine with more threads to run than processors lets all of them wait.
func processorTime() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
