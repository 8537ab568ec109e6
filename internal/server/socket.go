package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// Sockets are listeners that were open before this program began, by name. Each is given out once.
type Sockets struct {
	mu     sync.Mutex
	byName map[string][]net.Listener
}

// NewSockets makes Sockets of what systemd has passed.
func NewSockets(byName map[string][]net.Listener) *Sockets { return &Sockets{byName: byName} }

func (s *Sockets) take(name string) (net.Listener, error) {
	if s == nil {
		return nil, fmt.Errorf("systemd passed no socket %q: is there a .socket unit with FileDescriptorName=%s?", name, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byName[name]
	if len(list) == 0 {
		return nil, fmt.Errorf("systemd passed no socket %q, or it has been closed since: restart to get it", name)
	}
	s.byName[name] = list[1:]
	return list[0], nil
}

// Close closes the sockets that nobody took, and returns their names.
func (s *Sockets) Close() (left []string) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, list := range s.byName {
		for _, l := range list {
			_ = l.Close() // nobody has used it
			left = append(left, name)
		}
	}
	s.byName = nil
	return left
}

// open opens the socket of a listener.
func (l *Listener) open(ctx context.Context, sockets *Sockets) (net.Listener, error) {
	network, address := (&settings.Listener{Address: l.Address}).Network()
	switch network {
	case "systemd":
		return l.openPassed(sockets, address)
	case "unix":
		return l.openUnix(ctx, address)
	case "vsock":
		return openVsock(address)
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w (is another broker running there?)", err)
	}
	return socket, nil
}

// openPassed takes a socket that systemd opened. Only now it is known where it can be reached from.
func (l *Listener) openPassed(sockets *Sockets, name string) (net.Listener, error) {
	socket, err := sockets.take(name)
	if err != nil {
		return nil, err
	}
	if l.plain() && !l.Insecure && beyondThisMachine(socket.Addr()) {
		_ = socket.Close() // it has not been used
		return nil, fmt.Errorf("systemd's socket %s at %s can be reached from other machines, and what goes over it can be read on the way: "+
			"say \"insecure: true\" if that is meant", name, socket.Addr())
	}
	return socket, nil
}

// openUnix opens a socket in the file system, in place of one that nobody listens on any more.
func (l *Listener) openUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, l.Mode.Perm()); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	return socket, nil
}

// removeStale removes a socket that a process left behind. Anything else is left alone.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return nil // Listen says what is wrong, if anything is
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("somebody listens on %s already", path), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// beyondThisMachine reports whether others can reach an address.
func beyondThisMachine(address net.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return !a.IP.IsLoopback()
	case *net.UnixAddr:
		return false
	}
	return true
}
