package transport

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/vouchmq/vouchmq/internal/testkit"
)

// endless is a handshake that lasts as long as the client keeps it.
func endless(_ context.Context, c net.Conn) (Secured, error) {
	var b [1]byte
	_, err := c.Read(b[:])
	return Secured{Stream: c}, err
}

// dialFrom connects from an address of the loopback interface.
func (b *bed) dialFrom(t testing.TB, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	c, err := d.DialContext(t.Context(), "tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// An address that leaves handshakes half-open ends its own oldest, and nobody else's.
func TestHandshakesOfAnAddress(t *testing.T) {
	b := newBed(t, Limits{MaxHandshakes: 20, MaxHandshakesPerAddress: 5, HandshakeTimeout: time.Hour}, endless)
	victim := b.dialFrom(t, "127.0.0.1")
	testkit.Await(t, "the first handshake", func() bool { return b.Stats().Handshakes == 1 })
	first := b.dialFrom(t, "127.0.0.2")
	for range 99 {
		b.dialFrom(t, "127.0.0.2")
	}
	expectEnd(t, first)
	testkit.Await(t, "the others", func() bool {
		s := b.Stats()
		return s.FailedHandshakes == 95 && s.Handshakes == 6 && s.CrowdedOutOfAddress == 95
	})
	if s := b.Stats(); s.CrowdedOut != 0 {
		t.Errorf("statistics %+v", s)
	}
	log := b.log.String() // the last warning came long before the last was crowded out
	if n := strings.Count(log, "level=WARN"); n != 7 || !strings.Contains(log, "an address has too many handshakes at a time") {
		t.Errorf("%d warnings, want those of the 1st, 2nd, 4th ... 64th time:\n%s", n, log)
	}
	write(t, victim, []byte{1, 0xC0, 0})
	expect(t, victim, 2)
}

// When a handshake has ended there is room for another, also where there is room for one only.
func TestHandshakesMakeRoom(t *testing.T) {
	b := newBed(t, Limits{MaxHandshakesPerAddress: 1, HandshakeTimeout: time.Hour}, endless)
	for range 3 {
		c := b.dialFrom(t, "127.0.0.3")
		write(t, c, []byte{1, 0xC0, 0})
		expect(t, c, 2)
	}
	old, fresh := b.dialFrom(t, "127.0.0.3"), b.dialFrom(t, "127.0.0.3")
	expectEnd(t, old)
	write(t, fresh, []byte{1, 0xC0, 0})
	expect(t, fresh, 2)
	h := &b.handshakes
	testkit.Await(t, "nothing to be kept", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.byAddress) == 0 && h.queue.Len() == 0
	})
}

// Behind a proxy handshakes count for the address that it tells.
func TestHandshakesBehindAProxy(t *testing.T) {
	b := newBed(t, Limits{MaxHandshakesPerAddress: 2, HandshakeTimeout: time.Hour}, nil)
	b.listen(t, ListenConfig{Proxy: loopback, Handshake: endless})
	connect := func(source string) net.Conn {
		c := b.dial(t)
		write(t, c, proxyHeaderOf(t, proxyproto.PROXY, source))
		return c
	}
	victim := connect("192.0.2.7:1")
	testkit.Await(t, "the first handshake", func() bool { return b.Stats().Handshakes == 1 })
	for range 10 {
		connect("192.0.2.8:1")
	}
	testkit.Await(t, "the others", func() bool { s := b.Stats(); return s.FailedHandshakes == 8 && s.Handshakes == 3 })
	write(t, victim, []byte{1, 0xC0, 0})
	expect(t, victim, 2)
}
