package transport

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// ListenUnix listens on a Unix socket at path, which only those may open whom mode lets write. The file is never
// there with another mode. It is removed when the listener is closed.
//
// A socket that lies there and that nobody answers on is replaced. Anything else that lies there is an error.
func ListenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if len(path) > maxUnixPath {
		return nil, fmt.Errorf("unix socket %s: the path is longer than %d bytes", path, maxUnixPath)
	}
	if err := checkStale(path); err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	listener, err := listenAside(path, mode)
	if err != nil {
		return nil, fmt.Errorf("unix socket %s: %w", path, err)
	}
	return listener, nil
}

// maxUnixPath is how long the path of a Unix socket may be on all systems.
const maxUnixPath = 103

// checkStale says why there can be no socket at path. One that is left over is no reason.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is something else than a socket; remove it, or choose another path")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(errors.New("somebody listens there already: is another broker running?"), conn.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("cannot tell whether somebody listens there: %w", err)
}

// listenAside makes the socket in a folder that nobody else can open, gives it its mode, and moves it to path.
func listenAside(path string, mode fs.FileMode) (_ net.Listener, err error) {
	aside, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(aside)
	temporary := filepath.Join(aside, "s")
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w (the path of its folder may have some 85 bytes)", err)
	}
	socket.SetUnlinkOnClose(false)
	l := &unixListener{UnixListener: socket, path: path}
	if err = os.Chmod(temporary, mode.Perm()); err == nil {
		if l.file, err = os.Lstat(temporary); err == nil {
			err = os.Rename(temporary, path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return l, nil
}

// unixListener is a Unix socket that has been moved to its place.
type unixListener struct {
	*net.UnixListener
	path   string
	file   fs.FileInfo
	remove sync.Once
}

// Addr returns the path that clients use.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close removes the file, unless another has taken its place, and closes the socket.
func (l *unixListener) Close() (err error) {
	l.remove.Do(func() {
		if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.file) {
			err = os.Remove(l.path)
		}
	})
	return errors.Join(err, l.UnixListener.Close())
}
