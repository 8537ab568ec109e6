// Package records lets a write of several records of TLS reach the network at once. crypto/tls hands each record of 16 KiB
// to the connection below it by itself, and each is a system call then, and wakes whoever reads at the other end.
//
// A [Socket] is what TLS runs over. [Socket.Through] writes to TLS, and keeps what comes out below until it is whole.
package records

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Largest is the size of the content of the largest record, in bytes (RFC 8446, 5.1).
const Largest = 16 << 10

// most is how many bytes are kept: four records of the largest size and what is around them. Loopback, and network cards
// that cut packets themselves, take 64 KiB at a time.
const most = 66 << 10

// Socket is the connection below a TLS connection. Its methods may be called by several goroutines at a time.
type Socket struct {
	net.Conn
	writing atomic.Bool // in Through
	through sync.Mutex  // held by Through

	mu   sync.Mutex
	held *[]byte // what is kept; nil while what is written goes to the network as it comes
	err  error   // of the network, once it failed: what TLS takes for written may not be
}

// Below returns raw as a Socket.
func Below(raw net.Conn) *Socket { return &Socket{Conn: raw} }

// room holds memory and no state.
var room = sync.Pool{New: func() any { b := make([]byte, 0, most); return &b }}

// Through writes b to tls, the TLS connection over s, and returns once all of its records have been handed to the network.
// It is what tls.Write(b) is, with fewer writes below. After an error nothing more can be written.
func (s *Socket) Through(tls io.Writer, b []byte) (int, error) {
	if len(b) <= Largest {
		return tls.Write(b)
	}
	s.through.Lock()
	defer s.through.Unlock()
	s.hold()
	n, err := tls.Write(b)
	if failed := s.release(); err == nil && failed != nil {
		return 0, failed
	}
	return n, err
}

// CloseOver closes tls, the TLS connection over s. While Through is at work it closes s, as crypto/tls does while it writes: a
// goodbye would have to wait for a peer who may not read.
func (s *Socket) CloseOver(tls io.Closer) error {
	if s.writing.Load() {
		return s.Close()
	}
	return tls.Close()
}

// Write writes to the network, or keeps b for it.
func (s *Socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil && s.err == nil {
		return s.Conn.Write(b)
	}
	if s.held != nil && len(*s.held)+len(b) > most {
		s.flush()
	}
	if s.err != nil {
		return 0, s.err
	}
	*s.held = append(*s.held, b...)
	return len(b), nil
}

// hold makes what is written stay here until release.
func (s *Socket) hold() {
	s.writing.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = room.Get().(*[]byte)
}

// release hands what is kept to the network.
func (s *Socket) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	if cap(*s.held) == most {
		room.Put(s.held)
	}
	s.held = nil
	s.writing.Store(false)
	return s.err
}

// flush writes what is kept, unless a write has failed before. s.mu is held.
func (s *Socket) flush() {
	if len(*s.held) > 0 && s.err == nil {
		_, s.err = s.Conn.Write(*s.held)
	}
	*s.held = (*s.held)[:0]
}
