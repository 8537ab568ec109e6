package transport

import (
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// pieceSize is how much is written at a time. It is what progress is measured in.
const pieceSize = 64 << 10

// closeWriter is what streams have whose write side can be closed alone.
type closeWriter interface{ CloseWrite() error }

// wakeWriter starts the writer if there is something for it to do and it is not running. It returns false if there are
// fewer bytes to write than least, and does nothing then.
func (c *conn) wakeWriter(least int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing || c.dead || c.pending == nil && !c.closing {
		return true
	}
	if !c.closing && len(c.pending.b) < least {
		return false
	}
	c.startWriter()
	return true
}

// startWriter starts the writer. c.mu is held.
func (c *conn) startWriter() {
	c.writing = true
	c.transport.tasks.Go(c.write)
}

// write is the writer: it writes until nothing is left.
func (c *conn) write() {
	for {
		out, last := c.takePending()
		if out == nil {
			if last {
				c.farewell()
			}
			return
		}
		err := c.writePieces(out.b)
		putBuffer(out)
		if err != nil {
			c.writeFailed(err)
			return
		}
	}
}

// takePending takes what is to be written. With nothing left the writer has ended; last says that nothing
// will ever come.
func (c *conn) takePending() (out *buffer, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead || c.pending == nil {
		// A closing connection keeps its writer: no other one must say farewell again.
		c.writing = c.closing
		return nil, c.closing && !c.dead
	}
	out, c.pending = c.pending, nil
	c.leaving = len(out.b)
	return out, false
}

func (c *conn) writePieces(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), pieceSize)
		if _, err := c.stream.Write(b[:n]); err != nil {
			return err
		}
		c.wrote(n)
		b = b[n:]
	}
	return nil
}

// wrote notes progress, and lets those go on who waited for it.
func (c *conn) wrote(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving -= n
	c.left += uint64(n)
	c.backlog.written++
	c.synced()
	if c.size() > c.transport.limits.SoftBacklog/2 {
		return
	}
	c.backlog.crowding = 0 // here, since whoever looks from time to time may miss it
	c.releaseWaiters()
	if c.backlog.stalled {
		c.recover()
	}
}

// recover ends a stall. c.mu is held.
func (c *conn) recover() {
	c.log.Info("client reads again", "dropped", c.backlog.dropped)
	c.backlog.stalled, c.backlog.dropped = false, 0
	c.postNow(abi.EventUnblocked)
}

func (c *conn) writeFailed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = 0
	if c.closing && !c.dead {
		err = errNotFlushed
	}
	c.abortLocked(err)
}

// farewell closes the write side. The pump, which throws away what still comes, then sees the other side
// close, or gives up on it.
func (c *conn) farewell() {
	_ = c.stream.SetReadDeadline(time.Now().Add(c.transport.limits.FarewellTimeout)) // fails only if it is closed
	if w, ok := c.stream.(closeWriter); ok && w.CloseWrite() == nil {
		return
	}
	c.abort(nil)
}
