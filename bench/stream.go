package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// StreamReport is what became of numbered messages at QoS 1 or 2.
type StreamReport struct {
	Name       string `json:"name"`
	QoS        byte   `json:"qos"`
	Sent       uint64 `json:"sent"`
	Received   uint64 `json:"received"`   // different numbers
	Duplicates uint64 `json:"duplicates"` // numbers that came again; at QoS 1 a reconnection may do that
	Disorder   uint64 `json:"disorder"`   // numbers that came for the first time after a higher one
	Reconnects uint64 `json:"reconnects"` // of the subscriber
	Error      string `json:"error,omitempty"`
}

// failures are what a broker must not do: lose, change the order, deliver twice at QoS 2, or deliver twice at
// QoS 1 to a client that stayed.
func (r StreamReport) failures() (all []string) {
	if r.Error != "" {
		all = append(all, r.Error)
	}
	if r.Received != r.Sent {
		all = append(all, fmt.Sprintf("%d messages sent, %d received", r.Sent, r.Received))
	}
	if r.Disorder > 0 {
		all = append(all, fmt.Sprintf("%d messages out of order", r.Disorder))
	}
	if r.Duplicates > 0 && (r.QoS == 2 || r.Reconnects == 0) {
		all = append(all, fmt.Sprintf("%d messages came twice", r.Duplicates))
	}
	return all
}

// stream is a publisher and a subscriber of numbered messages.
type stream struct {
	name   string
	topic  string
	qos    byte
	dial   Dialer
	size   int
	roams  bool // the subscriber loses its connection now and then, and takes its session up again
	burst  int  // messages at a time
	every  time.Duration
	log    sequence
	sent   atomic.Uint64
	all    sync.WaitGroup
	idle   chan struct{} // closed when the publisher has ended
	reconn atomic.Uint64
	mu     sync.Mutex
	err    error
}

const (
	roamEvery     = 3 * time.Second
	sessionExpiry = 300 // seconds
)

// startStreams connects four streams and lets them run until ctx ends: QoS 1 and 2, with a subscriber that stays
// and with one that comes and goes. The publisher to the one that comes and goes is slow, so that what waits for it
// fits the broker's queue.
func (s *soak) startStreams(ctx context.Context) ([]*stream, error) {
	var all []*stream
	for _, qos := range []byte{1, 2} {
		steady := &stream{name: fmt.Sprintf("QoS %d, subscriber stays", qos), qos: qos, burst: Window, every: time.Millisecond}
		roaming := &stream{name: fmt.Sprintf("QoS %d, subscriber comes and goes", qos), qos: qos, burst: 1, every: 10 * time.Millisecond, roams: true}
		for _, x := range []*stream{steady, roaming} {
			x.topic = fmt.Sprintf("bench/stream/%d/%v", qos, x.roams)
			x.dial, x.size, x.idle = s.plan.Attested, s.plan.Payload, make(chan struct{})
			if err := x.start(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", x.name, err)
			}
			all = append(all, x)
		}
	}
	return all, nil
}

func (x *stream) start(ctx context.Context) error {
	in, err := x.attach(ctx)
	if err != nil {
		return err
	}
	if err := subscribe(in.conn, in.buf, x.topic, x.qos); err != nil {
		return err
	}
	out, err := openSession(ctx, x.dial, "soak-pub-"+x.topic, 0)
	if err != nil {
		return err
	}
	x.all.Go(func() { x.blame(x.receive(in)) })
	x.all.Go(func() {
		defer close(x.idle)
		x.blame(x.publish(ctx, out))
	})
	return nil
}

// attach opens the subscriber's connection, with the session that it has.
func (x *stream) attach(ctx context.Context) (session, error) {
	return openSession(ctx, x.dial, "soak-sub-"+x.topic, sessionExpiry)
}

func (x *stream) blame(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		x.err = err
	}
}

// publish sends a burst at a time until ctx ends, and then waits for the acknowledgements.
func (x *stream) publish(ctx context.Context, s session) (err error) {
	defer s.conn.Close()
	w := newSendWindow(x.topic, x.qos, x.size, s.window)
	var out []byte
	for {
		more := pause(ctx, x.every) == nil
		if more {
			out = w.fill(out, x.burst)
			x.sent.Store(w.sent)
		}
		s.conn.SetDeadline(time.Now().Add(dialTime))
		if _, err := s.conn.Write(out); err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		if w.flying == 0 && !more {
			return nil
		}
		if out, err = takeWhole(s.buf, w.take, out[:0]); err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
	}
}

// receive counts what comes until all has come, or nothing more does.
func (x *stream) receive(s session) error {
	r := newReceiver(func(p *mqtt.Publish) { x.log.note(p.Payload) })
	for {
		lost, err := x.receiveOn(s, r)
		s.conn.Close()
		if !lost {
			return err
		}
		x.reconn.Add(1)
		if s, err = x.attach(context.Background()); err != nil {
			return fmt.Errorf("subscriber, coming back: %w", err)
		}
	}
}

// receiveOn receives on one connection. It returns true when the subscriber is to lose it now.
func (x *stream) receiveOn(s session, r *receiver) (lost bool, err error) {
	leave := time.Now().Add(roamEvery)
	deadline := time.Now().Add(drainTime)
	var out []byte
	for {
		publishing := x.publishing()
		if !publishing && x.log.received == x.sent.Load() && r.waiting == 0 {
			return false, nil
		}
		if publishing {
			deadline = time.Now().Add(drainTime)
			if x.roams && time.Now().After(leave) {
				return true, nil
			}
		} else if time.Now().After(deadline) {
			return false, fmt.Errorf("subscriber: %v after the last message was acknowledged some have not come", drainTime)
		}
		if out, err = x.receiveSome(s, r, out); err != nil {
			return false, fmt.Errorf("subscriber: %w", err)
		}
	}
}

// receiveSome takes what has come, and answers. If nothing comes for a while it returns, too.
func (x *stream) receiveSome(s session, r *receiver, out []byte) ([]byte, error) {
	s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := s.buf.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
		return out, nil
	}
	s.conn.SetReadDeadline(time.Now().Add(dialTime))
	out, err := takeWhole(s.buf, r.take, out[:0])
	if err != nil {
		return out, err
	}
	_, err = s.conn.Write(out)
	return out[:0], err
}

func (x *stream) publishing() bool {
	select {
	case <-x.idle:
		return false
	default:
		return true
	}
}

// finish waits for the end of a stream.
func (x *stream) finish() StreamReport {
	x.all.Wait()
	r := StreamReport{
		Name: x.name, QoS: x.qos, Sent: x.sent.Load(), Reconnects: x.reconn.Load(),
		Received: x.log.received, Duplicates: x.log.duplicates, Disorder: x.log.disorder,
	}
	if x.err != nil {
		r.Error = x.err.Error()
	}
	return r
}

// sequence keeps account of numbers, of which each should come once, in order. It keeps those that are missing.
type sequence struct {
	next       uint64 // one more than the highest number that has come
	missing    map[uint64]bool
	received   uint64
	duplicates uint64
	disorder   uint64
}

// note takes a payload that begins with a number, see sendWindow.
func (s *sequence) note(payload []byte) {
	if len(payload) < 8 {
		return // shows as a loss
	}
	n := binary.BigEndian.Uint64(payload)
	switch {
	case n >= s.next:
		for ; s.next < n && len(s.missing) < maxMissing; s.next++ {
			s.miss(s.next)
		}
		s.next = n + 1
		s.received++
	case s.missing[n]:
		delete(s.missing, n)
		s.received++
		s.disorder++
	default:
		s.duplicates++
	}
}

// maxMissing bounds what a broken broker can make a sequence keep.
const maxMissing = 1 << 20

func (s *sequence) miss(n uint64) {
	if s.missing == nil {
		s.missing = map[uint64]bool{}
	}
	s.missing[n] = true
}
