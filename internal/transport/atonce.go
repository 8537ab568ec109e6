package transport

import (
	"errors"
	"os"
)

// When a message comes alone, whoever steps the core for it also writes what comes of it, so that no writer need wake up. That is
// only a try: it must not wait, neither for a peer nor for a lock that somebody may hold who waits for a peer. What the socket does
// not take at once is left to a writer.

const (
	fewConnections = 4         // to so many connections is written at once; for more, writers on other processors are faster
	littleToWrite  = pieceSize // bytes that are written to one of them at once
)

// writeAtOnce writes what is pending, as far as that is possible without waiting. It returns false if it did nothing.
func (c *conn) writeAtOnce() bool {
	if !c.layers.TryLock() {
		return false
	}
	defer c.layers.Unlock()
	if !c.inlet.patient {
		return false // it is not TLS or plain, or not yet, or not any more
	}
	out := c.takeLittle()
	if out == nil {
		return false
	}
	size := len(out.b)
	c.inlet.trying = true
	_, err := c.stream.Write(out.b)
	c.inlet.trying = false
	putBuffer(out)
	switch {
	case err != nil:
		c.writeFailed(err)
	case c.inlet.rest != nil:
		c.transport.tasks.Go(func() { c.writeRest(size) })
	default:
		c.wroteAll(size)
	}
	return true
}

// takeLittle takes what is pending in place of the writer, if that does not run and there is little. It returns nil if not.
func (c *conn) takeLittle() *buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing || c.closing || c.pending == nil || len(c.pending.b) > littleToWrite {
		return nil
	}
	out := c.pending
	c.pending, c.leaving, c.writing = nil, len(out.b), true
	return out
}

// wroteAll ends what takeLittle began. What has come meanwhile is for a writer.
func (c *conn) wroteAll(size int) {
	c.wrote(size)
	c.mu.Lock()
	c.writing = false
	c.mu.Unlock()
	c.wakeWriter(0)
}

// writeRest is a writer that begins with what the socket did not take.
func (c *conn) writeRest(size int) {
	if err := c.inlet.writeRest(); err != nil {
		c.writeFailed(err)
		return
	}
	c.wrote(size)
	c.write()
}

// outlet is how an inlet writes. It belongs to who writes.
type outlet struct {
	trying  bool    // Write does not wait
	rest    *buffer // what the socket did not take; nil if it took all
	leaving []byte  // for giveTo
	refused error   // of giveTo
}

// Write writes to the socket. While somebody is trying, it does not wait, and what the socket does not take is kept for writeRest.
func (i *inlet) Write(b []byte) (int, error) {
	if !i.trying {
		return i.Conn.Write(b)
	}
	if i.leaving = b; i.rest == nil {
		i.refused = nil
		if err := errors.Join(i.raw.Write(i.send), i.refused); err != nil {
			return 0, err
		}
	}
	if len(i.leaving) > 0 {
		i.keep(i.leaving)
	}
	i.leaving = nil
	return len(b), nil
}

// giveTo gives the socket what it takes. It returns true, so that nothing is waited for.
func (i *inlet) giveTo(fd uintptr) bool {
	for len(i.leaving) > 0 {
		n, err := writeNow(fd, i.leaving)
		if err != nil {
			if !isNothing(err) {
				i.refused = os.NewSyscallError("write", err)
			}
			return true
		}
		i.leaving = i.leaving[n:]
	}
	return true
}

func (i *inlet) keep(b []byte) {
	if i.rest == nil {
		i.rest = getBuffer(len(b))
	}
	i.rest = i.rest.grow(len(b))
	i.rest.b = append(i.rest.b, b...)
}

// writeRest writes what Write has kept, and waits until the socket takes it.
func (i *inlet) writeRest() error {
	_, err := i.Conn.Write(i.rest.b)
	putBuffer(i.rest)
	i.rest = nil
	return err
}
