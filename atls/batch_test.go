package atls_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
)

// slowDevice is a quoting device that takes its time and serves one request at a time.
type slowDevice struct {
	attest.Attester
	mu     sync.Mutex
	quotes atomic.Int64
}

func newSlowDevice(tee *sim.Key, takes time.Duration) *slowDevice {
	return &slowDevice{Attester: sim.NewAttester(tee, attest.Digest{1}).WithFaults(sim.Faults{Delay: takes})}
}

func (d *slowDevice) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.quotes.Add(1)
	return d.Attester.Attest(ctx, data)
}

// TestManyHandshakesFewQuotes: handshakes that come together share quotes, also those of two servers with one Batcher.
func TestManyHandshakesFewQuotes(t *testing.T) {
	const together, enough = 64, 6
	r := newRig(t)
	// Handshakes come together as far as processors allow; under the race detector that is far less.
	device := newSlowDevice(r.tee, max(50*time.Millisecond, 20*timeOfHandshake(t, r)))
	r.server.Batcher = attest.NewBatcher(device)
	var addrs [2]string
	var outcomes [2]chan accepted
	for i := range addrs {
		addrs[i], outcomes[i] = start(t, r.server)
	}
	trials := device.quotes.Load()
	var clients sync.WaitGroup
	for i := range together {
		clients.Go(func() {
			conn, err := atls.Dial(testContext(t), dialer(addrs[i%2]), &r.client)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if !conn.Peer().Attested {
				t.Error("connected without evidence")
			}
		})
	}
	clients.Wait()
	for i := range together {
		if o := wait(t, outcomes[i%2]); o.err != nil {
			t.Error(o.err)
		}
	}
	quotes := device.quotes.Load() - trials
	t.Logf("%d handshakes with %d quotes: %+v", together, quotes, r.server.Batcher.Stats())
	if quotes > enough {
		t.Errorf("%d handshakes took %d quotes, more than %d", together, quotes, enough)
	}
}

// timeOfHandshake is how long a handshake takes whose quote takes no time.
func timeOfHandshake(t *testing.T, r *rig) time.Duration {
	addr, _ := start(t, r.server)
	began := time.Now()
	if _, err := dial(t, addr, r.client); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}
