package transport

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestBucket(t *testing.T) {
	start := time.Unix(1000, 0)
	after := func(d time.Duration) time.Time { return start.Add(d) }
	b := newBucket(Rate{PerSecond: 10, Burst: 5})
	for i := range 5 {
		if !b.allow(start) {
			t.Fatalf("number %d is refused", i)
		}
	}
	if b.allow(after(50*time.Millisecond)) || !b.allow(after(150*time.Millisecond)) {
		t.Fatal("it does not fill by one in 100 ms")
	}
	if b.isFull(after(300*time.Millisecond)) || !b.isFull(after(time.Second)) {
		t.Fatal("it is full at the wrong time")
	}
	if wait := b.take(after(time.Second), 5); wait != 0 {
		t.Fatalf("waits %v for a burst", wait)
	}
	if wait := b.take(after(time.Second), 20); wait != 2*time.Second {
		t.Fatalf("waits %v for 20", wait)
	}
	if wait := b.take(after(time.Second), 1<<60); wait != maxDebt {
		t.Fatalf("waits %v for very many", wait)
	}
	none := newBucket(Rate{})
	if none.take(start, 1<<40) != 0 || !none.allow(start) {
		t.Fatal("no rate is a rate")
	}
	if one := newBucket(Rate{PerSecond: 0.1}); !one.allow(start) || one.allow(start) {
		t.Fatal("a slow rate does not allow one")
	}
}

// A client that sends too fast is read more slowly; it loses nothing.
func TestSlowedByItsRate(t *testing.T) {
	const count = 60
	for name, rates := range map[string]Rates{
		"messages": {Messages: Rate{PerSecond: 100, Burst: 10}},                        // 50 too many: half a second
		"bytes":    {Bytes: Rate{PerSecond: 100 * packetSize, Burst: 10 * packetSize}}, // the same
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Limits{}, nil)
			sub := b.subscriber(t)
			b.listen(t, ListenConfig{Rates: rates})
			pub := b.dial(t)
			began := time.Now()
			write(t, pub, messages(0, 1, count))
			expect(t, sub, count*packetSize)
			if took := time.Since(began); took < 400*time.Millisecond {
				t.Fatalf("it took %v", took)
			}
			if b.Stats().Slowed == 0 || strings.Count(b.log.String(), "faster than it may") != 1 {
				t.Fatalf("statistics %+v", b.Stats())
			}
		})
	}
}

// One that keeps to its rate is left alone, and so are packets that are no messages.
func TestNotSlowed(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Rates: Rates{Messages: Rate{PerSecond: 1}}})
	c := b.dial(t)
	for range 20 {
		write(t, c, []byte{0xC0, 0})
		expect(t, c, 2)
	}
	if b.Stats().Slowed != 0 {
		t.Fatalf("statistics %+v", b.Stats())
	}
}

// A client that is read slowly for long still lives for the core, and can be closed.
func TestSlowedForLong(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Rates: Rates{Messages: Rate{PerSecond: 0.001}}})
	c := b.dial(t)
	write(t, c, messages(0, 1, 3))
	testkit.Await(t, "a sign of life", func() bool {
		b.hubs.mu.Lock()
		defer b.hubs.mu.Unlock()
		for conn, events := range b.hubs.events {
			for i, kind := range events {
				if kind == abi.EventPackets && b.hubs.args[conn][i] == 0 {
					return true
				}
			}
		}
		return false
	})
	began := time.Now()
	b.table.all()[0].close(0x98, nil)
	b.table.all()[0].wakeWriter(0)
	expectEnd(t, c)
	_ = c.Close()
	testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 0 })
	if took := time.Since(began); took > testkit.Patience { // its rate would let it wait for a quarter of an hour
		t.Fatalf("it took %v", took)
	}
}

func TestConnectionRate(t *testing.T) {
	for name, rates := range map[string]Rates{
		"of the listener": {Connections: Rate{PerSecond: 0.001, Burst: 3}},
		"of an address":   {PerAddress: Rate{PerSecond: 0.001, Burst: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, Limits{}, nil)
			b.listen(t, ListenConfig{Rates: rates})
			for range 3 {
				b.subscriber(t)
			}
			for range 5 {
				expectEnd(t, b.dial(t))
			}
			if s := b.Stats(); s.RefusedRate != 5 || s.Connections != 3 {
				t.Fatalf("statistics %+v", s)
			}
			if n := strings.Count(b.log.String(), "too fast"); n != 3 { // the 1st, 2nd and 4th
				t.Fatalf("%d log lines", n)
			}
		})
	}
}

func TestConnectionsOfAnAddress(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	b.listen(t, ListenConfig{Rates: Rates{MaxPerAddress: 2}})
	first := b.subscriber(t)
	b.subscriber(t)
	expectEnd(t, b.dial(t))
	if s := b.Stats(); s.RefusedAddress != 1 {
		t.Fatalf("statistics %+v", s)
	}
	_ = first.Close()
	testkit.Await(t, "the first to leave", func() bool { return b.Stats().Connections == 1 })
	b.subscriber(t)
}

// A handshake that fails gives its place back.
func TestFailedHandshakeLeavesItsAddress(t *testing.T) {
	b := newBed(t, Limits{HandshakeTimeout: 20 * time.Millisecond}, nil)
	b.listen(t, ListenConfig{Rates: Rates{MaxPerAddress: 1}, Handshake: withTLS(t)})
	for range 3 {
		expectEnd(t, b.dial(t))
		testkit.Await(t, "the end", func() bool { return b.Stats().Connections == 0 })
	}
	if s := b.Stats(); s.RefusedAddress != 0 || s.FailedHandshakes != 3 {
		t.Fatalf("statistics %+v", s)
	}
}

func TestAdmit(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	var locked atomic.Bool
	b.listen(t, ListenConfig{Admit: func(a netip.Addr) bool { return a != netip.MustParseAddr("127.0.0.1") || !locked.Load() }})
	c := b.subscriber(t)
	locked.Store(true)
	expectEnd(t, b.dial(t))
	write(t, c, []byte{0xC0, 0}) // those who are in stay
	expect(t, c, 2)
	if s := b.Stats(); s.RefusedAdmit != 1 {
		t.Fatalf("statistics %+v", s)
	}
}

// What is known of addresses is bounded, and an IPv6 address counts as its network.
func TestGuests(t *testing.T) {
	g := newGuests(&Rates{MaxPerAddress: 2, PerAddress: Rate{PerSecond: 1, Burst: 2}})
	now := time.Unix(1000, 0)
	enter := func(address string, at time.Time) (*conn, verdict) {
		c := &conn{address: netip.AddrPortFrom(netip.MustParseAddr(address), 1), since: at}
		return c, g.enter(c)
	}
	a, first := enter("2001:db8::1", now)
	_, second := enter("2001:db8::ffff:2", now)
	_, third := enter("2001:db8::3", now)
	_, other := enter("2001:db8:0:1::1", now)
	if first != welcome || second != welcome || third != tooMany || other != welcome {
		t.Fatal(first, second, third, other)
	}
	g.leave(a.guest)
	if _, v := enter("2001:db8::4", now); v != tooFast {
		t.Fatalf("verdict %v", v)
	}
	for i := range 200_000 {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		c := &conn{address: netip.AddrPortFrom(address, 1), since: now}
		if g.enter(c) == welcome {
			g.leave(c.guest)
		}
	}
	if n := len(g.known); n > 2*mostKnown {
		t.Fatalf("%d addresses are known", n)
	}
	if _, v := enter("2001:db8:0:1::2", now.Add(time.Hour)); v != welcome {
		t.Fatalf("verdict %v", v)
	}
	c, _ := enter("2001:db8:0:1::3", now.Add(time.Hour))
	if c.guest != nil {
		t.Fatal("who had connections was forgotten")
	}
}

func TestListenerCloseLeavesConnections(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	old := b.addr
	l := b.listen(t, ListenConfig{})
	c := b.subscriber(t)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := net.Dial("tcp", b.addr); err == nil {
		_ = c.Close()
		t.Fatal("the listener is still there")
	}
	write(t, c, []byte{0xC0, 0})
	expect(t, c, 2)
	b.addr = old
	b.subscriber(t)
	if len(b.listeners) != 1 {
		t.Fatalf("%d listeners", len(b.listeners))
	}
}

// A reload changes what happens to those who come, and nothing for those who are there.
func TestReconfigure(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	l := b.listen(t, ListenConfig{Rates: Rates{MaxPerAddress: 1}})
	first := b.subscriber(t)
	expectEnd(t, b.dial(t))
	if err := l.Reconfigure(ListenConfig{WebSocket: &WebSocket{Path: "wrong"}}); err == nil {
		t.Fatal("a configuration that is wrong is accepted")
	}
	expectEnd(t, b.dial(t))
	if err := l.Reconfigure(ListenConfig{Handshake: withTLS(t), Rates: Rates{MaxPerAddress: 2}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c := tls.Client(b.dial(t), &tls.Config{InsecureSkipVerify: true})
		write(t, c, []byte{0xC0, 0})
		expect(t, c, 2)
	}
	expectEnd(t, b.dial(t))
	write(t, first, []byte{0xC0, 0})
	expect(t, first, 2)
	for _, c := range b.Connections() {
		if c.Listener != "more" {
			t.Fatalf("connection %+v", c)
		}
	}
	_ = first.Close() // it leaves where it came in
	testkit.Await(t, "the first to leave", func() bool { return b.Stats().Connections == 2 })
	expectEnd(t, b.dial(t))
}
