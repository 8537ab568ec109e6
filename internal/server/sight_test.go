package server_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/server"
)

// startSighted starts a broker that shows all it can.
func startSighted(t *testing.T) (*rig, *admin.Client, *slog.LevelVar) {
	t.Helper()
	folder, err := os.MkdirTemp("", "vouchmq-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	var level slog.LevelVar
	socket := filepath.Join(folder, admin.SocketFile)
	r := start(t, server.Native, func(o *server.DevelopmentOptions) {
		o.Sight = server.Sight{
			Metrics: metrics.Config{Address: "127.0.0.1:0"}, Admin: admin.Config{Socket: socket},
			Sys: metrics.SysConfig{Interval: time.Second}, Version: "v-test", Level: &level,
		}
	})
	c := admin.NewClient(socket)
	t.Cleanup(c.Close)
	return r, c, &level
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestSightOfARunningBroker(t *testing.T) {
	r, c, level := startSighted(t)
	url := "http://" + r.MetricsAddr()
	status, body := get(t, url+"/metrics")
	for _, want := range []string{`vouchmq_build_info{`, `version="v-test"`, `tee="sim"`, "vouchmq_attestation_simulated 1", "vouchmq_core_responding 1",
		"vouchmq_quote_largest_batch 1"} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("status %d, no %s", status, want)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body := get(t, url+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil || s.State != "running" || len(s.Listeners) != 2 || s.Build.Module != r.Identity().Module.String() {
		t.Errorf("%+v, error %v", s, err)
	}
	if err := c.SetLevel(t.Context(), "warn"); err != nil || level.Level() != slog.LevelWarn {
		t.Errorf("level %v, error %v", level.Level(), err)
	}
	if err := c.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "without a configuration file") {
		t.Errorf("reload without a file: %v", err)
	}
	reloaded := false
	r.OnReload(func(context.Context) error { reloaded = true; return nil })
	if err := c.Reload(t.Context()); err != nil || !reloaded {
		t.Errorf("reloaded: %v, error %v", reloaded, err)
	}
}

func TestDrainAndStopByAnAdministrator(t *testing.T) {
	r, c, _ := startSighted(t)
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, "http://"+r.MetricsAddr()+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready while it drains: %d %s", status, body)
	}
	if s, err := c.Status(t.Context()); err != nil || s.State != "draining" || len(s.Listeners) != 0 {
		t.Errorf("state %q, listeners %v, error %v", s.State, s.Listeners, err)
	}
	select {
	case <-r.Stopped():
		t.Fatal("draining stops the broker")
	default:
	}
	for range 2 {
		if err := c.Stop(t.Context(), admin.StopRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	<-r.Stopped()
	if err := r.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(r.Config().Sight.Admin.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestSightThatMakesNoSense(t *testing.T) {
	for name, sight := range map[string]server.Sight{
		"metrics for all":    {Metrics: metrics.Config{Address: ":0"}},
		"too often":          {Sys: metrics.SysConfig{Interval: time.Millisecond}},
		"no room for socket": {Admin: admin.Config{Socket: "/" + strings.Repeat("x", 200)}},
	} {
		config, _, err := server.Development(server.DevelopmentOptions{
			Dir: t.TempDir(), Plain: "127.0.0.1:0", Attested: "127.0.0.1:0", Engine: server.Native, Sight: sight,
		})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := server.Start(t.Context(), config); err == nil {
			t.Errorf("%s: the broker starts", name)
			s.Shutdown(context.Background())
		}
	}
}

// A reload goes on with the same TEE: what was counted of quotes stays, and no second quote is made beside one.
func TestQuotesAreCountedOverReloads(t *testing.T) {
	r := start(t, server.Native, nil)
	quotes := func() uint64 {
		s, err := r.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Quotes.Quotes
	}
	before := quotes()
	if err := r.Reload(t.Context(), r.Config()); err != nil {
		t.Fatal(err)
	}
	works(t, r, "attested")
	if after := quotes(); before == 0 || after < before+2 {
		t.Errorf("%d quotes before, %d after: one more is for the trial, one for the connection", before, after)
	}
}
