package systemd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/server/systemd"
)

// child says that this test is run as the program that systemd starts.
const child = "SYSTEMD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		os.Exit(passedSockets())
	}
	leaktest.Main(m)
}

// passedSockets takes over the sockets and greets whoever connects to the one named mqtt.
func passedSockets() int {
	if os.Getenv("LISTEN_PID") == "" { // a parent that emulates systemd cannot know it before
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	sockets, err := systemd.Sockets()
	if err != nil || len(sockets["mqtt"]) != 1 {
		os.Stderr.WriteString("no socket named mqtt\n")
		return 1
	}
	conn, err := sockets["mqtt"][0].Accept()
	if err != nil {
		return 1
	}
	io.WriteString(conn, "hello")
	conn.Close()
	return 0
}

// Sockets that a parent has opened are found by their name.
func TestSocketsArePassed(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(os.Args[0])
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(os.Environ(), child+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=mqtt")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if b, err := io.ReadAll(conn); string(b) != "hello" {
		t.Errorf("got %q, error %v", b, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNoSocketsWithoutSystemd(t *testing.T) {
	if sockets, err := systemd.Sockets(); err != nil || len(sockets) != 0 {
		t.Fatalf("sockets %v, error %v", sockets, err)
	}
}

// manager is a service manager that writes down what it is told.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// told returns the next message.
func told(t *testing.T, conn *net.UnixConn, within time.Duration) string {
	t.Helper()
	b := make([]byte, 4096)
	conn.SetReadDeadline(time.Now().Add(within))
	n, err := conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestManagerIsTold(t *testing.T) {
	conn := manager(t)
	n := systemd.Notifier{Log: slog.New(slog.DiscardHandler)}
	n.Ready()
	n.Reloading()
	n.Stopping()
	n.Status("x")
	if s := told(t, conn, time.Minute); s != "READY=1" {
		t.Errorf("told %q", s)
	}
	microseconds, ok := strings.CutPrefix(told(t, conn, time.Minute), "RELOADING=1\nMONOTONIC_USEC=")
	if n, err := strconv.ParseUint(strings.TrimSpace(microseconds), 10, 64); !ok || err != nil || n == 0 {
		t.Errorf("reloading at %q", microseconds)
	}
	if s := told(t, conn, time.Minute); s != "STOPPING=1" {
		t.Errorf("told %q", s)
	}
	if s := told(t, conn, time.Minute); s != "STATUS=x" {
		t.Errorf("told %q", s)
	}
}

// The watchdog is fed while the core answers, and only then.
func TestWatchdog(t *testing.T) {
	conn := manager(t)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(context.Background())
	answers := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		systemd.Notifier{Log: slog.New(slog.DiscardHandler)}.Watch(ctx, func(context.Context) error { return <-answers })
	}()
	for range 3 {
		answers <- nil
		if s := told(t, conn, time.Minute); s != "WATCHDOG=1" {
			t.Fatalf("told %q", s)
		}
	}
	answers <- errors.New("it hangs")
	answers <- errors.New("it hangs")
	if s := told(t, conn, 200*time.Millisecond); s != "" {
		t.Errorf("told %q, though the core hangs", s)
	}
	cancel()
	close(answers)
	<-done
}

// Without a service manager nothing happens, and nothing waits.
func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := systemd.Notifier{Log: slog.New(slog.DiscardHandler)}
	n.Ready()
	n.Watch(context.Background(), nil)
}
