package transport

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// hub is a core for tests of the transport. Whoever has sent SUBSCRIBE gets every PUBLISH as it is. PINGREQ is
// answered, DISCONNECT ends the connection, AUTH makes the hub panic, SUBACK makes it pause the sender until
// somebody sends UNSUBACK, PUBACK asks for a sync, a run of
// acknowledgements comes back. A peer that must log in sends CONNECT, and AUTH to go on.
type hub struct {
	log         *hubLog
	batch       []byte
	effects     []byte
	subscribers []abi.Conn
	paused      []abi.Conn
	strangers   map[abi.Conn]bool // who must log in and has not yet
}

// hubLog is what all hubs of a test have seen.
type hubLog struct {
	mu     sync.Mutex
	events map[abi.Conn][]abi.EventKind
	args   map[abi.Conn][]uint32
	peers  map[abi.Conn]abi.Peer
	bytes  int // of packets

	gated   []byte // packets of peers that must log in
	early   int    // packets that came while they were not expected
	answers []abi.AuthAnswer
}

func (l *hubLog) add(e *abi.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[e.Conn] = append(l.events[e.Conn], e.Kind)
	l.args[e.Conn] = append(l.args[e.Conn], e.Arg)
	if e.Kind == abi.EventPackets || e.Kind == abi.EventPublishes {
		l.bytes += len(e.Data)
	}
	if e.Kind == abi.EventOpen {
		var p abi.Peer
		if err := abi.ReadPeer(e.Data, &p); err != nil {
			panic(err)
		}
		l.peers[e.Conn] = p
	}
}

// count says how often a kind of event came, for all connections.
func (l *hubLog) count(kind abi.EventKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, events := range l.events {
		for _, k := range events {
			if k == kind {
				n++
			}
		}
	}
	return n
}

func (h *hub) Batch(size uint32) []byte {
	if uint32(cap(h.batch)) < size {
		h.batch = make([]byte, size)
	}
	return h.batch[:size]
}

func (h *hub) Chunk(uint32) []byte { return nil }

func (h *hub) Step(start, end uint32) []byte {
	h.effects = append(h.effects[:0], make([]byte, abi.EffectsHeaderSize)...)
	var e abi.Event
	for at := start; at < end; {
		next, err := abi.NextEvent(h.batch[:end], at, &e)
		if err != nil {
			panic(err)
		}
		h.log.add(&e)
		h.handle(&e)
		at = next
	}
	abi.PutEffectsHeader(h.effects, &abi.EffectsHeader{Size: uint32(len(h.effects)), Consumed: end})
	return h.effects
}

func (h *hub) handle(e *abi.Event) {
	switch e.Kind {
	case abi.EventOpen:
		h.open(e)
	case abi.EventAuthenticated:
		h.authenticated(e)
	case abi.EventBadPacket:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0xE0, 1, byte(e.Arg)})
		h.effects = abi.AppendEffect(h.effects, abi.EffectClose, 0, e.Conn, e.Arg, []byte("bad packet"))
	case abi.EventAcks:
		h.effects = abi.AppendEffect(h.effects, abi.EffectAcks, 0, e.Conn, e.Arg, e.Data)
	case abi.EventPackets, abi.EventPublishes:
		if h.strangers[e.Conn] {
			h.stranger(e)
			return
		}
		for at := uint32(0); int(at) < len(e.Data); {
			size, _, _ := mqtt.FrameSize(e.Data[at:])
			h.packet(e, at, uint32(size))
			at += uint32(size)
		}
	}
}

func (h *hub) open(e *abi.Event) {
	var p abi.Peer
	if abi.ReadPeer(e.Data, &p) == nil && p.Authenticate {
		if h.strangers == nil {
			h.strangers = map[abi.Conn]bool{}
		}
		h.strangers[e.Conn] = true
	}
}

// stranger asks the host who the sender is. The packet's content is the password.
func (h *hub) stranger(e *abi.Event) {
	if e.Arg == 0 {
		return // a sign of life
	}
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.gated = append(h.log.gated, e.Data...)
	request := abi.AuthRequest{Stage: abi.AuthConnect, ClientID: "c", HasPassword: true, Password: e.Data[2:]}
	if mqtt.TypeOf(e.Data) == mqtt.AUTH {
		request.Stage = abi.AuthContinue
	}
	if size, _, _ := mqtt.FrameSize(e.Data); e.Arg != 1 || size != len(e.Data) {
		h.log.early++
	}
	h.effects = abi.AppendEffect(h.effects, abi.EffectAuthenticate, 0, e.Conn, 0, abi.AppendAuthRequest(nil, &request))
}

func (h *hub) authenticated(e *abi.Event) {
	var answer abi.AuthAnswer
	if err := abi.ReadAuthAnswer(e.Data, &answer); err != nil {
		panic(err)
	}
	h.log.mu.Lock()
	h.log.answers = append(h.log.answers, answer)
	h.log.mu.Unlock()
	switch mqtt.ReasonCode(e.Arg) {
	case mqtt.Success:
		delete(h.strangers, e.Conn)
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0x20, 0})
		h.effects = abi.AppendEffect(h.effects, abi.EffectProceed, 0, e.Conn, 1, nil)
	case mqtt.ContinueAuthentication:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0xF0, 0})
		h.effects = abi.AppendEffect(h.effects, abi.EffectProceed, 0, e.Conn, 0, nil)
	default:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0x20, 1, byte(e.Arg)})
		h.effects = abi.AppendEffect(h.effects, abi.EffectClose, 0, e.Conn, e.Arg, nil)
	}
}

func (h *hub) packet(e *abi.Event, at, size uint32) {
	switch mqtt.TypeOf(e.Data[at:]) {
	case mqtt.SUBSCRIBE:
		h.subscribers = append(h.subscribers, e.Conn)
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0xD0, 0})
	case mqtt.PUBLISH:
		h.publish(e, at, size)
	case mqtt.PINGREQ:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, []byte{0xD0, 0})
	case mqtt.DISCONNECT:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSend, 0, e.Conn, 0, bytes.Repeat([]byte{0xD0, 0}, 1<<20))
		h.effects = abi.AppendEffect(h.effects, abi.EffectClose, 0, e.Conn, 0, nil)
	case mqtt.AUTH:
		panic("told to")
	case mqtt.SUBACK:
		h.paused = append(h.paused, e.Conn)
		h.effects = abi.AppendEffect(h.effects, abi.EffectPause, 0, e.Conn, 0, nil)
	case mqtt.UNSUBACK:
		for _, c := range h.paused {
			h.effects = abi.AppendEffect(h.effects, abi.EffectResume, 0, c, 0, nil)
		}
	case mqtt.PUBACK:
		h.effects = abi.AppendEffect(h.effects, abi.EffectSync, 0, e.Conn, 0, nil)
	}
}

// publish delivers the packet: its last 8 bytes as payload, the rest as head.
func (h *hub) publish(e *abi.Event, at, size uint32) {
	head := e.Data[at : at+size-8]
	var begin int
	h.effects, begin = abi.BeginDeliver(h.effects, e.Conn, head[0]>>1&3, 2, abi.Ref{Offset: e.At + at + size - 8, Size: 8}, head)
	for _, c := range h.subscribers {
		h.effects = abi.AppendTarget(h.effects, c, 0xABCD)
	}
	abi.EndDeliver(h.effects, begin)
}

// bed is a transport with an engine that runs hubs.
type bed struct {
	*Transport
	hubs   *hubLog
	engine *engine.Engine
	log    *testkit.Buffer
	addr   string
}

func newBed(t testing.TB, limits Limits, handshake Handshake) *bed {
	t.Helper()
	b := &bed{log: &testkit.Buffer{}, hubs: &hubLog{
		events: map[abi.Conn][]abi.EventKind{}, args: map[abi.Conn][]uint32{}, peers: map[abi.Conn]abi.Peer{},
	}}
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.Transport = New(Config{Limits: limits, Log: log})
	var err error
	b.engine, err = engine.Start(engine.Config{
		Core:    engine.NativeFactory(func() engine.GoCore { return &hub{log: b.hubs} }),
		Applier: b.Transport, Log: log, Backoff: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Transport.Start(b.engine)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.addr = socket.Addr().String()
	if _, err := b.Listen(socket, ListenConfig{Name: "test", Handshake: handshake}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		b.engine.Close()
		if t.Failed() {
			text := b.log.String()
			t.Log(text[:min(len(text), 10_000)])
		}
	})
	return b
}

// listen opens one more listener, which dial uses from then on.
func (b *bed) listen(t testing.TB, config ListenConfig) *Listener {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.Name = "more"
	l, err := b.Listen(socket, config)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = socket.Addr().String()
	return l
}

func (b *bed) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// subscriber is a connection that gets all that is published.
func (b *bed) subscriber(t testing.TB) net.Conn {
	t.Helper()
	c := b.dial(t)
	write(t, c, []byte{0x82, 0})
	expect(t, c, 2)
	return c
}

func write(t testing.TB, c net.Conn, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := c.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil { // of this packet alone
		t.Fatal(err)
	}
	return p
}

// expectEnd reads until the other side has closed, and returns what came before.
func expectEnd(t testing.TB, c net.Conn) []byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(c)
	if isTimeout(err) {
		t.Fatal("the connection was not closed")
	}
	return p
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// packetSize is the size of the packets of message.
const packetSize = 2 + 4 + 56 + 8

// message is a PUBLISH packet of packetSize bytes that ends in a number.
func message(qos byte, number uint64) []byte {
	p := make([]byte, packetSize)
	p[0], p[1] = 0x30|qos<<1, packetSize-2
	binary.BigEndian.PutUint64(p[packetSize-8:], number)
	return p
}

// messages are count of them, from number.
func messages(qos byte, number uint64, count int) []byte {
	var b []byte
	for i := range uint64(count) {
		b = append(b, message(qos, number+i)...)
	}
	return b
}
