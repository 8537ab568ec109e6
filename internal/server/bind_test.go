package server_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/server"
)

// measurer is a TEE that a module may not be measured by.
type measurer struct {
	attest.Attester
	t *testing.T
}

func (m measurer) Measure(context.Context, attest.Digest) error {
	m.t.Error("the module has been measured, for nothing")
	return nil
}

// An address that is taken is found before all else: the module is not even looked at, and nothing is measured. All that was opened is closed again.
func TestStartWhereAnAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	for name, test := range map[string]struct {
		change func(*server.Config)
		says   string
	}{
		"listener": {func(c *server.Config) { c.Listeners[1].Address = taken.Addr().String() }, "listener attested: "},
		"metrics":  {func(c *server.Config) { c.Sight.Metrics.Address = taken.Addr().String() }, "metrics: "},
	} {
		t.Run(name, func(t *testing.T) {
			config, _, err := server.Development(server.DevelopmentOptions{
				Dir: t.TempDir(), Plain: address, Attested: "127.0.0.1:0", Engine: server.Wasm, Module: []byte("no module"), Now: time.Now(),
			})
			if err != nil {
				t.Fatal(err)
			}
			config.Attester = measurer{config.Attester, t}
			test.change(&config)
			_, err = server.Start(t.Context(), config)
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("%v, want %s", err, test.says)
			}
			again, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatalf("a listener that was opened is still open: %v", err)
			}
			again.Close()
		})
	}
	s, err := admin.Open(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	config, _, err := server.Development(server.DevelopmentOptions{
		Dir: t.TempDir(), Plain: address, Attested: "127.0.0.1:0", Engine: server.Wasm, Module: []byte("no module"), Now: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
	config.Sight.Admin.Socket = socket
	if _, err := server.Start(t.Context(), config); !errors.Is(err, admin.ErrSocketInUse) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// With all of them free it is the module that is wrong, and the socket is removed.
	if _, err := server.Start(t.Context(), config); err == nil || !strings.Contains(err.Error(), "broker module") {
		t.Error(err)
	}
	if again, err := admin.Open(t.Context(), socket); err != nil {
		t.Error(err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}
