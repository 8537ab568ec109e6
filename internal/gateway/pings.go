package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// pings keeps a connection alive for a client of MQTT 3.1 or 3.1.1 where the broker demands a shorter keep alive than the client has
// in mind (Server Keep Alive, 3.2.2.3.14): the client cannot be told. A client that has fallen silent for one and a half times its own
// keep alive is left to the broker.
type pings struct {
	mu     sync.Mutex
	every  time.Duration // 0: never
	within time.Duration // that the client must say something; 0: it need not
	last   time.Time     // that it did
	owed   int           // PINGRESP that are not the client's
}

// open takes over what the client wants and the broker demands.
func (p *pings) open(c mqtt.Connect, ack *mqtt.Properties) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	p.within = time.Duration(c.KeepAlive) * time.Second * 3 / 2
	if c.Version < mqtt.V5 && ack.Has.Has(mqtt.PropServerKeepAlive) {
		p.every = time.Duration(ack.ServerKeepAlive) * time.Second
	}
}

// heard says that the client lives.
func (p *pings) heard() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every > 0 {
		p.last = time.Now()
	}
}

// own reports whether a PINGRESP answers the gateway. Which of several answers whom makes no difference.
func (p *pings) own() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owed == 0 {
		return false
	}
	p.owed--
	return true
}

// due says whether the gateway is to ping now.
func (p *pings) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.within > 0 && time.Since(p.last) > p.within {
		return false
	}
	p.owed++
	return true
}

// ping pings the broker as often as it demands, until ctx ends.
func (p *passage) ping(ctx context.Context) {
	if p.pings.every == 0 {
		return
	}
	ticker := time.NewTicker(p.pings.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if p.pings.due() && p.remote.send(mqtt.AppendPingreq(nil)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
