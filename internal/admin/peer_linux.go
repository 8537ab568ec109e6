package admin

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// peerUID returns who is on the other side of a Unix socket, as the kernel knows it (SO_PEERCRED, unix(7)).
func peerUID(conn net.Conn) (uint32, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var credentialsErr error
	err = raw.Control(func(fd uintptr) {
		credentials, credentialsErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credentialsErr); err != nil {
		return 0, err
	}
	return credentials.Uid, nil
}
