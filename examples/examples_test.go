// Package examples has a program in each folder that uses VouchMQ's public packages, and tests that run them.
package examples

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
)

// clients are the programs that speak MQTT.
var clients = []string{"paho3", "paho5"}

// TestPrograms builds the example programs and runs each as its comment says: with a bundle that accepts the broker,
// and with one that wants another module.
func TestPrograms(t *testing.T) {
	right, wrong := startBroker(t)
	for _, name := range clients {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), name)
			build := exec.Command("go", "build", "-o", program, "./"+name)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			out, err := run(program, right)
			if err != nil || !strings.Contains(out, "\nplant/"+name+" 21.5\n") || !strings.Contains(out, "SIMULATED") {
				t.Errorf("%v: %s", err, out)
			}
			out, err = run(program, wrong)
			if err == nil || strings.Contains(out, "21.5") || !strings.Contains(out, "is not one of the 1 accepted") {
				t.Errorf("with a bundle for another module: %v: %s", err, out)
			}
		})
	}
}

// startBroker starts a broker until the end of the test, and returns its bundle, and one for another module.
func startBroker(t *testing.T) (right, wrong string) {
	t.Helper()
	config, state, err := server.Development(server.DevelopmentOptions{
		Dir: t.TempDir(), Plain: "-", Attested: "127.0.0.1:0", Engine: server.Native, Now: time.Now(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	broker, err := server.Start(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Shutdown(context.Background()) })
	right, _, err = state.WriteBundle(broker, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := client.ReadBundle(right)
	if err != nil {
		t.Fatal(err)
	}
	identity := bundle.Policy.Identities()[0]
	identity.Modules = []attest.Digest{{1}}
	if bundle.Policy, err = policy.New([]policy.Identity{identity}, nil); err != nil {
		t.Fatal(err)
	}
	file, err := bundle.Sign(state.Owner.Key())
	if err != nil {
		t.Fatal(err)
	}
	wrong = filepath.Join(t.TempDir(), "wrong.bundle")
	if err := os.WriteFile(wrong, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return right, wrong
}

func run(program, bundle string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "-bundle", bundle, "-topic", "plant/"+filepath.Base(program), "-message", "21.5")
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
