//go:build unix && !linux

package transport

import "syscall"

// readNow reads from a socket that does not block. An error that isNothing says that there is nothing to read.
func readNow(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// writeNow writes to a socket that does not block. An error that isNothing says that it takes nothing.
func writeNow(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
