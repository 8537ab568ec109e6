package attesttest

import (
	"context"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
)

func simulated() Evidence {
	quote := must(sim.NewAttester(must(sim.NewKey()), attest.Digest{}).Attest(context.Background(), reportData))
	return Evidence{Name: "simulated", Quote: quote, Verifier: sim.NewVerifier(), Now: now}
}
