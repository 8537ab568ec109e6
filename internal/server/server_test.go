package server_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/server"
)

func TestMain(m *testing.M) {
	leaktest.Main(m)
}

// testLog shows a broker's log with the test that it belongs to.
type testLog struct {
	t  testing.TB
	mu sync.Mutex
	b  []byte
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p...)
	return len(p), nil
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

type rig struct {
	*server.Server
	state  *server.State
	bundle string
	log    *testLog
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
	log := &testLog{t: t}
	o := server.DevelopmentOptions{
		Dir: t.TempDir(), Plain: "127.0.0.1:0", Attested: "127.0.0.1:0", Engine: kind, Now: time.Now(),
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if kind == server.Wasm {
		o.Module = moduletest.Broker(t)
	}
	if change != nil {
		change(&o)
	}
	config, state, err := server.Development(o)
	if err != nil {
		t.Fatal(err)
	}
	configure(&config)
	s, err := server.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String()[:min(len(log.String()), 20_000)])
		}
	})
	bundle, _, err := state.WriteBundle(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &rig{Server: s, state: state, bundle: bundle, log: log}
}
