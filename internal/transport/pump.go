package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// pump reads from the connection until it ends, and tells the engine what came.
func (c *conn) pump() {
	in, cause := (*buffer)(nil), error(nil)
	if c.auth != nil {
		in, cause = c.readGated(getBuffer(smallBuffer))
	}
	if cause == nil {
		in, cause = c.read(in)
	}
	if in != nil {
		putBuffer(in)
	}
	if errors.Is(cause, io.EOF) || errors.Is(cause, net.ErrClosed) || errors.Is(cause, os.ErrDeadlineExceeded) {
		cause = nil
	}
	c.finish(cause)
}

// read reads and posts runs of whole packets. It returns the buffer that it used last, nil if it has none. While nothing comes
// it has no buffer, and little stack, since it waits here: see inlet.
func (c *conn) read(in *buffer) (*buffer, error) {
	c.layers.Lock()
	patient := c.inlet.bePatient(c.stream)
	c.layers.Unlock()
	direct := c.stream == net.Conn(&c.inlet)
	for size, wait := smallBuffer, false; ; {
		if patient && in != nil && len(in.b) == 0 {
			size = cap(in.b)
			putBuffer(in)
			in = nil
		}
		if wait {
			c.inlet.await()
		}
		n, err := 0, error(nil)
		if direct {
			in, n, err = c.inlet.awaitMore(in, size)
		} else {
			c.layers.Lock()
			in, n, err = c.readAll(in, size)
			c.layers.Unlock()
		}
		filled := in != nil && len(in.b) == cap(in.b)
		if n > 0 {
			if more, fault := c.take(in, n); !more {
				return in, fault
			}
			in = fit(in, n, filled)
		}
		if wait = err == errNothing; err != nil && !wait {
			return in, err
		}
	}
}

// readAll reads what has come into in, or into a buffer of a size if there is none, until that holds runBuffer bytes. It returns that
// buffer, and how much came. TLS gives a record at a time, but a run of packets goes on in the next, and a message costs the core
// the less the longer its run is. A connection that cannot be read without waiting is read once, and so is one that has rates: it is
// to get no further ahead of them.
func (c *conn) readAll(in *buffer, size int) (_ *buffer, n int, err error) {
	if in == nil {
		in = getBuffer(size)
	}
	for had := len(in.b); ; in = in.grow(1) {
		free := in.b[len(in.b):cap(in.b)]
		if c.pace != nil {
			free = free[:min(len(free), c.pace.most)]
		}
		n, err = c.stream.Read(free)
		in.b = in.b[:len(in.b)+n]
		if err != nil || !c.inlet.patient || c.pace != nil || len(in.b) >= runBuffer {
			return in, len(in.b) - had, err
		}
	}
}

// take posts the whole packets in in, the last n bytes of which are new, and leaves the rest there. more is false if the
// connection is at its end.
func (c *conn) take(in *buffer, n int) (more bool, err error) {
	c.figures.bytes.Add(uint64(n))
	whole, fault := c.cut(in.b)
	c.figures.add(whole)
	if c.pace != nil && !c.keepPace(n, whole.publishes) {
		return false, nil
	}
	if !c.post(in.b[:whole.size], whole.packets) {
		return false, nil
	}
	if fault != 0 {
		return false, c.refuse(fault)
	}
	in.b = in.b[:copy(in.b, in.b[whole.size:])]
	return true, nil
}

// fit gives a connection a larger buffer when it has filled the one it has, and a smaller one when it has
// become quiet. A buffer beyond 64 KiB holds the beginning of one packet, and grows only as the packet comes:
// what a header announces costs nothing.
func fit(in *buffer, n int, filled bool) *buffer {
	switch {
	case len(in.b) == cap(in.b), filled && cap(in.b) < runBuffer:
		return in.grow(cap(in.b) - len(in.b) + 1)
	case len(in.b) == 0 && n < cap(in.b)/4 && cap(in.b) > smallBuffer:
		smaller := getBuffer(max(smallBuffer, min(runBuffer, cap(in.b)/2)))
		putBuffer(in)
		return smaller
	}
	return in
}

// run is what can be posted at once: whole packets.
type run struct {
	size, packets int
	publishes     int // PUBLISH packets among them
}

// mostUnknown bounds the packets of clients that nobody knows yet, so that who has not even said CONNECT cannot fill memory with
// the beginning of one. Five strings of 64 KiB fit in: identifier, will, user name and password can all be as long as they get.
const mostUnknown = 336 << 10

// cut finds the whole packets at the start of what the client has sent. Its first packet is held to mostUnknown.
func (c *conn) cut(b []byte) (run, mqtt.ReasonCode) {
	most := int(c.transport.maxPacketSize.Load())
	if c.figures.packets.Load() == 0 {
		if first, fault := cut(b, min(most, mostUnknown)); first.packets == 0 {
			return first, fault
		}
	}
	return cut(b, most)
}

// cut finds the whole packets at the start of b. reason is the MQTT 5 reason code for what follows them, 0
// if that may still become a packet of up to most bytes.
func cut(b []byte, most int) (whole run, reason mqtt.ReasonCode) {
	for {
		rest, fault := b[whole.size:], (*mqtt.Fault)(nil)
		size, ok := mqtt.ShortFrameSize(rest)
		if !ok {
			size, ok, fault = mqtt.FrameSize(rest)
		}
		switch {
		case fault != nil:
			return whole, fault.Reason
		case !ok:
			return whole, 0
		case size > most:
			return whole, mqtt.PacketTooLarge // [MQTT-3.2.2-15]
		case size > len(rest):
			return whole, 0
		}
		if mqtt.TypeOf(rest) == mqtt.PUBLISH {
			whole.publishes++
		}
		whole.size += size
		whole.packets++
	}
}

// post posts a run, once the connections that the runs before it went to have come after. It returns false
// if the connection is at its end.
func (c *conn) post(packets []byte, count int) bool {
	if count == 0 || c.isClosing() {
		return !c.isGone()
	}
	if !c.awaitTargets() {
		return false
	}
	if count == 1 && mqtt.TypeOf(packets) == mqtt.PUBLISH {
		return c.transport.engine.PostAndStep(abi.EventPackets, c.id, c.epoch.Load(), 1, packets)
	}
	for p := (abi.Portion{}); len(packets) > 0; {
		packets, count = abi.NextPortion(packets, count, abi.ShortestRun, &p)
		if !c.postIncoming(p.Kind, p.Arg, p.Data) {
			return false
		}
	}
	return true
}

// refuse tells the core that the stream is not MQTT, and waits for the core to close the connection.
func (c *conn) refuse(reason mqtt.ReasonCode) error {
	if !c.postIncoming(abi.EventBadPacket, uint32(reason), nil) {
		return nil
	}
	_ = c.stream.SetReadDeadline(time.Now().Add(c.transport.limits.FlushTimeout)) // fails only if it is closed
	return c.discard()
}

// discard reads until the connection ends.
func (c *conn) discard() error {
	c.layers.Lock()
	c.inlet.patient = false
	c.layers.Unlock()
	_, err := io.Copy(io.Discard, c.stream)
	return err
}

func (c *conn) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// awaitTargets waits while the target that is furthest behind has more than half of the soft limit to write,
// and while the core has paused the connection.
func (c *conn) awaitTargets() bool {
	for target := c.slowest.Swap(nil); c.paused.Load() || target != nil && target.enlist(c); {
		if !c.awaitResume() {
			return false
		}
		if c.isClosing() {
			return true
		}
	}
	return true
}

// signOfLife is how often the core hears of a client whose packets wait: its PINGREQ may be among them, and is
// not to come too late through no fault of its own.
const signOfLife = time.Second

// awaitResume waits until the pump should look again whether to go on. It returns false if the connection is at
// its end.
func (c *conn) awaitResume() bool {
	for {
		resumed, ok := c.awaitResumeFor(signOfLife)
		if resumed || !ok {
			return ok
		}
	}
}

// awaitResumeFor is awaitResume for some time, up to signOfLife. ok is false if the connection is at its end.
func (c *conn) awaitResumeFor(most time.Duration) (resumed, ok bool) {
	if c.alive == nil {
		c.alive = time.NewTimer(most)
	} else {
		c.alive.Reset(most)
	}
	defer c.alive.Stop()
	select {
	case <-c.resume:
		return true, true
	case <-c.gone:
		return false, false
	case <-c.alive.C:
		if most >= signOfLife {
			c.postNow(abi.EventPackets)
		}
		return false, true
	}
}

// enlist makes source one of those who wait for c, unless nobody has to.
func (c *conn) enlist(source *conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.backlog.stalled || c.size() <= c.transport.limits.SoftBacklog/2 {
		return false
	}
	c.backlog.waiters = append(c.backlog.waiters, source)
	return true
}

// releaseWaiters lets all go on who wait for c. c.mu is held.
func (c *conn) releaseWaiters() {
	for i, source := range c.backlog.waiters {
		source.goOn()
		c.backlog.waiters[i] = nil
	}
	c.backlog.waiters = c.backlog.waiters[:0]
}
