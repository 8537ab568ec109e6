package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// processClock is the clock of the processor time of a process, see clock_getcpuclockid(3): what is not of its number says that all
// threads count together, as exactly as the scheduler knows.
func processClock(pid int) int32 { return ^int32(pid)<<3 | 2 }

// processorTime reads that clock, to the nanosecond.
func processorTime(pid int) (time.Duration, bool) {
	var t unix.Timespec
	err := unix.ClockGettime(processClock(pid), &t)
	return time.Duration(t.Nano()), err == nil
}
