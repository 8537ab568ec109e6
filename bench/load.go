package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Dialer opens a connection to a broker: plain, TLS or attested. An attested one has verified the broker when it
// returns.
type Dialer func(ctx context.Context) (net.Conn, error)

// Shape says who sends to whom.
type Shape struct {
	Name        string
	Publishers  int
	Subscribers int
	fan         int // how many subscribers get each message
	topic       func(publisher int) string
	filter      func(subscriber int) string
	// topics and filters are for several of each, which a publisher sends to in turn; nil for what topic and filter say.
	topics  func(publisher int) []string
	filters func(subscriber int) []string
}

// topicsOf are the topics that a publisher sends to, in turn.
func (s Shape) topicsOf(publisher int) []string {
	if s.topics != nil {
		return s.topics(publisher)
	}
	return []string{s.topic(publisher)}
}

// filtersOf are the filters that a subscriber has.
func (s Shape) filtersOf(subscriber int) []string {
	if s.filters != nil {
		return s.filters(subscriber)
	}
	return []string{s.filter(subscriber)}
}

// Shapes are those of the evaluation: ten pairs, twenty to one, one to fifty.
var Shapes = []Shape{
	{Name: "p2p", Publishers: 10, Subscribers: 10, fan: 1, topic: numbered("bench/p2p/"), filter: numbered("bench/p2p/")},
	{Name: "fan-in", Publishers: 20, Subscribers: 1, fan: 1, topic: numbered("bench/in/"), filter: always("bench/in/+")},
	{Name: "fan-out", Publishers: 1, Subscribers: 50, fan: 50, topic: always("bench/out"), filter: always("bench/out")},
}

func numbered(prefix string) func(int) string {
	return func(i int) string { return fmt.Sprint(prefix, i) }
}

func always(s string) func(int) string {
	return func(int) string { return s }
}

// Load is what one measurement asks of a broker.
type Load struct {
	Shape   Shape
	QoS     byte
	Payload int           // bytes of each message, at least 8
	Warmup  time.Duration // before the window
	// ProcessorTime is what the broker has used of processors so far; nil if nobody wants to know.
	ProcessorTime func() (time.Duration, error)
	Window        time.Duration // in which deliveries are counted
}

// Result is what came of a Load.
type Result struct {
	Rate      float64 `json:"deliveries_per_second"` // within the window
	Sent      uint64  `json:"sent"`                  // messages, in all
	Expected  uint64  `json:"expected"`              // deliveries that those messages make
	Delivered uint64  `json:"delivered"`             // deliveries that came, in all
	// Cost is the broker's processor time for each delivery, in nanoseconds, if it was asked for.
	Cost float64 `json:"processor_ns_per_delivery,omitempty"`
	// Processors are how many were busy within the window, on average.
	Processors Processors `json:"processors"`
}

// Processors are how many processors were busy, on average; 0 where it is not known. If there are fewer than the machine has, something
// else bounds what was measured; if those of the load generator are most of them, then what bounds it is the load generator.
type Processors struct {
	Broker    float64 `json:"broker"`
	Generator float64 `json:"generator"` // this process
}

// Dropped is the number of deliveries that never came.
func (r Result) Dropped() uint64 { return r.Expected - r.Delivered }

const (
	keepAlive  = 60        // seconds
	chunkSize  = 16 << 10  // bytes that a publisher writes at a time: one TLS record
	readSize   = 128 << 10 // bytes that a subscriber reads at most at a time
	dialTime   = 30 * time.Second
	drainQuiet = 500 * time.Millisecond // without a delivery the pipeline counts as empty
	drainTime  = 20 * time.Second       // a pipeline that is not empty by then never will be
)

// Messages in flight at QoS 1 and 2: what VouchMQ allows unless it is told otherwise, so that neither side waits for the
// other before it must.
const (
	Window         = 1024 // from a publisher, unless the broker takes fewer at a time
	ReceiveMaximum = 4096 // to a subscriber
)

// windowBytes bounds the payloads that a publisher has in flight.
const windowBytes = 1 << 20

// windowOf is how many messages of a size a publisher keeps in flight: Window, but no more than windowBytes of them, and two at
// least.
func windowOf(payload int) int { return max(2, min(Window, windowBytes/payload)) }

// Measure connects the clients of the load, lets them run, and returns what they saw. It fails if a client was
// refused or lost its connection.
func Measure(ctx context.Context, dial Dialer, load Load) (Result, error) {
	crew, ctx := newCrew(ctx)
	m := &measurement{crew: crew, load: load}
	defer m.end()
	if err := m.connect(ctx, dial, load.Shape, load.QoS); err != nil {
		return Result{}, err
	}
	m.start()
	return m.observe(ctx)
}

type measurement struct {
	*crew
	load     Load
	sending  []*benchPublisher
	taking   []*benchSubscriber
	stopping atomic.Bool // publishers write no more
}

// counter is alone in its cache line, for each belongs to a goroutine of its own.
type counter struct {
	atomic.Uint64
	_ [56]byte
}

type benchPublisher struct {
	session
	sent counter
	room []byte
}

type benchSubscriber struct {
	session
	got counter
}

// open connects and waits for CONNACK.
func open(ctx context.Context, dial Dialer, clientID string) (net.Conn, *bufio.Reader, error) {
	s, err := openSession(ctx, dial, clientID, 0)
	return s.conn, s.buf, err
}

// session is a connection on which CONNACK has come.
type session struct {
	conn   net.Conn
	buf    *bufio.Reader
	window int // messages at QoS 1 and 2 that may be in flight to the broker: Window, unless it takes fewer
}

// openSession connects, for a session that outlives the connection by so many seconds, and waits for CONNACK.
func openSession(ctx context.Context, dial Dialer, clientID string, expiry uint32) (session, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return session{}, err
	}
	buf := bufio.NewReaderSize(conn, readSize)
	frame, err := request(conn, buf, connectPacket(clientID, expiry))
	if err == nil {
		err = answer(frame)
	}
	if err != nil {
		conn.Close()
		return session{}, err
	}
	return session{conn, buf, min(Window, receiveMaximum(frame))}, nil
}

func subscribe(conn net.Conn, buf *bufio.Reader, filter string, qos byte) error {
	return exchange(conn, buf, subscribePacket(qos, filter))
}

// filtersPerPacket bounds a SUBSCRIBE.
const filtersPerPacket = 1000

func subscribeAll(conn net.Conn, buf *bufio.Reader, filters []string, qos byte) error {
	for some := range slices.Chunk(filters, filtersPerPacket) {
		if err := exchange(conn, buf, subscribePacket(qos, some...)); err != nil {
			return err
		}
	}
	return nil
}

// exchange writes CONNECT or SUBSCRIBE, and fails if the answer says no.
func exchange(conn net.Conn, buf *bufio.Reader, packet []byte) error {
	frame, err := request(conn, buf, packet)
	if err != nil {
		return err
	}
	return answer(frame)
}

// request writes a packet and waits for the next one to come.
func request(conn net.Conn, buf *bufio.Reader, packet []byte) (frame []byte, err error) {
	conn.SetDeadline(time.Now().Add(dialTime))
	defer conn.SetDeadline(time.Time{})
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	if frame, err = readFrame(buf, nil); err != nil {
		return nil, fmt.Errorf("waiting for the broker's answer: %w", err)
	}
	return frame, nil
}

func (m *measurement) start() {
	for _, c := range m.subscribers {
		s := &benchSubscriber{session: c}
		m.taking = append(m.taking, s)
		m.run(nil, func() error { return m.receive(s) })
	}
	for i, c := range m.publishers {
		p := &benchPublisher{session: c}
		m.sending = append(m.sending, p)
		topics := m.load.Shape.topicsOf(i)
		if m.load.QoS > 0 {
			m.run(&m.writing, func() error { return m.publishAcknowledged(p, topics[0]) })
			continue
		}
		m.run(&m.writing, func() error { return m.publish(p, topics) })
		m.run(nil, func() error { return listen(p) })
	}
	if m.load.QoS == 0 {
		m.run(nil, m.ping)
	}
}

// publish writes the same buffers of packets until the measurement stops.
func (m *measurement) publish(p *benchPublisher, topics []string) error {
	chunks := publishChunks(topics, m.load.Payload)
	for i := 0; !m.stopping.Load(); i++ {
		chunk := &chunks[i%len(chunks)]
		if _, err := p.conn.Write(chunk.bytes); err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		p.sent.Add(uint64(chunk.packets))
	}
	return nil
}

// chunk is whole QoS 0 packets.
type chunk struct {
	bytes   []byte
	packets int
}

// publishChunks are packets to each of the topics in turn, as many rounds as fill a chunk. Each chunk has as many whole
// packets as chunkSize holds, but at least one.
func publishChunks(topics []string, payload int) (all []chunk) {
	var c chunk
	for i := 0; ; i++ {
		one := appendPublish(nil, topics[i%len(topics)], 0, 0, make([]byte, payload))
		if c.packets > 0 && len(c.bytes)+len(one) > chunkSize {
			all = append(all, c)
			c = chunk{}
		}
		if i%len(topics) == 0 && len(all) > 0 {
			if c.packets > 0 {
				all = append(all, c)
			}
			return all
		}
		c.bytes = append(c.bytes, one...)
		c.packets++
	}
}

// listen waits for what a broker has to say to a publisher at QoS 0, which is nothing but PINGRESP.
func listen(p *benchPublisher) error {
	for {
		frame, err := readFrame(p.buf, p.room)
		if err == nil && mqtt.TypeOf(frame) != mqtt.PINGRESP {
			err = unexpected(frame)
		}
		if err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		p.room = frame
	}
}

// publishAcknowledged keeps as many messages at QoS 1 or 2 in flight as it may, at most windowOf, until the measurement stops, and then waits
// for the last of them.
func (m *measurement) publishAcknowledged(p *benchPublisher, topic string) error {
	w := newSendWindow(topic, m.load.QoS, m.load.Payload, min(p.window, windowOf(m.load.Payload)))
	out := w.fill(nil, w.most)
	for {
		if len(out) > 0 {
			if _, err := p.conn.Write(out); err != nil {
				return fmt.Errorf("publisher: %w", err)
			}
		}
		p.sent.Store(w.sent)
		if m.stopping.Load() && w.flying == 0 {
			return nil
		}
		var err error
		if out, err = takeBuffered(p.buf, w, out[:0]); err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		if !m.stopping.Load() {
			out = w.fill(out, p.window)
		}
	}
}

func (m *measurement) receive(s *benchSubscriber) error {
	if m.load.QoS > 0 {
		return m.receiveAcknowledged(s)
	}
	var f frames
	room := make([]byte, readSize)
	for {
		n, err := s.buf.Read(room) // reads past its own buffer, for room is as large
		if n > 0 {
			publishes, bad := f.count(room[:n])
			s.got.Add(uint64(publishes))
			err = errors.Join(err, bad)
		}
		if err != nil {
			return fmt.Errorf("subscriber: %w", err)
		}
	}
}

// receiveAcknowledged counts and acknowledges messages at QoS 1 and 2.
func (m *measurement) receiveAcknowledged(s *benchSubscriber) error {
	answers := newAnswers(s.conn)
	defer answers.end()
	m.run(nil, answers.write)
	var out []byte
	var err error
	r := newReceiver(nil)
	for {
		if out, err = takeBuffered(s.buf, r, out[:0]); err != nil {
			return fmt.Errorf("subscriber: %w", err)
		}
		s.got.Store(uint64(r.got))
		if len(out) > 0 {
			answers.add(out)
		}
	}
}

// ping keeps subscribers at QoS 0 alive, which have nothing else to say.
func (m *measurement) ping() error {
	tick := time.NewTicker(keepAlive / 3 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-m.closed:
			return nil
		case <-tick.C:
		}
		for _, s := range m.subscribers {
			if _, err := s.conn.Write(mqtt.AppendPingreq(nil)); err != nil {
				return fmt.Errorf("subscriber: %w", err)
			}
		}
	}
}

// observe waits for the window, counts, and drains the pipeline.
func (m *measurement) observe(ctx context.Context) (Result, error) {
	if err := pause(ctx, m.load.Warmup); err != nil {
		return Result{}, err
	}
	before, err := m.count()
	if err != nil {
		return Result{}, err
	}
	if err := pause(ctx, m.load.Window); err != nil {
		return Result{}, err
	}
	after, err := m.count()
	if err != nil {
		return Result{}, err
	}
	m.stopping.Store(true)
	if err := m.drain(ctx); err != nil {
		return Result{}, err
	}
	sent := m.sent()
	r := after.since(before)
	r.Sent, r.Expected, r.Delivered = sent, sent*uint64(m.load.Shape.fan), m.delivered()
	return r, r.check()
}

// account is what was counted up to a moment.
type account struct {
	at              time.Time
	delivered       uint64
	broker, clients time.Duration // of processor time
}

func (m *measurement) count() (a account, err error) {
	a.at, a.delivered = time.Now(), m.delivered()
	a.clients, _ = ownProcessorTime() // 0 where it is not known
	if m.load.ProcessorTime != nil {
		a.broker, err = m.load.ProcessorTime()
	}
	return a, err
}

// since is what happened since an earlier moment.
func (a account) since(before account) Result {
	took := a.at.Sub(before.at).Seconds()
	broker, clients, delivered := a.broker-before.broker, a.clients-before.clients, a.delivered-before.delivered
	return Result{
		Rate: float64(delivered) / took, Cost: float64(broker.Nanoseconds()) / float64(max(delivered, 1)),
		Processors: Processors{Broker: broker.Seconds() / took, Generator: clients.Seconds() / took},
	}
}

// check refuses a result that cannot be: one in which more came than was sent is a fault of the broker or of the
// measurement, and its rate means nothing.
func (r Result) check() error {
	if r.Delivered > r.Expected {
		return fmt.Errorf("%d deliveries of %d: more came than was sent", r.Delivered, r.Expected)
	}
	return nil
}

// drain returns when the publishers have ended and all has come that was sent, or nothing has come for a while.
func (m *measurement) drain(ctx context.Context) error {
	if err := m.awaitWritten(ctx, drainTime); err != nil {
		return err
	}
	for seen := m.delivered(); seen < m.sent()*uint64(m.load.Shape.fan); {
		if err := pause(ctx, drainQuiet); err != nil {
			return err
		}
		now := m.delivered()
		if now == seen {
			return nil
		}
		seen = now
	}
	return nil
}

func (m *measurement) delivered() (n uint64) {
	for _, s := range m.taking {
		n += s.got.Load()
	}
	return n
}

func (m *measurement) sent() (n uint64) {
	for _, p := range m.sending {
		n += p.sent.Load()
	}
	return n
}

// end ends a measurement, also one that failed.
func (m *measurement) end() {
	m.stopping.Store(true)
	m.close()
}

// endOf is the error with which a measurement ended: if ctx has ended, why it has.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// pause waits for d, or for the end of ctx, whose cause it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
