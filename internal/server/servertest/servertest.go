// Package servertest starts brokers for tests, which end with them. It is for tests.
package servertest

import (
	"cmp"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// Broker is a broker until the end of a test.
type Broker struct {
	*server.Server
	Config server.Config // that it was started with
	State  *server.State
	Log    *testkit.Buffer
}

// Start starts a development broker. What the options leave out is a folder of the test's own, free ports, the native engine, the broker's module,
// now, and a log that is shown if the test fails. change, if it is not nil, changes what comes of the options.
func Start(t testing.TB, o server.DevelopmentOptions, change func(*server.Config, *server.State)) *Broker {
	t.Helper()
	b := &Broker{Log: &testkit.Buffer{}}
	o = withDefaults(t, o, b.Log)
	var err error
	if b.Config, b.State, err = server.Development(o); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&b.Config, b.State)
	}
	b.Server = Run(t, b.Config, b.Log)
	return b
}

func withDefaults(t testing.TB, o server.DevelopmentOptions, log *testkit.Buffer) server.DevelopmentOptions {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	const free = "127.0.0.1:0"
	o.Plain, o.Attested, o.Engine = cmp.Or(o.Plain, free), cmp.Or(o.Attested, free), cmp.Or(o.Engine, server.Native)
	if o.Engine == server.Wasm && o.Module == nil {
		o.Module = moduletest.Broker(t)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Log == nil {
		o.Log = Logger(log)
	}
	return o
}

// Logger writes all there is to say.
func Logger(b *testkit.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Run starts a broker of any configuration, whose log is shown if the test fails.
func Run(t testing.TB, config server.Config, log *testkit.Buffer) *server.Server {
	t.Helper()
	const shown = 20_000 // bytes
	s, err := server.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if text := log.String(); t.Failed() {
			t.Log(text[:min(len(text), shown)])
		}
	})
	return s
}

// BundleFile writes the bundle of a broker as it is now, and returns its path.
func BundleFile(t testing.TB, state *server.State, s *server.Server) string {
	t.Helper()
	path, _, err := state.WriteBundle(s, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Bundle is the bundle of a broker as it is now.
func Bundle(t testing.TB, state *server.State, s *server.Server) *client.Bundle {
	t.Helper()
	return testkit.Must(client.ReadBundle(BundleFile(t, state, s)))(t)
}
