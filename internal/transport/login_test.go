package transport

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// guard is a Login for tests: it answers when the test lets it.
type guard struct {
	mu       sync.Mutex
	client   Client
	requests []abi.AuthRequest
	kept     [][]byte // passwords as they were given, to see that they are wiped
	ended    int      // steps whose ctx ended
	answers  chan mqtt.ReasonCode
}

func (g *guard) Step(ctx context.Context, r *abi.AuthRequest) (mqtt.ReasonCode, abi.AuthAnswer) {
	g.mu.Lock()
	copied := *r
	copied.Password = bytes.Clone(r.Password)
	g.requests = append(g.requests, copied)
	g.kept = append(g.kept, r.Password)
	g.mu.Unlock()
	select {
	case reason := <-g.answers:
		return reason, abi.AuthAnswer{User: "alice", Data: []byte("data")}
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		g.ended++
		return mqtt.NotAuthorized, abi.AuthAnswer{}
	}
}

func (g *guard) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.requests)
}

// guarded is a bed with a listener whose clients must log in, with one guard for all.
func guarded(t testing.TB, config ListenConfig, limits Limits) (*bed, *guard) {
	t.Helper()
	g := &guard{answers: make(chan mqtt.ReasonCode, 10)}
	b := newBed(t, limits, nil)
	config.Login = func(c Client) Login {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.client = c
		return g
	}
	b.listen(t, config)
	return b, g
}

// connect is what the hub takes for CONNECT, with a password.
var connect = []byte{0x10, 2, 'p', 'w'}

func TestLogin(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	c := b.dial(t)
	write(t, c, connect)
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	if p := b.onlyPeer(t); !p.Authenticate {
		t.Fatalf("the core was told of %+v", p)
	}
	g.answers <- mqtt.ContinueAuthentication
	expect(t, c, 2)
	write(t, c, []byte{0xF0, 1, 'x'})
	g.answers <- mqtt.Success
	expect(t, c, 2)
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.requests[0].Stage != abi.AuthConnect || string(g.requests[0].Password) != "pw" || g.requests[1].Stage != abi.AuthContinue {
		t.Fatalf("requests %+v", g.requests)
	}
	if !bytes.Equal(g.kept[0], []byte{0, 0}) {
		t.Fatalf("the password is still there: %q", g.kept[0])
	}
	if g.client.Listener != "more" || g.client.Address.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Fatalf("client %+v", g.client)
	}
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	if a := b.hubs.answers; len(a) != 2 || a[1].User != "alice" || string(a[1].Data) != "data" {
		t.Fatalf("answers %+v", a)
	}
}

func TestLoginRefused(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	c := b.dial(t)
	write(t, c, append(bytes.Clone(connect), 0xC0, 0, 0xC0, 0))
	g.answers <- mqtt.NotAuthorized
	if got := expectEnd(t, c); !bytes.Equal(got, []byte{0x20, 1, 0x87}) {
		t.Fatalf("got % x", got)
	}
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	if string(b.hubs.gated) != string(connect) {
		t.Fatalf("the core got % x", b.hubs.gated)
	}
}

// A client need not wait for CONNACK [MQTT-3.1.4-5]: what it sends meanwhile waits, and comes in order.
func TestPacketsWaitForTheLogin(t *testing.T) {
	for name, piece := range map[string]int{"at once": 1 << 20, "in pieces": 7} {
		t.Run(name, func(t *testing.T) {
			b, g := guarded(t, ListenConfig{}, Limits{})
			sub := b.dial(t)
			write(t, sub, append(bytes.Clone(connect), 0x82, 0))
			g.answers <- mqtt.Success
			expect(t, sub, 4)
			pub := b.dial(t)
			want := messages(0, 1, 500)
			all := append(bytes.Clone(connect), want...)
			write(t, pub, all[:len(all)/2])
			testkit.Await(t, "the request", func() bool { return g.count() == 2 })
			g.answers <- mqtt.Success
			for rest := all[len(all)/2:]; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				write(t, pub, rest[:min(piece, len(rest))])
			}
			if got := expect(t, sub, len(want)); !bytes.Equal(got, want) {
				t.Fatal("messages were lost, or changed their order")
			}
			if b.hubs.early != 0 {
				t.Fatalf("%d packets came early", b.hubs.early)
			}
		})
	}
}

// Before it has logged in, a client can make the broker keep little.
func TestWhatWaitsForTheLoginIsBounded(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	c := b.dial(t)
	write(t, c, connect)
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	flood := messages(0, 1, 1000)
	for {
		if _, err := c.Write(flood); err != nil {
			break // the sockets are full
		}
	}
	if n := b.Connections()[0].Figures.BytesIn; n > gateBuffer+uint64(len(connect)) {
		t.Fatalf("%d bytes were read", n)
	}
	g.answers <- mqtt.Success
	expect(t, c, 2)
	testkit.Await(t, "the rest", func() bool { return b.hubs.count(abi.EventPackets) > 1 })
}

func TestBadPacketBehindConnect(t *testing.T) {
	bad := []byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}
	t.Run("with it", func(t *testing.T) {
		b, g := guarded(t, ListenConfig{}, Limits{})
		c := b.dial(t)
		write(t, c, append(bytes.Clone(connect), bad...))
		testkit.Await(t, "the request", func() bool { return g.count() == 1 })
		g.answers <- mqtt.Success
		if got := expectEnd(t, c); !bytes.Equal(got, []byte{0x20, 0, 0xE0, 1, 0x81}) {
			t.Fatalf("got % x", got)
		}
	})
	t.Run("in its place", func(t *testing.T) {
		b, _ := guarded(t, ListenConfig{}, Limits{})
		c := b.dial(t)
		write(t, c, bad)
		if got := expectEnd(t, c); !bytes.Equal(got, []byte{0xE0, 1, 0x81}) {
			t.Fatalf("got % x", got)
		}
	})
}

// A client that goes away while its login runs is gone, and so is the login.
func TestClientLeavesDuringLogin(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	c := b.dial(t)
	write(t, c, connect)
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "the end", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.ended == 1 && b.hubs.count(abi.EventClosed) == 1 && b.Stats().Connections == 0
	})
	if b.hubs.count(abi.EventAuthenticated) != 0 {
		t.Fatal("the core was answered for a connection that had ended")
	}
}

// One that only says no more is not gone: what it said still counts.
func TestClientClosesItsHalfDuringLogin(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	c := b.dial(t)
	write(t, c, append(bytes.Clone(connect), 0xC0, 0))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	g.answers <- mqtt.Success
	testkit.Await(t, "the end", func() bool { return b.hubs.count(abi.EventClosed) == 1 })
	if n := b.hubs.count(abi.EventPackets); n != 2 {
		t.Fatalf("%d runs of packets", n)
	}
}

// Logins that hang do not keep the broker from closing.
func TestCloseDuringLogin(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	write(t, b.dial(t), connect)
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// A core that asks twice at a time breaks the contract.
func TestSecondRequestMeanwhile(t *testing.T) {
	b, g := guarded(t, ListenConfig{}, Limits{})
	write(t, b.dial(t), connect)
	testkit.Await(t, "the request", func() bool { return g.count() == 1 })
	c := b.table.all()[0]
	if err := c.authenticate(abi.AppendAuthRequest(nil, &abi.AuthRequest{})); err == nil || !strings.Contains(err.Error(), "abi:") {
		t.Fatalf("error %v", err)
	}
	if err := c.authenticate([]byte{1}); err == nil {
		t.Fatal("data that is no request is accepted")
	}
}

// A listener may know some clients already.
func TestNoLoginForSome(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Login: func(Client) Login { return nil }})
	c := b.dial(t)
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
	if p := b.onlyPeer(t); p.Authenticate {
		t.Fatalf("the core was told of %+v", p)
	}
}

func TestLoginOverWebSocketAndTLS(t *testing.T) {
	b, g := guarded(t, ListenConfig{Handshake: withTLS(t), WebSocket: &WebSocket{}}, Limits{})
	c, err := webSocketTo(t, "wss://"+b.addr+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, 2, connect)
	send(t, c, 2, []byte{0xC0, 0})
	g.answers <- mqtt.Success
	if got := receiveBytes(t, c, 4); !bytes.Equal(got, []byte{0x20, 0, 0xD0, 0}) {
		t.Fatalf("got % x", got)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.client.User != "tls" {
		t.Fatalf("client %+v", g.client)
	}
}
