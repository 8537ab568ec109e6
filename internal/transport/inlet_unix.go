//go:build unix

package transport

import "syscall"

// canReadNow says that readNow and writeNow work.
const canReadNow = true

// isNothing says that a socket which does not block has nothing to read, or takes nothing.
func isNothing(err error) bool { return err == syscall.EAGAIN }
