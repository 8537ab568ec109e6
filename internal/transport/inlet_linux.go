package transport

import (
	"syscall"
	"unsafe"
)

// readNow reads from a socket that does not block. An error that isNothing says that there is nothing to read.
func readNow(fd uintptr, b []byte) (int, error) { return callNow(syscall.SYS_READ, fd, b) }

// writeNow writes to a socket that does not block. An error that isNothing says that it takes nothing.
func writeNow(fd uintptr, b []byte) (int, error) { return callNow(syscall.SYS_WRITE, fd, b) }

// callNow makes a system call that does not wait, without announcing it to Go's scheduler. That would take the call for one that may
// wait, and, in a process that has been idle, wake a thread to watch over it: as much work again as a small message is.
func callNow(number, fd uintptr, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return -1, errno
	}
}
