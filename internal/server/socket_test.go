package server_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/server"
)

func tcpSocket(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startPassed starts a broker with a plain listener whose socket was open before.
func startPassed(t *testing.T, insecure bool, passed map[string][]net.Listener) (*server.Server, error) {
	t.Helper()
	config, _, err := server.Development(server.DevelopmentOptions{Dir: t.TempDir(), Attested: "127.0.0.1:0", Engine: server.Native})
	if err != nil {
		t.Fatal(err)
	}
	config.Listeners[0].Address, config.Listeners[0].Insecure = "systemd:mqtt", insecure
	config.Sockets = server.NewSockets(passed)
	s, err := server.Start(context.Background(), config)
	if err == nil {
		t.Cleanup(func() {
			if err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	if left := config.Sockets.Close(); len(left) != len(passed)-1 {
		t.Errorf("sockets left: %v", left)
	}
	return s, err
}

func TestSocketOfSystemd(t *testing.T) {
	socket, spare := tcpSocket(t, "127.0.0.1:0"), tcpSocket(t, "127.0.0.1:0")
	s, err := startPassed(t, false, map[string][]net.Listener{"mqtt": {socket}, "spare": {spare}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Addr("plain").String() != socket.Addr().String() {
		t.Fatalf("listens on %s", s.Addr("plain"))
	}
	conn, err := net.Dial("tcp", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello(t, conn, "through systemd")
	if c, err := net.Dial("tcp", spare.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("a socket that nobody named is still open")
	}
}

// Where a passed socket can be reached from is known only once it is there.
func TestPlainSocketOfSystemdBeyondThisMachine(t *testing.T) {
	if _, err := startPassed(t, false, map[string][]net.Listener{"mqtt": {tcpSocket(t, "0.0.0.0:0")}}); err == nil || !strings.Contains(err.Error(), "insecure: true") {
		t.Errorf("error %v", err)
	}
	if _, err := startPassed(t, true, map[string][]net.Listener{"mqtt": {tcpSocket(t, "0.0.0.0:0")}}); err != nil {
		t.Error(err)
	}
}

func TestUnixSocketThatWasLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	config, _, err := server.Development(server.DevelopmentOptions{Dir: t.TempDir(), Attested: "127.0.0.1:0", Engine: server.Native})
	if err != nil {
		t.Fatal(err)
	}
	config.Listeners[0].Address, config.Listeners[0].Mode = "unix:"+path, 0o600
	start := func() (*server.Server, error) { return server.Start(context.Background(), config) }
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := start(); err == nil || !strings.Contains(err.Error(), "somebody listens on") {
		_ = s.Shutdown(context.Background())
		t.Fatalf("in place of one that is in use: error %v", err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is now %q, error %v", b, err)
	}
}

// What would only be warned of at a start is a problem for who asks.
func TestCheckFindsWhatIsOutOfDate(t *testing.T) {
	r := startKept(t, server.Native, nil)
	s, err := readSettings(filepath.Join(r.dir, "vouchmq.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(now time.Time) string {
		return server.Check(s, server.Opening{Now: now, Dir: r.dir}).Error()
	}
	if text := check(time.Now()); text != "" {
		t.Errorf("of a good file: %s", text)
	}
	later := check(time.Now().Add(2 * time.Hour))
	for _, want := range []string{"vouchmq.yaml:12:25: listeners[1].tls.certificate", "expired on", "client_certificates.crl[0]: revocation list", "out of date"} {
		if !strings.Contains(later, want) {
			t.Errorf("two hours later %q is missing in\n%s", want, later)
		}
	}
	certificate, _, _ := r.pki.server(time.Hour)
	r.pki.write("server.pem", certificate)
	r.write("policy.yaml", "version: 2")
	if text := check(time.Now()); !strings.Contains(text, "private key does not match") || !strings.Contains(text, "policy.yaml:1:") {
		t.Errorf("of half a pair and another policy:\n%s", text)
	}
}
