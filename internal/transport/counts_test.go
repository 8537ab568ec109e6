package transport

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// counts is what messages cost, as far as that does not depend on the machine: for one hundred messages, all the way from
// their publisher's PUBLISH to the last acknowledgement.
type counts struct {
	events, effects float64 // between host and core
	steps           float64 // calls of the core's step, and
	calls           float64 // all calls into the core
	copied          float64 // bytes between host and guest memory, for each delivery
	writes          float64 // calls of Write, for one hundred deliveries
	allocations     float64 // of the host
}

// slack is by how much a count may be higher than it was found to be.
const slack = 1.05

// TestCountsStayLow sends messages through transport, engine and module and counts. The figures are those that were found: whoever
// makes them better writes the new ones here, and who makes one of them worse has a reason.
func TestCountsStayLow(t *testing.T) {
	module, err := engine.Compile(t.Context(), moduletest.Broker(t), engine.ModuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	for _, c := range []struct {
		qos         byte
		subscribers int
		most        counts
	}{
		{0, 1, counts{events: 1, effects: 1, steps: 1, calls: 2, copied: 157.7, writes: 1, allocations: 3.1}},
		{1, 1, counts{events: 2.4, effects: 2.4, steps: 2, calls: 4, copied: 167.2, writes: 2, allocations: 6.1}},
		{2, 1, counts{events: 5.8, effects: 6.9, steps: 3, calls: 6, copied: 178, writes: 4, allocations: 11.1}},
		{0, 50, counts{events: 1, effects: 1, steps: 1, calls: 2, copied: 79.7, writes: 1, allocations: 102}},
		{1, 50, counts{events: 70, effects: 2.4, steps: 2, calls: 4, copied: 82.2, writes: 1.02, allocations: 105}},
		{2, 50, counts{events: 141, effects: 76.5, steps: 3, calls: 6, copied: 86.9, writes: 2.04, allocations: 208}},
	} {
		t.Run(fmt.Sprintf("QoS %d, %d subscribers", c.qos, c.subscribers), func(t *testing.T) {
			got := newCountRig(t, module, c.qos, c.subscribers).count()
			t.Logf("%+v", got)
			for _, x := range []struct {
				what      string
				got, most float64
			}{
				{"events", got.events, c.most.events},
				{"effects", got.effects, c.most.effects},
				{"steps", got.steps, c.most.steps},
				{"calls of the core", got.calls, c.most.calls},
				{"bytes copied for each delivery", got.copied, c.most.copied},
				{"writes for 100 deliveries", got.writes, c.most.writes},
				{"allocations", got.allocations, c.most.allocations},
			} {
				if x.got > x.most*slack && !(raced && x.what == "allocations") {
					t.Errorf("%s: %.2f, not more than %.2f before", x.what, x.got, x.most)
				}
			}
		})
	}
}

const (
	countMessages = 100 // in one go
	countPayload  = 64  // bytes
	countRounds   = 100 // that are counted
	countWarmup   = 200 // that are not: topics become known, pools fill, the core's pages are there
)

// countRig is a transport with a module behind it, and clients in memory. It decides what is in a batch: all that the clients send
// at one time.
type countRig struct {
	*Transport
	t       *testing.T
	engine  *engine.Engine
	core    *countedCore
	clients []*memoryConn // the publisher, and the subscribers
	conns   []*conn       // what the transport has of them
	publish []byte        // PUBLISH packets
}

func newCountRig(t *testing.T, factory engine.Factory, qos byte, subscribers int) *countRig {
	t.Helper()
	r := &countRig{t: t, core: &countedCore{Factory: factory, gate: make(chan bool), flushed: make(chan flush, 64)}}
	r.Transport = New(Config{Log: slog.New(slog.DiscardHandler)})
	limits := abi.Limits{
		MaxPacketSize: 1 << 20, MaxInflight: 1024, ReceiveMaximum: 1024, MaxQueued: 1 << 15, MaxQueuedBytes: 16 << 20, MaxSessions: 1000,
		MaxSubscriptions: 10, MaxTopicLevels: 8, MaxMemory: 256 << 20, ConnectTimeout: 10_000, StallTimeout: 1000, StepWork: 8192,
	}
	var err error
	r.engine, err = engine.Start(engine.Config{Core: r.core, Applier: countedApplier{r.Transport, r.core}, Configuration: abi.AppendConfig(nil, &abi.Config{
		Limits: limits, Rules: []abi.Rule{{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"}}},
	})})
	if err != nil {
		t.Fatal(err)
	}
	r.Transport.Start(r.engine)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		r.engine.Close()
	})
	for id := range uint16(countMessages) {
		r.publish = mqtt.AppendPublish(r.publish, mqtt.V311, &mqtt.Publish{
			Topic: []byte("some/topic"), Payload: make([]byte, countPayload), QoS: qos, PacketID: 1 + id,
		})
	}
	r.connect(qos, subscribers)
	return r
}

// connect lets the publisher and the subscribers come.
func (r *countRig) connect(qos byte, subscribers int) {
	socket := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	if _, err := r.Listen(socket, ListenConfig{Name: "test"}); err != nil {
		r.t.Fatal(err)
	}
	for i := range 1 + subscribers {
		c := &memoryConn{incoming: make(chan []byte), asked: make(chan struct{}), gone: make(chan struct{})}
		r.clients = append(r.clients, c)
		socket.conns <- c
		<-c.asked
		r.conns = r.table.all()
		hello := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: fmt.Appendf(nil, "client-%d", i)})
		if i > 0 {
			hello = mqtt.AppendSubscribe(hello, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("some/topic"), QoS: qos}})
		}
		r.turn(func() { c.send(hello) })
		c.answers() // to CONNACK and SUBACK there is nothing to say
	}
}

// count plays rounds and returns what they took on average.
func (r *countRig) count() counts {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
	for range countWarmup {
		r.round()
	}
	var before, after runtime.MemStats
	r.core.counts, r.core.copied = counts{}, 0
	for _, c := range r.clients {
		c.writes, c.bytes = 0, 0
	}
	runtime.ReadMemStats(&before)
	for range countRounds {
		r.round()
	}
	runtime.ReadMemStats(&after)
	got, copied := r.core.counts, r.core.copied
	for _, c := range r.clients {
		got.writes += float64(c.writes)
		copied += c.bytes // from guest memory into what is to be written
	}
	deliveries := float64(countRounds * countMessages * (len(r.clients) - 1))
	const hundreds = countRounds * countMessages / 100
	return counts{
		events: got.events / hundreds, effects: got.effects / hundreds, steps: got.steps / hundreds, calls: got.calls / hundreds,
		allocations: float64(after.Mallocs-before.Mallocs) / hundreds, copied: float64(copied) / deliveries, writes: got.writes / (deliveries / 100),
	}
}

// round publishes once, and goes on until nobody has anything to answer.
func (r *countRig) round() {
	r.turn(func() { r.clients[0].send(r.publish) })
	for {
		sent := false
		for _, c := range r.clients {
			sent = c.answers() || sent
		}
		if !sent {
			return
		}
		r.turn(r.sendAnswers)
	}
}

func (r *countRig) sendAnswers() {
	for _, c := range r.clients {
		if len(c.reply) > 0 {
			c.send(c.reply)
		}
	}
}

// turn makes the engine wait while clients send, and then take all that they have sent as one batch. It returns when what
// came of it has been written.
func (r *countRig) turn(send func()) {
	r.core.held.Store(true)
	r.engine.PostNow(abi.EventStats, 0, 0, 0, nil)
	<-r.core.gate // it is in a batch now
	send()
	r.core.gate <- true
	for f := <-r.core.flushed; !f.held; f = <-r.core.flushed {
	}
	for f := <-r.core.flushed; f.empty; f = <-r.core.flushed {
	}
	deadline := time.Now().Add(testkit.Patience)
	for _, c := range r.conns {
		for !c.hasWritten() {
			if time.Now().After(deadline) {
				r.t.Fatal("a writer does not come to its end")
			}
			runtime.Gosched()
		}
	}
}

func (c *conn) hasWritten() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writing && c.pending == nil
}

// countedCore counts what goes into a core and out of it. It belongs to the engine's goroutine while a batch runs.
type countedCore struct {
	engine.Factory
	engine.Core
	held    atomic.Bool // the next batch waits at the gate, and is not counted
	gate    chan bool
	flushed chan flush
	counts  counts
	copied  int
	batch   []byte
	now     flush
}

// flush says of which batch it is the end.
type flush struct{ held, empty bool }

func (c *countedCore) NewCore() (_ engine.Core, err error) {
	c.Core, err = c.Factory.NewCore()
	return c, err
}

func (c *countedCore) Batch(size uint32) (_ []byte, err error) {
	c.now = flush{held: c.held.Swap(false), empty: size == abi.BatchHeaderSize}
	if c.now.held {
		c.gate <- true
		<-c.gate
	}
	c.batch, err = c.Core.Batch(size)
	if !c.now.held && !c.now.empty {
		c.counts.calls++
		c.copied += int(size)
	}
	return c.batch, err
}

func (c *countedCore) Step(start, end uint32) ([]byte, error) {
	effects, err := c.Core.Step(start, end)
	if err != nil || c.now.held || c.now.empty {
		return effects, err
	}
	c.counts.calls++
	c.counts.steps++
	c.copied += len(effects)
	var event abi.Event
	for at := start; at < end; c.counts.events++ {
		if at, err = abi.NextEvent(c.batch[:end], at, &event); err != nil {
			return nil, err
		}
	}
	var effect abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); c.counts.effects++ {
		if at, err = abi.NextEffect(effects, at, &effect); err != nil {
			return nil, err
		}
	}
	return effects, nil
}

func (c *countedCore) Chunk(i uint32) ([]byte, error) {
	c.counts.calls++
	return c.Core.Chunk(i)
}

// countedApplier tells when a batch is at its end.
type countedApplier struct {
	*Transport
	core *countedCore
}

func (a countedApplier) Flush() {
	a.Transport.Flush()
	a.core.flushed <- a.core.now
}

// memoryListener accepts connections that a test makes.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// memoryConn is the broker's end of a client's connection. Between two turns it belongs to the test.
type memoryConn struct {
	net.Conn // nil: what is not here is not used
	incoming chan []byte
	asked    chan struct{} // the broker wants more than it has got
	rest     []byte
	written  []byte
	reply    []byte
	writes   int
	bytes    int
	gone     chan struct{}
	once     sync.Once
}

// send hands over packets, and returns when the broker has posted them.
func (c *memoryConn) send(packets []byte) {
	c.incoming <- packets
	<-c.asked
}

func (c *memoryConn) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case c.asked <- struct{}{}:
		case <-c.gone:
			return 0, io.EOF
		}
		select {
		case c.rest = <-c.incoming:
		case <-c.gone:
			return 0, io.EOF
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *memoryConn) Write(b []byte) (int, error) {
	c.writes++
	c.bytes += len(b)
	c.written = append(c.written, b...)
	return len(b), nil
}

func (c *memoryConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "memory", Net: "unix"} }
func (c *memoryConn) RemoteAddr() net.Addr             { return c.LocalAddr() }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// acknowledgements are what packets are answered with: PUBLISH by its QoS.
var acknowledgements = map[mqtt.PacketType]mqtt.PacketType{mqtt.PUBREC: mqtt.PUBREL, mqtt.PUBREL: mqtt.PUBCOMP}

// answers makes the answers to what has been written, and says whether there are any.
func (c *memoryConn) answers() bool {
	c.reply = c.reply[:0]
	for left := c.written; len(left) > 0; {
		size, _, _ := mqtt.FrameSize(left)
		frame := left[:size]
		left = left[size:]
		switch kind := mqtt.TypeOf(frame); {
		case kind == mqtt.PUBLISH && frame[0]&6 != 0:
			var p mqtt.Publish
			if fault := mqtt.ParseServerPublish(frame, mqtt.V311, &p); fault != nil {
				panic(fault)
			}
			c.reply = mqtt.AppendAck(c.reply, mqtt.V311, map[byte]mqtt.PacketType{1: mqtt.PUBACK, 2: mqtt.PUBREC}[p.QoS], p.PacketID, mqtt.Success, nil)
		case acknowledgements[kind] != 0:
			c.reply = mqtt.AppendAck(c.reply, mqtt.V311, acknowledgements[kind], uint16(frame[2])<<8|uint16(frame[3]), mqtt.Success, nil)
		}
	}
	c.written = c.written[:0]
	return len(c.reply) > 0
}
