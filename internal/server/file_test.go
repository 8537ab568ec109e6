package server_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

const goodFile = `
service: broker.plant.example
policy: policy.yaml
tee: sim
engine: native
log: { level: debug, format: json }
listeners:
  - { name: plain, kind: tcp, address: "127.0.0.1:0" }
  - { name: secure, kind: attested, address: "127.0.0.1:0", require_evidence: true }
limits: { max_packet_size: 4096, stall_timeout: 2s, max_connections: 10 }
`

const goodPolicy = `
version: 1
rules:
  - who: { anonymous: true, listener: plain }
    publish: ["public/#"]
    subscribe: ["public/#"]
`

func writeFiles(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"vouchmq.yaml": config, "policy.yaml": goodPolicy} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "vouchmq.yaml")
}

// readSettings reads a configuration file as `vouchmq serve --config` does.
func readSettings(path string) (*settings.Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return settings.Read(settings.Source{Name: path, Text: text, Base: server.Defaults()})
}

// openFile opens it.
func openFile(path string, o server.Opening) (*server.Opened, error) {
	s, err := readSettings(path)
	if err != nil {
		return nil, err
	}
	o.Dir = filepath.Dir(path)
	return server.Open(s, o)
}

func TestConfigurationFile(t *testing.T) {
	path := writeFiles(t, goodFile)
	opened, err := openFile(path, server.Opening{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	config, state := opened.Config, opened.State
	if state.Dir != filepath.Join(filepath.Dir(path), "state") {
		t.Fatalf("state folder is %s", state.Dir)
	}
	s, err := server.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	limits := s.Config().Limits
	if limits.Core.MaxPacketSize != 4096 || limits.Core.StallTimeout != 2000 || limits.Transport.StallAfter != 2*time.Second ||
		limits.Transport.MaxConnections != 10 || limits.Core.MaxInflight != server.DefaultLimits().MaxInflight {
		t.Fatalf("limits %+v", limits)
	}
	if s.Addr("plain") == nil || s.Addr("secure") == nil || s.Addr("other") != nil {
		t.Fatal("listeners are not those of the file")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	config, _, err := server.Development(server.DevelopmentOptions{Dir: t.TempDir(), Engine: server.Native})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*server.Config)
		want   string
	}{
		{"no listener", func(c *server.Config) { c.Listeners = nil }, "no listener"},
		{"no policy", func(c *server.Config) { c.Policy = nil }, "no policy"},
		{"two of a name", func(c *server.Config) { c.Listeners = append(c.Listeners, c.Listeners[0]) }, "twice"},
		{"no name", func(c *server.Config) { c.Listeners[0].Name = "" }, "no name"},
		{"kind", func(c *server.Config) { c.Listeners[0].Kind = "udp" }, "none of tcp, tls, attested"},
		{"address", func(c *server.Config) { c.Listeners[0].Address = "localhost" }, "host:port"},
		{"plain beyond this machine", func(c *server.Config) { c.Listeners[0].Address = ":0" }, "insecure: true"},
		{"socket of systemd", func(c *server.Config) { c.Listeners[0].Address = "systemd:mqtt" }, "FileDescriptorName=mqtt"},
		{"evidence over TCP", func(c *server.Config) { c.Listeners[0].RequireEvidence = true }, "only a listener of kind attested"},
		{"nobody to reveal to", func(c *server.Config) { c.Listeners[1].Reveal = atls.RevealAuthenticated }, "needs the CA"},
		{"nothing to reveal", func(c *server.Config) { c.Listeners[0].Reveal = atls.RevealAuthenticated }, "only a listener of kind attested"},
		{"in clear over TCP", func(c *server.Config) { c.Listeners[0].P1WithoutECH = true }, "only a listener of kind attested"},
		{"no certificate", func(c *server.Config) { c.Certificate.Certificate = nil }, "certificate"},
		{"no TEE", func(c *server.Config) { c.Attester = nil }, "TEE"},
		{"no module", func(c *server.Config) { c.Engine = "" }, "make module"},
		{"engine", func(c *server.Config) { c.Engine = "jit" }, "neither wasm nor native"},
		{"address in use", func(c *server.Config) { c.Listeners[0].Address, c.Listeners[0].Insecure = "256.0.0.1:1", true }, "listener plain"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config
			c.Listeners = append([]server.Listener(nil), config.Listeners...)
			for i := range c.Listeners {
				c.Listeners[i].Address = "127.0.0.1:0"
			}
			test.change(&c)
			s, err := server.Start(context.Background(), c)
			if err == nil {
				_ = s.Shutdown(context.Background())
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %q, want %q", err, test.want)
			}
		})
	}
}

// What is attested must change with all that matters, and with nothing else.
func TestCanonicalConfiguration(t *testing.T) {
	o := server.DevelopmentOptions{Dir: t.TempDir(), Engine: server.Native}
	digest := func(change func(*server.Config)) string {
		config, _, err := server.Development(o)
		if err != nil {
			t.Fatal(err)
		}
		change(&config)
		id, err := config.Identity()
		if err != nil {
			t.Fatal(err)
		}
		return id.Config.String()
	}
	same := digest(func(*server.Config) {})
	for name, change := range map[string]func(*server.Config){
		"address": func(c *server.Config) { c.Listeners[0].Address = "10.0.0.1:99" },
		"order":   func(c *server.Config) { c.Listeners[0], c.Listeners[1] = c.Listeners[1], c.Listeners[0] },
		"default": func(c *server.Config) { c.Listeners[1].Reveal = atls.RevealFirst },
		"log":     func(c *server.Config) { c.Log = slog.New(slog.NewTextHandler(io.Discard, nil)) },
	} {
		if digest(change) != same {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, change := range map[string]func(*server.Config){
		"owner":    func(c *server.Config) { c.OwnerKey[0]++ },
		"service":  func(c *server.Config) { c.Service = "other" },
		"engine":   func(c *server.Config) { c.Engine = server.Wasm },
		"listener": func(c *server.Config) { c.Listeners = c.Listeners[1:] },
		"evidence": func(c *server.Config) { c.Listeners[1].RequireEvidence = true },
		"kind":     func(c *server.Config) { c.Listeners[1].Kind = server.TLS },
		"reveal":   func(c *server.Config) { c.Listeners[1].Reveal = atls.RevealAuthenticated },
		"ECH":      func(c *server.Config) { c.Listeners[1].P1WithoutECH = true },
	} {
		if digest(change) == same {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

// A state folder keeps what it has, and keeps it to itself.
func TestStateFolder(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	first, err := server.OpenState(dir, "broker.example", "public.example", now)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Made) != 6 {
		t.Fatalf("made %v", first.Made)
	}
	for _, name := range first.Made {
		info, err := os.Stat(first.Path(name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%s: %v, error %v", name, info.Mode(), err)
		}
	}
	again, err := server.OpenState(dir, "broker.example", "public.example", now.Add(24*time.Hour))
	if err != nil || len(again.Made) != 0 || again.Sim.Digest() != first.Sim.Digest() {
		t.Fatalf("opened again: made %v, error %v", again.Made, err)
	}
	later, err := server.OpenState(dir, "broker.example", "public.example", now.Add(380*24*time.Hour))
	if err != nil || len(later.Made) != 2 {
		t.Fatalf("a year later: made %v, want a fresh certificate and its key; error %v", later.Made, err)
	}
	if err := os.WriteFile(first.Path(server.OwnerKeyFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.OpenState(dir, "broker.example", "public.example", now); err == nil || !strings.Contains(err.Error(), server.OwnerKeyFile) {
		t.Fatalf("error %v does not name the damaged file", err)
	}
}

// The development policy follows the program until somebody makes it their own; the bundle follows the broker.
func TestDevelopmentFiles(t *testing.T) {
	r := start(t, server.Native, nil)
	if _, fresh, err := r.state.WriteBundle(r.Server, time.Now()); err != nil || fresh {
		t.Fatalf("the same bundle was written again, error %v", err)
	}
	path := r.state.Path(server.PolicyFile)
	if err := os.WriteFile(path, []byte(goodPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	config, _, err := server.Development(server.DevelopmentOptions{Dir: r.state.Dir, Engine: server.Native})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(config.Policy.Identities()); n != 0 {
		t.Fatal("the policy that somebody wrote was replaced")
	}
}
