package atls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"github.com/vouchmq/vouchmq/attest"
)

// A ticket is u32 length, evidence, and zeros up to one of two sizes: every handshake message is a TLS record
// of its own, so its size shows. The smaller keeps the server's first flight within TCP's initial window.
const (
	smallTicket = 10240
	largeTicket = 49152
	lengthSize  = 4
)

// ticketSize returns the bucket for evidence of n bytes.
func ticketSize(n int) int {
	if n+lengthSize <= smallTicket {
		return smallTicket
	}
	return largeTicket
}

// ticketRoom holds memory for tickets, all zeros.
var ticketRoom = sync.Pool{New: func() any { return new([smallTicket]byte) }}

// giveBack lets another ticket have the memory of one that nobody needs any more, if there is one. It returns nil.
func giveBack(ticket *[smallTicket]byte) *[smallTicket]byte {
	if ticket != nil {
		clear(ticket[:lengthSize+binary.BigEndian.Uint32(ticket[:])]) // the rest is zero
		ticketRoom.Put(ticket)
	}
	return nil
}

// packTicket puts evidence into a ticket of zeros. It panics if the evidence does not fit, which the caller has checked.
func packTicket(evidence, t []byte) []byte {
	binary.BigEndian.PutUint32(t, uint32(len(evidence)))
	_ = t[:lengthSize+len(evidence)] // or it would be cut
	copy(t[lengthSize:], evidence)
	return t
}

// unpackTicket returns the evidence in a ticket, and accepts exactly what packTicket writes.
func unpackTicket(t []byte) ([]byte, error) {
	if len(t) != smallTicket && len(t) != largeTicket {
		return nil, attest.Errorf(attest.ErrFormat, "session ticket of %d bytes is not %d or %d bytes long: it carries no evidence", len(t), smallTicket, largeTicket)
	}
	n := binary.BigEndian.Uint32(t)
	if n == 0 {
		return nil, errNoEvidence()
	}
	if uint64(n) > uint64(len(t)-lengthSize) {
		return nil, attest.Errorf(attest.ErrFormat, "session ticket: evidence of %d bytes exceeds the ticket", n)
	}
	evidence, padding := t[lengthSize:lengthSize+n], t[lengthSize+n:]
	if bytes.Count(padding, []byte{0}) != len(padding) { // a loop would take longer than all else that is done here
		return nil, attest.Errorf(attest.ErrFormat, "session ticket: padding is not zero")
	}
	return evidence, nil
}

// ticketTrap is a client's session cache that never resumes. It keeps the first ticket and then makes the
// connection's next read stop, so that Client can wait for the ticket without waiting for data.
type ticketTrap struct {
	conn   *pausingConn
	ticket []byte
}

// Get never finds a session: nothing is resumed.
func (*ticketTrap) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// disarm makes the trap ignore all further tickets, and lets go of the one it has.
func (t *ticketTrap) disarm() { t.ticket = []byte{} }

// Put takes the first ticket. It is called within tls.Conn.Read, in the goroutine that reads.
func (t *ticketTrap) Put(_ string, state *tls.ClientSessionState) {
	if t.ticket != nil || state == nil {
		return
	}
	ticket, _, err := state.ResumptionState()
	if err != nil {
		return
	}
	t.ticket = ticket
	t.conn.paused = true
}

// pausingConn is a net.Conn whose Read can be made to return errPaused. Only the goroutine that sets up the
// connection touches paused; afterwards it stays false.
type pausingConn struct {
	net.Conn
	paused bool
}

func (c *pausingConn) Read(b []byte) (int, error) {
	if c.paused {
		return 0, errPaused
	}
	return c.Conn.Read(b)
}

// pausedError is a temporary net.Error: crypto/tls keeps other errors for ever.
type pausedError struct{}

var errPaused error = pausedError{}

func (pausedError) Error() string   { return "reading is paused" }
func (pausedError) Timeout() bool   { return true }
func (pausedError) Temporary() bool { return true }

// readTicket reads until the server's ticket has come, and returns it and what application data came with it.
func (t *ticketTrap) readTicket(c *tls.Conn) (data []byte, err error) {
	if t.ticket != nil {
		return nil, nil
	}
	// One byte, so that no more than one byte of application data has to be kept aside: the rest stays in
	// the buffer of crypto/tls.
	var first [1]byte
	n, err := c.Read(first[:])
	t.conn.paused = false
	if t.ticket == nil {
		if err == nil {
			err = attest.Errorf(attest.ErrMissing, "the server sent data before its evidence")
		}
		return nil, err
	}
	if err != nil && !errors.Is(err, errPaused) {
		return nil, err
	}
	return first[:n], nil
}
