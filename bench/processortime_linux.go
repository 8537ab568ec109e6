package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime reads the clock of a process, in nanoseconds. Its number is made as CPUCLOCK_SCHED of a process is in the kernel's
// include/linux/posix-timers_types.h; clock_getcpuclockid(3) does the same.
func processorTime(pid int) (time.Duration, error) {
	const cpuclockSched = 2
	var now unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|cpuclockSched), &now) != nil {
		return processorTimeOfStat(pid)
	}
	return time.Duration(now.Nano()), nil
}
