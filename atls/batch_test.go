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
	. "github.com/vouchmq/vouchmq/internal/testkit"
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
	for _, timeout := range []*time.Duration{
		&r.server.HandshakeTimeout, &r.server.EvidenceTimeout, &r.client.HandshakeTimeout, &r.client.EvidenceTimeout,
	} {
		*timeout = Patience
	}
	r.server.Batcher = attest.NewBatcher(r.server.Attester)
	// They come together as far as processors allow. Where these take much longer than the device (under the race
	// detector, or beside other work), the device takes longer, too.
	apart := connectTogether(t, r, together)
	device := newSlowDevice(r.tee, min(max(50*time.Millisecond, apart/2), Patience/10))
	r.server.Batcher = attest.NewBatcher(device)
	connectTogether(t, r, together)
	quotes := device.quotes.Load() - servers // without those of trials
	t.Logf("%d handshakes, which take %v without a device, with %d quotes: %+v", together, apart, quotes, r.server.Batcher.Stats())
	if quotes > enough {
		t.Errorf("%d handshakes took %d quotes, more than %d", together, quotes, enough)
	}
}

const servers = 2

// connectTogether makes n handshakes at the same time with two servers of one configuration, and returns how long they
// took.
func connectTogether(t *testing.T, r *rig, n int) time.Duration {
	t.Helper()
	var addrs [servers]string
	var outcomes [servers]chan accepted
	for i := range addrs {
		addrs[i], outcomes[i] = start(t, r.server)
	}
	began := time.Now()
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			conn, err := atls.Dial(testContext(t), dialer(addrs[i%servers]), &r.client)
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
	took := time.Since(began)
	for i := range n {
		if o := Receive(t, outcomes[i%servers]); o.err != nil {
			t.Error(o.err)
		}
	}
	return took
}
