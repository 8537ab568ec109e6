package server_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// slowTEE makes one quote at a time, as hardware does.
type slowTEE struct {
	attest.Attester
	busy   chan struct{}
	time   time.Duration
	quotes atomic.Int64
}

func (s *slowTEE) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	case <-ctx.Done():
		return attest.Quote{}, ctx.Err()
	}
	s.quotes.Add(1)
	time.Sleep(s.time) // the hardware at work
	return s.Attester.Attest(ctx, data)
}

// TestFloodOfQuotes: one address asks for evidence as often as it can, and the TEE makes one quote at a time. Clients of
// other addresses are served all the same, since an address has only so many connections.
func TestFloodOfQuotes(t *testing.T) {
	r := rigOf(servertest.Start(t, server.DevelopmentOptions{Plain: "-"}, func(c *server.Config, _ *server.State) {
		c.Attester = &slowTEE{Attester: c.Attester, busy: make(chan struct{}, 1), time: 100 * time.Millisecond}
		c.Listeners[0].Settings.MaxPerAddress = 4
	}))
	bundle := r.readBundle(t)
	stop := floodOfQuotes(t, bundle, 64)
	defer stop()
	Await(t, "the flood", func() bool { return stats(t, r).Transport.RefusedAddress > 0 })
	for range 4 {
		conn, _, err := client.Dial(context.Background(), bundle, client.Options{})
		if err != nil {
			t.Fatal("not served in the flood:", err)
		}
		conn.Close()
	}
}

// floodOfQuotes has many clients of the address 127.0.0.2 ask for evidence, until stop is called.
func floodOfQuotes(t *testing.T, bundle *client.Bundle, clients int) (stop func()) {
	t.Helper()
	elsewhere := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if probe, err := elsewhere.Dial("tcp", bundle.Addresses[0]); err != nil {
		t.Skipf("this machine has no other address than 127.0.0.1 to flood from: %v", err)
	} else {
		probe.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var attackers sync.WaitGroup
	for range clients {
		attackers.Go(func() {
			for ctx.Err() == nil {
				conn, _, err := client.Dial(ctx, bundle, client.Options{Dial: elsewhere.DialContext})
				if err == nil {
					conn.Close()
					continue
				}
				time.Sleep(20 * time.Millisecond) // else they would only take this machine's processors from the broker
			}
		})
	}
	return func() { cancel(); attackers.Wait() }
}
