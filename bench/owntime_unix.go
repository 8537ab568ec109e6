//go:build unix

package bench

import (
	"fmt"
	"syscall"
	"time"
)

// ownProcessorTime is how long processors have worked for this process so far, in the kernel and outside.
func ownProcessorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("processor time of this process: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
