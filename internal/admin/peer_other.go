//go:build !linux

package admin

import (
	"net"
	"os"
)

// peerUID knows nothing of the other side here: the mode of the socket has to do.
func peerUID(net.Conn) (uint32, error) { return uint32(os.Geteuid()), nil }
