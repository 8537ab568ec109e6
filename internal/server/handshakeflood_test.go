package server_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// flooder attacks a broker from an address of its own, in steps of so many connections.
type flooder struct {
	address  string
	dialer   net.Dialer
	bundle   *client.Bundle
	attempts atomic.Int64
	attested atomic.Int64 // handshakes that came to their end
	open     []net.Conn   // half-open, of the last step
}

const floodStep = 200

// run floods until ctx ends.
func (f *flooder) run(ctx context.Context) {
	for ctx.Err() == nil {
		f.step(ctx)
	}
	f.closeAll(f.open)
}

// step makes half of its connections half-open, which stay until the next step is made, and half of them complete.
func (f *flooder) step(ctx context.Context) {
	before := f.open
	f.open = make([]net.Conn, floodStep/2)
	var all sync.WaitGroup
	for i := range f.open {
		all.Go(func() { f.open[i] = f.halfOpen(ctx, i) })
		all.Go(func() { f.complete(ctx) })
	}
	all.Wait()
	f.closeAll(before)
}

// halfOpen sends nothing, or the head of a TLS record, and waits.
func (f *flooder) halfOpen(ctx context.Context, i int) net.Conn {
	f.attempts.Add(1)
	conn, err := f.dialer.DialContext(ctx, "tcp", f.address)
	if err != nil {
		return nil
	}
	_, _ = conn.Write([]byte{0x16, 3, 1, 2, 0}[:i%6])
	return conn
}

// complete has the broker make evidence, verifies it, and goes.
func (f *flooder) complete(ctx context.Context) {
	f.attempts.Add(1)
	conn, _, err := client.Dial(ctx, f.bundle, client.Options{Address: f.address, Dial: f.dialer.DialContext})
	if err == nil {
		f.attested.Add(1)
		_ = conn.Close()
	}
}

func (f *flooder) closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// While one address floods the broker with handshakes, of which half never end and half want evidence from a slow TEE,
// another connects, attested, and publishes. It waits for no more of the flood than a few steps: handshakes share quotes, and
// the flood crowds out its own.
func TestHandshakeFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const honest, most = 4, 8 * floodStep
	tee := &slowTEE{busy: make(chan struct{}, 1), time: 50 * time.Millisecond}
	r := startConfigured(t, server.Native, func(o *server.DevelopmentOptions) {
		o.Limits.Transport = transport.Limits{MaxHandshakes: floodStep, MaxHandshakesPerAddress: floodStep / 2}
	}, func(c *server.Config) { tee.Attester, c.Attester = c.Attester, tee })
	bundle, err := client.ReadBundle(r.bundle)
	if err != nil {
		t.Fatal(err)
	}
	f := &flooder{
		address: r.Addr(server.AttestedListener).String(), bundle: bundle,
		dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	flood.Go(func() { f.run(ctx) })
	defer flood.Wait()
	defer cancel()
	Await(t, "the flood", func() bool { return f.attempts.Load() > 2*floodStep })
	for i := range honest {
		before := f.attempts.Load()
		works(t, r, "attested")
		waited := f.attempts.Load() - before
		t.Logf("honest client %d waited for %d attempts of the flood", i, waited)
		if waited > most {
			t.Errorf("honest client %d waited for %d attempts of the flood, more than %d", i, waited, most)
		}
	}
	s := stats(t, r).Transport
	t.Logf("%d attempts, %d attested with %d quotes; %d crowded out, %d by themselves", f.attempts.Load(), f.attested.Load(),
		tee.quotes.Load(), s.CrowdedOut, s.CrowdedOutOfAddress)
	if s.CrowdedOutOfAddress == 0 || s.CrowdedOut != 0 || !strings.Contains(r.log.String(), "an address has too many handshakes at a time") {
		t.Error("the limit was not met, or not logged")
	}
	if quotes := tee.quotes.Load(); quotes > f.attested.Load()/2 {
		t.Errorf("%d handshakes took %d quotes", f.attested.Load(), quotes)
	}
}
