package transport

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"syscall"
)

// inlet is the socket of a connection as its pump reads it. The pump waits for what comes in await, where a connection needs no
// buffer and next to no stack; what has come is then read from the inlet without waiting, through TLS or not. So a
// connection that does nothing costs little, and one that does much takes more from the socket at a time than TLS would.
//
// Until the pump makes it patient, an inlet reads as the socket does. It belongs to the goroutine that reads.
type inlet struct {
	net.Conn                       // the socket
	raw      syscall.RawConn       // nil if one cannot wait for the socket in this way
	receive  func(fd uintptr) bool // takeFrom, made once
	send     func(fd uintptr) bool // giveTo, made once

	patient bool    // Read returns errNothing rather than wait
	in      *buffer // what has come; nil if there is nothing
	from    int     // in.b[from:] has not been read
	size    int     // bytes of the next buffer
	most    int     // bytes to take from the socket at a time
	err     error   // what to tell once after what has come

	outlet
}

// nothing is a temporary net.Error: crypto/tls keeps other errors for ever.
type nothing struct{}

// errNothing says that nothing has come that could be read without waiting.
var errNothing error = nothing{}

func (nothing) Error() string   { return "nothing has come" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// over makes an inlet of a socket. It returns what to read the socket through.
func (i *inlet) over(socket net.Conn) net.Conn {
	i.Conn, i.size, i.most = socket, smallBuffer, math.MaxInt
	s, ok := socket.(syscall.Conn)
	if !ok || !canReadNow {
		return socket
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return socket
	}
	i.raw, i.receive, i.send = raw, i.takeFrom, i.giveTo
	return i
}

// Read reads what has come.
func (i *inlet) Read(b []byte) (int, error) {
	switch {
	case i.in != nil:
		return i.readOn(b), nil
	case i.err != nil:
		err := i.err
		i.err = nil
		return 0, err
	case i.patient:
		return 0, errNothing
	}
	return i.Conn.Read(b)
}

func (i *inlet) readOn(b []byte) int {
	n := copy(b, i.in.b[i.from:])
	if i.from += n; i.from == len(i.in.b) {
		putBuffer(i.in)
		i.in, i.from = nil, 0
	}
	return n
}

// CloseWrite closes the write side if the socket can.
func (i *inlet) CloseWrite() error {
	if w, ok := i.Conn.(closeWriter); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// bePatient makes Read return errNothing rather than wait, if that comes through stream, which is above. It reports whether
// it does.
func (i *inlet) bePatient(stream net.Conn) bool {
	switch stream.(type) {
	case *inlet, *prefixed, interface{ NetConn() net.Conn }: // the last is TLS
		i.patient = i.raw != nil
	}
	return i.patient
}

// await waits until there is something to read, be it an error.
func (i *inlet) await() {
	if err := i.raw.Read(i.receive); err != nil {
		i.err = err
	}
}

// awaitMore is await for a pump that reads nothing but the inlet: it adds to in, or to a buffer of a size if in is nil. It returns
// that buffer, nil if there still is none, and how much came.
func (i *inlet) awaitMore(in *buffer, size int) (*buffer, int, error) {
	had := 0
	if in != nil {
		had = len(in.b)
	}
	i.in, i.size = in, size
	i.await()
	in, err := i.in, i.err
	i.in, i.err = nil, nil
	if in == nil {
		return nil, 0, err
	}
	return in, len(in.b) - had, err
}

// takeFrom takes once from the socket. It returns false, and keeps nothing, if nothing has come.
func (i *inlet) takeFrom(fd uintptr) bool {
	in := i.in
	if in == nil {
		in = getBuffer(i.size)
	}
	free := in.b[len(in.b):cap(in.b)]
	free = free[:min(len(free), i.most)]
	n, err := readNow(fd, free)
	if n <= 0 && i.in == nil {
		putBuffer(in)
	}
	switch {
	case n > 0:
		in.b = in.b[:len(in.b)+n]
		i.in = in
		i.fit(n, len(free))
	case err == nil:
		i.err = io.EOF
	case isNothing(err):
		return false
	default:
		local := i.LocalAddr()
		i.err = &net.OpError{Op: "read", Net: local.Network(), Source: local, Addr: i.RemoteAddr(), Err: os.NewSyscallError("read", err)}
	}
	return true
}

// fit makes the next buffer larger if this one was filled, and smaller if most of it was not needed.
func (i *inlet) fit(n, free int) {
	switch {
	case n == free:
		i.size = min(2*i.size, runBuffer)
	case n < i.size/4:
		i.size = max(i.size/2, smallBuffer)
	}
}
