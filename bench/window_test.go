package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// stingy is a broker that takes few messages at QoS 1 and 2 at a time, acknowledges only when nothing more comes, and hands
// on none.
type stingy struct {
	addr   string
	takes  uint16
	silent bool // about how many it takes
	all    sync.WaitGroup

	mu   sync.Mutex
	most int // messages that were in flight at a time
	err  error
}

func startStingy(t *testing.T, takes uint16, silent bool) *stingy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &stingy{addr: l.Addr().String(), takes: takes, silent: silent}
	s.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.all.Wait()
		if s.err != nil {
			t.Error(s.err)
		}
	})
	return s
}

func (s *stingy) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	inFlight := map[uint16]bool{}
	var held []byte // acknowledgements
	for {
		if len(held) > 0 {
			conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		}
		_, err := r.Peek(1)
		conn.SetReadDeadline(time.Time{})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			conn.Write(held)
			held = held[:0]
			clear(inFlight)
			continue
		}
		frame, err := readFrame(r, nil)
		if err != nil {
			return
		}
		held = s.answer(conn, frame, inFlight, held)
		s.note(len(inFlight))
	}
}

// answer answers at once, or appends the answer to held.
func (s *stingy) answer(conn net.Conn, frame []byte, inFlight map[uint16]bool, held []byte) []byte {
	switch mqtt.TypeOf(frame) {
	case mqtt.CONNECT:
		c := mqtt.Connack{}
		if !s.silent {
			c.Props.Has = c.Props.Has.With(mqtt.PropReceiveMaximum)
			c.Props.ReceiveMaximum = s.takes
		}
		conn.Write(mqtt.AppendConnack(nil, version, &c))
	case mqtt.SUBSCRIBE:
		conn.Write(mqtt.AppendSuback(nil, version, 1, nil, []byte{2}))
	case mqtt.PUBLISH:
		var p mqtt.Publish
		if fault := mqtt.ParseServerPublish(frame, version, &p); fault != nil {
			s.fail(fault)
			return held
		}
		inFlight[p.PacketID] = true
		if p.QoS == 1 {
			return appendAck(held, mqtt.PUBACK, p.PacketID)
		}
		conn.Write(appendAck(nil, mqtt.PUBREC, p.PacketID)) // still in flight
	case mqtt.PUBREL:
		id, err := acknowledgement(frame)
		if err != nil {
			s.fail(err)
		}
		return appendAck(held, mqtt.PUBCOMP, id)
	}
	return held
}

func (s *stingy) note(inFlight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, inFlight)
}

func (s *stingy) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// TestPublishersHeedReceiveMaximum: what the broker does not take at a time is not sent [MQTT-3.3.4-7].
func TestPublishersHeedReceiveMaximum(t *testing.T) {
	const takes = 7
	shape := Shape{Name: "one", Publishers: 1, Subscribers: 1, fan: 1, topic: always("t"), filter: always("t")}
	for _, qos := range []byte{1, 2} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			s := startStingy(t, takes, false)
			r, err := Measure(t.Context(), DialTCP(s.addr), Load{Shape: shape, QoS: qos, Payload: 8, Window: 100 * time.Millisecond})
			if err != nil || r.Sent < takes {
				t.Fatalf("sent %d, error %v", r.Sent, err)
			}
			if s.most != takes {
				t.Errorf("%d messages in flight to a broker that takes %d", s.most, takes)
			}
		})
	}
	t.Run("paced", func(t *testing.T) {
		s := startStingy(t, takes, false)
		_, err := MeasurePace(t.Context(), DialTCP(s.addr), Pace{Shape: shape, PerSecond: 1000, QoS: 1, Payload: 8, Window: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if s.most != takes {
			t.Errorf("%d messages in flight to a broker that takes %d", s.most, takes)
		}
	})
	t.Run("steady stream", func(t *testing.T) {
		s := startStingy(t, takes, false)
		x := &stream{topic: "t", qos: 2, size: 8, dial: DialTCP(s.addr), burst: Window, every: time.Millisecond}
		out, err := openSession(t.Context(), x.dial, "out", 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := x.publish(ctx, out); err != nil {
			t.Error(err)
		}
		if s.most != takes {
			t.Errorf("%d messages in flight to a broker that takes %d", s.most, takes)
		}
	})
}

// TestWindowWithoutReceiveMaximum: a broker that says nothing takes 65,535 (MQTT 5, 3.2.2.3.3).
func TestWindowWithoutReceiveMaximum(t *testing.T) {
	s, err := openSession(t.Context(), DialTCP(startStingy(t, 0, true).addr), "one", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	if s.window != Window {
		t.Errorf("%d messages in flight, not %d", s.window, Window)
	}
}
