package server_test

import (
	"testing"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/servertest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) {
	leaktest.Main(m)
}

type rig struct {
	*server.Server
	state  *server.State
	bundle string
	log    *Buffer
}

// bothEngines are what the core runs in.
var bothEngines = []server.Engine{server.Native, server.Wasm}

// engines are what a test of behaviour runs with: both, but not under -short, which is for the race detector. It takes a slow machine half
// a minute to compile the module, far longer than the tests; some have the module all the same, see bothEngines.
func engines() []server.Engine {
	if testing.Short() {
		return []server.Engine{server.Native}
	}
	return bothEngines
}

// usual is the engine of a broker that is not told otherwise. It is the other one under -short, see engines.
func usual() server.Engine {
	if testing.Short() {
		return server.Native
	}
	return server.Wasm
}

// start starts a development broker on free ports.
func start(t testing.TB, kind server.Engine, change func(*server.DevelopmentOptions)) *rig {
	t.Helper()
	return startConfigured(t, kind, change, func(*server.Config) {})
}

// startConfigured is start with a configuration that is changed after it was made.
func startConfigured(t testing.TB, kind server.Engine, change func(*server.DevelopmentOptions), configure func(*server.Config)) *rig {
	t.Helper()
	o := server.DevelopmentOptions{Engine: kind}
	if change != nil {
		change(&o)
	}
	r := rigOf(servertest.Start(t, o, func(c *server.Config, _ *server.State) { configure(c) }))
	r.bundle = servertest.BundleFile(t, r.state, r.Server)
	return r
}

func rigOf(b *servertest.Broker) *rig { return &rig{Server: b.Server, state: b.State, log: b.Log} }

// readBundle returns the bundle of the broker as it is now. Its policy accepts the key of the state folder, which the
// broker attests with.
func (r *rig) readBundle(t testing.TB) *client.Bundle {
	t.Helper()
	return servertest.Bundle(t, r.state, r.Server)
}
