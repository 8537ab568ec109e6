package local

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
)

// Mutual dials the broker as Attested does, and gives evidence of the client, which has a simulated TEE of its own that takes so
// long for a quote.
func (b *Broker) Mutual(address string, quoteTime time.Duration) (bench.Dialer, error) {
	pem, err := os.ReadFile(b.ClientKey)
	if err != nil {
		return nil, err
	}
	key, err := sim.ParseKey(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.ClientKey, err)
	}
	self, err := server.RuntimeDigest()
	if err != nil {
		return nil, err
	}
	attester, identity := sim.NewAttester(key, self), attest.Identity{Module: self, Runtime: self}
	return func(ctx context.Context) (net.Conn, error) {
		return b.dial(address, client.Options{Attester: attester.WithQuoteTime(quoteTime), Identity: identity})(ctx)
	}, nil
}
