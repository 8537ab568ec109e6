package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestPacketsGoThrough(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	sub, pub := b.subscriber(t), b.dial(t)
	write(t, pub, message(0, 7))
	if got := expect(t, sub, packetSize); !bytes.Equal(got, message(0, 7)) {
		t.Fatalf("got % x", got)
	}
	write(t, pub, message(1, 8))
	want := message(1, 8)
	want[2], want[3] = 0xAB, 0xCD // the target's packet id
	if got := expect(t, sub, packetSize); !bytes.Equal(got, want) {
		t.Fatalf("got % x, want % x", got, want)
	}
}

// Whatever pieces a stream comes in, the same packets come out: TCP is a stream without loss, in order, both ways.
// [MQTT-4.2.0-1], [MQTT311-7.1.1-1]
func TestStreamInPieces(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	b := newBed(t, Limits{MaxPacketSize: 300_000}, nil)
	sub, pub := b.subscriber(t), b.dial(t)
	var stream []byte
	for i := range 400 {
		size := 8 + random.IntN(200)
		if i%50 == 0 {
			size = 100_000 + random.IntN(150_000)
		}
		stream = append(stream, 0x30)
		stream = appendLength(stream, size)
		for range size {
			stream = append(stream, byte(random.Uint32()))
		}
	}
	go func() {
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(20_000))
			if _, err := pub.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	if got := expect(t, sub, len(stream)); !bytes.Equal(got, stream) {
		t.Fatal("what came out differs")
	}
}

func appendLength(b []byte, n int) []byte {
	for ; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// What can be no packet, or is larger than allowed [MQTT-3.2.2-15], the core is told of, and the client gets its answer.
func TestBadPackets(t *testing.T) {
	b := newBed(t, Limits{MaxPacketSize: 1000}, nil)
	for _, test := range []struct {
		name   string
		bytes  []byte
		reason byte
	}{
		{"length of five bytes", []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, 0x81},
		{"larger than allowed", appendLength([]byte{0x30}, 998), 0x95},
		{"much larger than allowed", []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 0x95},
		{"after a good one", append([]byte{0xC0, 0}, 0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), 0x81},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := b.dial(t)
			write(t, c, test.bytes)
			got := expectEnd(t, c)
			if len(got) < 3 || !bytes.Equal(got[len(got)-3:], []byte{0xE0, 1, test.reason}) {
				t.Fatalf("got % x, want a DISCONNECT with reason %#x", got, test.reason)
			}
		})
	}
	t.Run("as large as allowed", func(t *testing.T) {
		sub, pub := b.subscriber(t), b.dial(t)
		packet := append(appendLength([]byte{0x30}, 997), make([]byte, 997)...)
		write(t, pub, packet)
		expect(t, sub, len(packet))
	})
}

// The core hears of every connection's end exactly once, and numbers come back only afterwards.
func TestOpenAndClosedOnce(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	const rounds = 300
	for i := range rounds {
		c := b.dial(t)
		switch i % 4 {
		case 0:
			write(t, c, []byte{0xC0, 0})
			expect(t, c, 2)
		case 1:
			write(t, c, []byte{0xE0, 0}) // the core closes
			if got := len(expectEnd(t, c)); got != 2<<20 {
				t.Fatalf("%d bytes of the farewell came", got)
			}
		case 2:
			_ = c.(*net.TCPConn).SetLinger(0) // reset
		}
		_ = c.Close()
	}
	testkit.Await(t, "the ends", func() bool { return b.hubs.count(abi.EventClosed) == rounds })
	testkit.Await(t, "an empty table", func() bool { return b.Stats().Connections == 0 })
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	for conn, events := range b.hubs.events {
		if conn == 0 {
			continue
		}
		if events[0] != abi.EventOpen || events[len(events)-1] != abi.EventClosed {
			t.Fatalf("connection %d: events %v", conn, events)
		}
		// A number may be used again, but only after EventClosed.
		open := false
		for _, e := range events {
			if (e == abi.EventOpen) == open {
				t.Fatalf("connection %d: events %v", conn, events)
			}
			open = e != abi.EventClosed
		}
	}
}

// A flood must be slowed at its source: a receiver that is slower than the sender loses nothing, and the
// broker never holds more than the limits say, though a hundred times as much goes through.
func TestFloodIsSlowedAtItsSource(t *testing.T) {
	limits := Limits{MaxPacketSize: 1000, SoftBacklog: 32 << 10, HardBacklog: 2 << 20, StallAfter: time.Minute}
	b := newBed(t, limits, nil)
	slow, quick := b.subscriber(t), b.subscriber(t)
	const publishers, count = 3, 300_000
	var wait sync.WaitGroup
	for range publishers {
		pub := b.dial(t)
		wait.Go(func() {
			run := messages(0, 0, 1000)
			for range count / 1000 {
				if _, err := pub.Write(run); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Go(func() { readAll(t, quick, publishers*count*packetSize, 1<<16) })
	readAll(t, slow, publishers*count*packetSize, 512)
	wait.Wait()
	if s := b.Stats(); s.DroppedQoS0 != 0 || s.Stalled != 0 {
		t.Fatalf("a reader that was merely slow lost messages: %+v", s)
	}
}

// readAll reads size bytes, in pieces of at most piece.
func readAll(t *testing.T, c net.Conn, size, piece int) {
	buffer := make([]byte, piece)
	for got := 0; got < size; {
		_ = c.SetReadDeadline(time.Now().Add(testkit.Patience))
		n, err := c.Read(buffer)
		if err != nil {
			t.Errorf("after %d of %d bytes: %v", got, size, err)
			return
		}
		got += n
	}
}

// What a source may have on its way while its receiver does not read is bounded, and it waits as long as the
// receiver has the courtesy.
func TestSourceWaitsForReceiver(t *testing.T) {
	b := newBed(t, Limits{MaxPacketSize: 1000, SoftBacklog: 32 << 10, StallAfter: time.Hour}, nil)
	sub, pub := b.subscriber(t), b.dial(t)
	const count = 400_000 // 28 MB: more than the sockets hold
	go func() { _, _ = pub.Write(messages(0, 0, count)) }()
	source := func() *conn { return b.table.all()[1] }
	testkit.Await(t, "the source to wait", func() bool {
		if len(b.table.all()) != 2 {
			return false
		}
		target := b.table.all()[0]
		target.mu.Lock()
		defer target.mu.Unlock()
		return len(target.backlog.waiters) == 1 && target.backlog.waiters[0] == source()
	})
	b.hubs.mu.Lock()
	came := b.hubs.bytes
	b.hubs.mu.Unlock()
	if came >= count*packetSize {
		t.Fatal("all was read though the receiver took nothing")
	}
	readAll(t, sub, count*packetSize, 1<<16)
}

// A subscriber that has stopped reading costs itself its messages, and nobody else anything.
func TestStalledSubscriberIsAlone(t *testing.T) {
	limits := Limits{MaxPacketSize: 1000, SoftBacklog: 32 << 10, HardBacklog: 2 << 20, StallAfter: 2 * time.Second}
	b := newBed(t, limits, nil)
	stalled, reader, pub := b.subscriber(t), b.subscriber(t), b.dial(t)
	const count = 1_000_000 // 70 MB
	done := make(chan struct{})
	go func() {
		defer close(done)
		run := messages(0, 0, 1000)
		for i := range count / 1000 {
			for j := range 1000 {
				binary.BigEndian.PutUint64(run[j*packetSize+packetSize-8:], uint64(i*1000+j))
			}
			if _, err := pub.Write(run); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	buffer := make([]byte, 1000*packetSize)
	for n := range uint64(count / 1000) {
		_ = reader.SetReadDeadline(time.Now().Add(testkit.Patience))
		if _, err := io.ReadFull(reader, buffer); err != nil {
			t.Fatal(err)
		}
		if first := binary.BigEndian.Uint64(buffer[packetSize-8:]); first != n*1000 {
			t.Fatalf("the other subscriber got message %d in place of %d", first, n*1000)
		}
	}
	<-done
	for _, c := range b.table.all() {
		c.mu.Lock()
		if size := c.size(); size > limits.HardBacklog {
			t.Errorf("a backlog of %d bytes", size)
		}
		c.mu.Unlock()
	}
	if s := b.Stats(); s.Stalled != 1 || s.DroppedQoS0 == 0 {
		t.Fatalf("statistics %+v", s)
	}
	if n := strings.Count(b.log.String(), "does not read"); n != 1 {
		t.Fatalf("%d log lines say that a client does not read", n)
	}
	if n := b.hubs.count(abi.EventBlocked); n != 1 {
		t.Fatalf("core was told %d times", n)
	}
	comesBack(t, b, stalled, pub)
}

// comesBack reads what a stalled subscriber still has, and looks whether it is served again.
func comesBack(t *testing.T, b *bed, stalled, pub net.Conn) {
	go func() { _, _ = io.Copy(io.Discard, io.LimitReader(stalled, 1<<40)) }()
	testkit.Await(t, "EventUnblocked", func() bool { return b.hubs.count(abi.EventUnblocked) == 1 })
	if !strings.Contains(b.log.String(), "reads again") {
		t.Fatal("no log line says that the client reads again")
	}
	before := b.Stats().DroppedQoS0
	write(t, pub, message(0, 1))
	write(t, pub, []byte{0xC0, 0})
	expect(t, pub, 2)
	if after := b.Stats().DroppedQoS0; after != before {
		t.Fatal("a message to a subscriber that reads again was dropped")
	}
}

// A client that asks and never reads the answers is ended before they fill the memory.
func TestAnswersToClientThatDoesNotRead(t *testing.T) {
	b := newBed(t, Limits{MaxPacketSize: 1000, SoftBacklog: 16 << 10, HardBacklog: 64 << 10, StallAfter: time.Hour}, nil)
	c := b.dial(t)
	pings := bytes.Repeat([]byte{0xC0, 0}, 10_000)
	for {
		if _, err := c.Write(pings); err != nil {
			break
		}
	}
	testkit.Await(t, "the end", func() bool { return b.Stats().Overflowed == 1 && b.hubs.count(abi.EventClosed) == 1 })
	testkit.Await(t, "the log to say why", func() bool { return strings.Contains(b.log.String(), errOverflow.Error()) })
}

func TestPauseAndResume(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	paused, other, sub := b.dial(t), b.dial(t), b.subscriber(t)
	write(t, paused, []byte{0x90, 0}) // pauses itself
	testkit.Await(t, "the pause", func() bool {
		for _, c := range b.table.all() {
			if c.paused.Load() {
				return true
			}
		}
		return false
	})
	write(t, paused, message(0, 1))
	write(t, other, message(0, 2))
	if got := expect(t, sub, packetSize); !bytes.Equal(got, message(0, 2)) {
		t.Fatal("a paused connection was read")
	}
	write(t, other, []byte{0xB0, 0})
	if got := expect(t, sub, packetSize); !bytes.Equal(got, message(0, 1)) {
		t.Fatal("something else came after the pause")
	}
}

func TestSync(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	c := b.dial(t)
	write(t, c, []byte{0xC0, 0, 0x40, 0, 0xC0, 0, 0x40, 0})
	testkit.Await(t, "two answers", func() bool { return b.hubs.count(abi.EventSynced) == 2 })
}

// A core that fails takes its connections with it, and nothing else.
func TestListenersOutliveTheCore(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	old := []net.Conn{b.subscriber(t), b.dial(t), b.dial(t)}
	for range 3 {
		c := b.dial(t)
		write(t, c, []byte{0xF0, 0})
		expectEnd(t, c)
	}
	for _, c := range old {
		expectEnd(t, c)
	}
	if n := b.engine.Metrics().Restarts; n < 1 || n > 3 {
		t.Fatalf("%d restarts", n)
	}
	testkit.Await(t, "the fresh core", func() bool {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatalf("the listener is gone: %v", err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte{0xC0, 0})
		n, _ := io.ReadFull(c, make([]byte, 2))
		return n == 2
	})
}

func TestTooManyConnections(t *testing.T) {
	b := newBed(t, Limits{MaxConnections: 5}, nil)
	for range 5 {
		b.subscriber(t)
	}
	expectEnd(t, b.dial(t))
	if s := b.Stats(); s.Refused != 1 || s.Connections != 5 {
		t.Fatalf("statistics %+v", s)
	}
	if !strings.Contains(b.log.String(), "too many connections") {
		t.Fatal("the log says nothing")
	}
}

// Half-open handshakes must neither pile up nor keep anybody out.
func TestHalfOpenHandshakes(t *testing.T) {
	handshake := func(ctx context.Context, c net.Conn) (Secured, error) {
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return Secured{}, err
		}
		return Secured{Stream: c, Identities: []string{"sensor"}}, nil
	}
	b := newBed(t, Limits{MaxHandshakes: 10, HandshakeTimeout: time.Hour}, handshake)
	first := b.dial(t)
	testkit.Await(t, "the first handshake", func() bool { return b.Stats().Handshakes == 1 })
	for range 200 {
		b.dial(t)
	}
	expectEnd(t, first)
	testkit.Await(t, "the others", func() bool {
		s := b.Stats()
		return s.Accepted == 201 && s.FailedHandshakes == 191 && s.Connections == 10
	})
	if s := b.Stats(); s.Handshakes > 10 || s.Connections > 10 {
		t.Fatalf("statistics %+v", s)
	}
	c := b.dial(t)
	write(t, c, []byte{1, 0xC0, 0})
	expect(t, c, 2)
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	for _, p := range b.hubs.peers {
		if p.Listener != "test" || len(p.Identities) != 1 || p.Identities[0] != "sensor" {
			t.Fatalf("core was told of %+v", p)
		}
	}
}

func TestHandshakeHasItsTime(t *testing.T) {
	handshake := func(ctx context.Context, c net.Conn) (Secured, error) {
		_, err := io.ReadFull(c, make([]byte, 1))
		return Secured{}, err
	}
	b := newBed(t, Limits{HandshakeTimeout: 10 * time.Millisecond}, handshake)
	expectEnd(t, b.dial(t))
	testkit.Await(t, "the failure", func() bool { return b.Stats().FailedHandshakes == 1 && b.Stats().Connections == 0 })
	if b.hubs.count(abi.EventOpen) != 0 {
		t.Fatal("the core heard of a connection without handshake")
	}
}

// The time for a handshake ends with it.
func TestHandshakeTimeIsOver(t *testing.T) {
	var c net.Conn
	timeout := 200 * time.Millisecond
	for ; c == nil; timeout *= 2 { // as long as this machine needs for a handshake
		b := newBed(t, Limits{HandshakeTimeout: timeout}, withTLS(t))
		socket := tls.Client(b.dial(t), &tls.Config{InsecureSkipVerify: true})
		if err := socket.Handshake(); err == nil {
			c = socket
		} else if timeout > testkit.Patience {
			t.Fatal(err)
		}
	}
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
	_ = c.SetReadDeadline(time.Now().Add(timeout)) // twice what the handshake had
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Fatalf("the connection ended: %v", err)
	}
	_ = c.SetDeadline(time.Time{})
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
}

// failingListener fails to accept at first.
type failingListener struct {
	net.Listener
	failures int
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, errors.New("too many open files")
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsDoNotEndTheListener(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(&failingListener{socket, 3}, ListenConfig{Name: "failing"}); err != nil {
		t.Fatal(err)
	}
	b.addr = socket.Addr().String()
	b.subscriber(t)
	if n := strings.Count(b.log.String(), "too many open files"); n != 3 {
		t.Fatalf("%d log lines", n)
	}
}

// Thousands of idle connections must be affordable, and leave nothing behind.
func TestManyIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	b := newBed(t, Limits{}, nil)
	const count = 2000
	before := heap()
	var conns []net.Conn
	for range count {
		c := b.dial(t)
		write(t, c, []byte{0xC0, 0})
		expect(t, c, 2)
		conns = append(conns, c)
	}
	if each := (heap() - before) / count; each > 16<<10 {
		t.Errorf("an idle connection takes %d bytes, the client's half included", each)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	testkit.Await(t, "their ends", func() bool { return b.Stats().Connections == 0 })
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// The hot path must not allocate.
func TestDeliverDoesNotAllocate(t *testing.T) {
	tr := New(Config{Limits: Limits{SoftBacklog: 1 << 30}})
	var targets []*conn
	for range 10 {
		c := &conn{transport: tr, entrance: new(entrance), gone: make(chan struct{}), log: tr.log, dirty: true, writing: true}
		if !tr.table.add(c) {
			t.Fatal("no room")
		}
		c.pending = getBuffer(64 << 20)
		targets = append(targets, c)
	}
	effects := make([]byte, abi.EffectsHeaderSize)
	for range 100 {
		var at int
		effects, at = abi.BeginDeliver(effects, 1, 1, 2, abi.Ref{Size: 64}, make([]byte, 20))
		for i, c := range targets {
			effects = abi.AppendTarget(effects, c.id, uint16(i))
		}
		abi.EndDeliver(effects, at)
	}
	for _, c := range targets {
		effects = abi.AppendEffect(effects, abi.EffectAcks, 0, c.id, 1000, []byte{0x40, 2, 0, 1})
	}
	var memory Memory = fixedMemory(make([]byte, 64))
	if n := testing.AllocsPerRun(100, func() {
		if err := tr.Apply(effects, memory); err != nil {
			t.Error(err)
		}
		for _, c := range targets {
			c.pending.b = c.pending.b[:0]
		}
	}); n != 0 {
		t.Fatalf("%v allocations in 1000 deliveries", n)
	}
}

type fixedMemory []byte

func (m fixedMemory) Range(r abi.Ref) ([]byte, error) { return m[r.Offset : r.Offset+r.Size], nil }

// A slot's next connection must not get what was meant for the one before.
func TestNumbersHaveGenerations(t *testing.T) {
	var tab table
	tab.init(10)
	seen := map[abi.Conn]bool{}
	for range 200 {
		c := &conn{}
		if !tab.add(c) {
			t.Fatal("no room")
		}
		if c.id == 0 || c.id.Slot() == 0 || seen[c.id] {
			t.Fatalf("number %#x", uint32(c.id))
		}
		seen[c.id] = true
		slots := *tab.slots.Load()
		if lookup(slots, c.id) != c || lookup(slots, c.id+1<<abi.SlotBits) != nil {
			t.Fatal("lookup is wrong")
		}
		tab.remove(c)
		if lookup(*tab.slots.Load(), c.id) != nil {
			t.Fatal("found after its end")
		}
	}
}

// FuzzCut: what a client sends must be cut at packet borders, whatever it is.
func FuzzCut(f *testing.F) {
	f.Add([]byte{0xC0, 0, 0x30, 5, 1, 2}, 100)
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}, 100)
	f.Add(appendLength([]byte{0x30}, 1000), 100)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		whole, reason := cut(b, most)
		if whole.size < 0 || whole.size > len(b) || whole.packets > whole.size {
			t.Fatalf("run %+v of %d bytes", whole, len(b))
		}
		again, _ := cut(b[:whole.size], most)
		if again != whole {
			t.Fatalf("run %+v is cut into %+v", whole, again)
		}
		if reason != 0 && reason != 0x81 && reason != 0x95 {
			t.Fatalf("reason %#x", reason)
		}
	})
}

// FuzzApply: effects come from the module, which must not be able to bring the host down.
func FuzzApply(f *testing.F) {
	effects := make([]byte, abi.EffectsHeaderSize)
	effects = abi.AppendEffect(effects, abi.EffectSend, 0, 1, 0, []byte("x"))
	effects, at := abi.BeginDeliver(effects, 1, 2, 0, abi.Ref{Size: 3}, []byte("head"))
	effects = abi.AppendTarget(effects, 1, 9)
	abi.EndDeliver(effects, at)
	effects = abi.AppendEffect(effects, abi.EffectClose, 0, 1, 0x8B, nil)
	effects = abi.AppendEffect(effects, abi.EffectNote, 0, 1, 1, []byte("id"))
	f.Add(effects)
	f.Fuzz(func(t *testing.T, effects []byte) {
		tr := New(Config{})
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		tr.engine = deafEngine{}
		c := &conn{stream: ours, socket: ours, transport: tr, entrance: new(entrance), gone: make(chan struct{}), resume: make(chan struct{}, 1), log: tr.log, writing: true}
		tr.table.add(c)
		_ = tr.Apply(effects, boundedMemory(make([]byte, 100)))
	})
}

type boundedMemory []byte

func (m boundedMemory) Range(r abi.Ref) ([]byte, error) {
	if uint64(r.Offset)+uint64(r.Size) > uint64(len(m)) {
		return nil, fmt.Errorf("out of range")
	}
	return m[r.Offset : r.Offset+r.Size], nil
}

type deafEngine struct{}

func (deafEngine) Open(abi.Conn, []byte) (uint32, bool)                             { return 1, true }
func (deafEngine) Post(abi.EventKind, abi.Conn, uint32, uint32, []byte) bool        { return true }
func (deafEngine) PostAndStep(abi.EventKind, abi.Conn, uint32, uint32, []byte) bool { return true }
func (deafEngine) PostNow(abi.EventKind, abi.Conn, uint32, uint32, []byte) bool     { return true }
