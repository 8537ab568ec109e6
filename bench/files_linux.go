package bench

import (
	"fmt"
	"syscall"
)

// otherFiles are those that a process has open beside its connections.
const otherFiles = 200

// RoomForConnections sees to it that this process, and those that it starts, may have so many connections open. It fails where
// nobody has allowed that many.
func RoomForConnections(count int) error {
	need := uint64(count + otherFiles)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	if need <= limit.Cur {
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // Go raised it for itself; what is set is also for processes that it starts
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: max(limit.Max, need)}); err != nil {
		return fmt.Errorf("%s connections need %d open files at the broker, and as many here, and a process may have %d: raise that limit, "+
			"with `ulimit -Hn %d` as root, LimitNOFILE= of systemd, or --ulimit nofile= of a container", thousands(float64(count)), need, limit.Max, need)
	}
	return nil
}
