package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vouchmq/vouchmq/internal/httpd"
)

// Config says where administration is listened for.
type Config struct {
	Socket string `yaml:"socket" doc:"path of the Unix socket that administration commands use; empty is none"`
}

// SocketFile is the usual name of the socket, in the state folder.
const SocketFile = "admin.sock"

// MaxSocketPath is how many bytes the address of a Unix socket has room for (unix(7)), with the name it has at first.
const MaxSocketPath = 107 - len(beforeRename)

// beforeRename ends the name of a socket that does not have its mode yet.
const beforeRename = ".new"

// ErrSocketInUse says that another broker listens there.
var ErrSocketInUse = errors.New("another broker listens there")

// Server listens for administration.
type Server struct {
	socket *Socket
	http   *httpd.Server
}

// Listen makes the socket, with mode 0600, and serves it until Close. A socket that nobody listens to any more is
// replaced; anything else in its place is an error.
func Listen(ctx context.Context, path string, o Options) (*Server, error) {
	socket, err := Open(ctx, path)
	if err != nil {
		return nil, err
	}
	return socket.Serve(o), nil
}

// Socket is a socket at which nobody is answered yet.
type Socket struct {
	listener net.Listener
	path     string
	made     os.FileInfo
}

// Open makes the socket, as Listen does.
func Open(ctx context.Context, path string) (*Socket, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("admin.socket %s: the path of a socket has at most %d bytes, this one has %d: choose a shorter one",
			path, MaxSocketPath, len(path))
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("admin.socket %s: %w", path, err)
	}
	l, made, err := listenPrivately(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("admin.socket %s: %w", path, err)
	}
	return &Socket{l, path, made}, nil
}

// Serve answers at the socket until the server is closed.
func (s *Socket) Serve(o Options) *Server {
	guarded := &guarded{Listener: s.listener, log: o.Log}
	return &Server{s, httpd.Serve(guarded, NewHandler(o), httpd.Options{WriteTimeout: writeTimeout, Log: o.Log, ConnContext: withUID})}
}

// Close closes and removes a socket that is not served.
func (s *Socket) Close() error { return errors.Join(s.listener.Close(), s.remove()) }

// remove removes the socket, unless it is gone, or another broker's by now.
func (s *Socket) remove() error {
	now, err := os.Lstat(s.path)
	if err != nil || !os.SameFile(now, s.made) {
		return nil
	}
	return os.Remove(s.path)
}

// listenPrivately gives the socket its mode before it gets its name: there is no moment in which others could use it.
func listenPrivately(ctx context.Context, path string) (net.Listener, os.FileInfo, error) {
	temporary := path + beforeRename
	if err := removeStale(ctx, temporary); err != nil {
		return nil, nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", temporary)
	if err != nil {
		return nil, nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would remove the first name
	made, err := name(temporary, path)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close(), os.Remove(temporary))
	}
	return l, made, nil
}

func name(temporary, path string) (os.FileInfo, error) {
	if err := os.Chmod(temporary, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// removeStale removes a socket that nobody listens to.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something else in its place: remove it, or choose another path")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(ErrSocketInUse, conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w, or what does cannot be asked: %w", ErrSocketInUse, err)
	}
	return os.Remove(path)
}

// Path returns the path of the socket.
func (s *Server) Path() string { return s.socket.path }

// Close ends the server, when what is being answered has been answered or ctx ends, and removes the socket.
func (s *Server) Close(ctx context.Context) error {
	return errors.Join(s.http.Close(ctx), s.socket.remove())
}
