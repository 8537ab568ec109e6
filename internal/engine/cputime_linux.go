package engine

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processorTime returns how much processor time the calling thread has used, to which the goroutine must be locked.
// It is not what has passed on the clock: a machine with more threads to run than processors lets all of them wait.
//
// The call does not wait and is not announced to Go's scheduler, which would wake a thread of its own for it if it has been idle.
func processorTime() time.Duration {
	var now unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		return 0
	}
	return time.Duration(now.Nano())
}
