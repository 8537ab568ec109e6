package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Pace is a load that does not wait for the broker (open loop): each message has its time, which was fixed before.
// Latency counts from that time, also if the message could only be sent later, so that a broker which stops for a
// moment is charged for every message that it kept from being sent (no coordinated omission).
type Pace struct {
	Shape     Shape   // each publisher sends to the first of its topics
	PerSecond float64 // messages of each publisher
	Payload   int     // bytes, at least 8
	QoS       byte

	Warmup time.Duration // messages of this time are not counted
	Window time.Duration // messages of this time are
}

// Latency is what a broker made of a Pace: messages whose time was within the window, and how long after that time they
// had come.
type Latency struct {
	Expected  uint64  `json:"expected"`  // deliveries
	Delivered uint64  `json:"delivered"` // deliveries that came
	Rate      float64 `json:"deliveries_per_second"`
	P50       Micros  `json:"p50_us"`
	P90       Micros  `json:"p90_us"`
	P99       Micros  `json:"p99_us"`
	P999      Micros  `json:"p999_us"`
	Max       Micros  `json:"max_us"`
	// Curve is the latency at each of CurvePercents.
	Curve []Micros `json:"curve_us,omitempty"`
	// Late is how long after its time a message was written, in all but one of a hundred cases. It is part of every
	// latency; if it is long, then the load generator or the broker's back-pressure held the message up.
	Late Micros `json:"late_p99_us"`
}

// Kept reports whether the broker kept pace as the paper means it: at least 95 % of the messages came.
func (l Latency) Kept() bool { return l.Delivered*100 >= l.Expected*95 }

// Micros is a time that is written as a number of microseconds.
type Micros time.Duration

// MarshalJSON implements json.Marshaler.
func (m Micros) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%.1f", m.Number()), nil }

// Number is the time in microseconds.
func (m Micros) Number() float64 { return float64(m) / float64(time.Microsecond) }

// CurvePercents are the percentiles of a curve of latencies.
var CurvePercents = []float64{50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99}

// Bounds of what is measured. What is longer counts as the longest.
const (
	shortestLatency = time.Microsecond
	longestLatency  = time.Minute
	latencyDigits   = 3
)

// MaxPaceTime bounds warm-up and window together: clients that only listen send nothing, and their keep-alive ends.
const MaxPaceTime = 80 * time.Second

// MeasurePace connects the clients of a pace, lets them run, and returns how long messages took. It fails if a client was
// refused or lost its connection.
func MeasurePace(ctx context.Context, dial Dialer, pace Pace) (Latency, error) {
	crew, ctx := newCrew(ctx)
	m := &paced{crew: crew, pace: pace}
	defer m.close()
	if err := m.connect(ctx, dial, pace.Shape, pace.QoS); err != nil {
		return Latency{}, err
	}
	m.start()
	if err := m.wait(ctx); err != nil {
		return Latency{}, err
	}
	return m.latency(), nil
}

type paced struct {
	*crew
	pace    Pace
	base    time.Time // when the first message is due
	sending []*pacedPublisher
	taking  []*pacedSubscriber
}

func newLatencies() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortestLatency), int64(longestLatency), latencyDigits)
}

// startAfter is how long after the last connection the first message is due, so that all are ready.
const startAfter = 20 * time.Millisecond

func (m *paced) start() {
	m.base = time.Now().Add(startAfter)
	for _, c := range m.subscribers {
		s := &pacedSubscriber{paced: m, session: c, took: newLatencies()}
		m.taking = append(m.taking, s)
		m.run(nil, s.receive)
	}
	for i, c := range m.publishers {
		m.sending = append(m.sending, newPacedPublisher(m, i, c))
	}
	for _, p := range m.sending {
		m.run(nil, p.listen)
		m.run(&m.writing, p.publish)
	}
}

// wait returns when all messages have been sent, and all have come or nothing has come for a while.
func (m *paced) wait(ctx context.Context) error {
	if err := m.awaitWritten(ctx, m.pace.Warmup+m.pace.Window+drainTime); err != nil {
		return err
	}
	for quiet := time.Duration(0); m.delivered() < m.expected() && quiet < drainQuiet; {
		before := m.delivered()
		if err := pause(ctx, drainStep); err != nil {
			return err
		}
		if quiet += drainStep; m.delivered() != before {
			quiet = 0
		}
	}
	return nil
}

const drainStep = 10 * time.Millisecond

func (m *paced) delivered() (n uint64) {
	for _, s := range m.taking {
		n += s.counted.Load()
	}
	return n
}

func (m *paced) expected() (n uint64) {
	for _, p := range m.sending {
		n += p.counted.Load()
	}
	return n * uint64(m.pace.Shape.fan)
}

// latency reads what the clients have noted. They have to have ended.
func (m *paced) latency() Latency {
	expected := m.expected()
	m.close()
	took, late := newLatencies(), newLatencies()
	for _, s := range m.taking {
		took.Merge(s.took)
	}
	for _, p := range m.sending {
		late.Merge(p.late)
	}
	delivered := uint64(took.TotalCount())
	var curve []Micros
	for _, percent := range CurvePercents {
		curve = append(curve, percentileOf(took, percent))
	}
	return Latency{
		Curve:    curve,
		Expected: expected, Delivered: delivered, Rate: float64(delivered) / m.pace.Window.Seconds(),
		P50: percentileOf(took, 50), P90: percentileOf(took, 90), P99: percentileOf(took, 99), P999: percentileOf(took, 99.9), Max: percentileOf(took, 100),
		Late: percentileOf(late, 99),
	}
}

// counts reports whether a message that is due so long after the base is one of the window.
func (m *paced) counts(due time.Duration) bool {
	return due >= m.pace.Warmup && due < m.pace.Warmup+m.pace.Window
}

// pacedPublisher sends each message at its time. At QoS 1 and 2 one for which no packet id is free waits.
type pacedPublisher struct {
	*paced
	session
	number  int
	topic   string
	payload []byte
	ids     chan uint16 // that are free
	late    *hdrhistogram.Histogram
	counted atomic.Uint64
}

func newPacedPublisher(m *paced, number int, s session) *pacedPublisher {
	p := &pacedPublisher{
		paced: m, session: s, number: number, topic: m.pace.Shape.topicsOf(number)[0],
		payload: letters(m.pace.Payload), ids: make(chan uint16, s.window), late: newLatencies(),
	}
	for id := range uint16(s.window) {
		p.ids <- id + 1
	}
	return p
}

// letters are what payloads are filled with: nothing that could be made shorter on the way.
func letters(n int) []byte {
	b := make([]byte, n)
	state := uint32(2463534242)
	for i := range b {
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		b[i] = 'a' + byte(state%26)
	}
	return b
}

// due says when a message is to be sent, after the base. Publishers take turns.
func (p *pacedPublisher) due(message int) time.Duration {
	turn := float64(message) + float64(p.number)/float64(p.pace.Shape.Publishers)
	return time.Duration(turn / p.pace.PerSecond * float64(time.Second))
}

func (p *pacedPublisher) publish() error {
	var out []byte
	for next := 0; p.due(next) < p.pace.Warmup+p.pace.Window; {
		sleepUntil(p.base.Add(p.due(next)))
		if p.closing.Load() {
			return nil
		}
		out, next = p.appendDue(out[:0], next)
		if _, err := p.conn.Write(out); err != nil {
			return fmt.Errorf("publisher %d: %w", p.number, err)
		}
	}
	return nil
}

// appendDue appends the messages whose time has come, as many as fit a record of TLS. The first of a payload's bytes are
// its time.
func (p *pacedPublisher) appendDue(out []byte, next int) ([]byte, int) {
	now := time.Since(p.base)
	for ; p.due(next) <= now; next++ {
		due := p.due(next)
		if len(out) > 0 && len(out)+len(p.payload) > chunkSize || due >= p.pace.Warmup+p.pace.Window {
			return out, next
		}
		id, ok := p.id(len(out) == 0)
		if !ok {
			return out, next
		}
		binary.BigEndian.PutUint64(p.payload, uint64(due))
		out = appendPublish(out, p.topic, p.pace.QoS, id, p.payload)
		if p.counts(due) {
			p.counted.Add(1)
			p.late.RecordValue(bounded(time.Since(p.base) - due))
		}
	}
	return out, next
}

// id takes a packet id at QoS 1 and 2, and waits for one if it may.
func (p *pacedPublisher) id(wait bool) (uint16, bool) {
	if p.pace.QoS == 0 {
		return 0, true
	}
	select {
	case id := <-p.ids:
		return id, true
	default:
	}
	if !wait {
		return 0, false
	}
	select {
	case id := <-p.ids:
		return id, true
	case <-p.closed:
		return 0, false
	}
}

// listen takes acknowledgements.
func (p *pacedPublisher) listen() error {
	var out []byte
	for {
		var err error
		if out, err = takeWhole(p.buf, p.take, out[:0]); err == nil && len(out) > 0 {
			_, err = p.conn.Write(out)
		}
		if err != nil {
			return fmt.Errorf("publisher %d: %w", p.number, err)
		}
	}
}

func (p *pacedPublisher) take(frame, out []byte) ([]byte, error) {
	switch kind := mqtt.TypeOf(frame); kind {
	case mqtt.PUBREC:
		id, err := acknowledgement(frame)
		return appendAck(out, mqtt.PUBREL, id), err
	case mqtt.PUBACK, mqtt.PUBCOMP:
		id, err := acknowledgement(frame)
		if err != nil {
			return out, err
		}
		select {
		case p.ids <- id:
			return out, nil
		default:
			return out, fmt.Errorf("the broker acknowledged packet id %d, which is not in use", id)
		}
	}
	return out, unexpected(frame)
}

// pacedSubscriber notes how long messages took.
type pacedSubscriber struct {
	*paced
	session
	took    *hdrhistogram.Histogram
	counted atomic.Uint64
}

func (s *pacedSubscriber) receive() error {
	r := newReceiver(s.note)
	var out []byte
	for {
		var err error
		if out, err = takeWhole(s.buf, r.take, out[:0]); err == nil && len(out) > 0 {
			_, err = s.conn.Write(out)
		}
		if err != nil {
			return fmt.Errorf("subscriber: %w", err)
		}
	}
}

func (s *pacedSubscriber) note(p *mqtt.Publish) {
	if len(p.Payload) < 8 {
		return // shows as a loss
	}
	due := time.Duration(binary.BigEndian.Uint64(p.Payload))
	if s.counts(due) {
		s.took.RecordValue(bounded(time.Since(s.base) - due))
		s.counted.Add(1)
	}
}

// bounded is a time as a histogram takes it.
func bounded(d time.Duration) int64 { return int64(min(max(d, shortestLatency), longestLatency)) }
