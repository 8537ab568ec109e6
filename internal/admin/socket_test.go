package admin

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketIsPrivateAndRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := Listen(t.Context(), path, Options{Broker: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if _, err := Listen(t.Context(), path, Options{Broker: newFake()}); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("a second broker: %v", err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, error %v", left, err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	for _, name := range []string{"s", "s" + beforeRename} { // of a broker that was killed, and of one killed at its start
		path := filepath.Join(t.TempDir(), "s")
		stale, err := net.Listen("unix", filepath.Join(filepath.Dir(path), name))
		if err != nil {
			t.Fatal(err)
		}
		stale.(*net.UnixListener).SetUnlinkOnClose(false)
		stale.Close()
		s, err := Listen(t.Context(), path, Options{Broker: newFake()})
		if err != nil {
			t.Fatal(err)
		}
		c := NewClient(path)
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsNoSocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("important"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path, Options{Broker: newFake()}); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("error %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "important" {
		t.Errorf("%q, error %v", text, err)
	}
}

func TestTheSocketOfAnotherBrokerIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Listen(t.Context(), path, Options{Broker: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(t.Context(), path, Options{Broker: newFake()})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the second broker's socket: %v", err)
	}
	if err := second.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestLongPathsAreRefused(t *testing.T) {
	_, err := Listen(t.Context(), "/"+strings.Repeat("x", 110), Options{Broker: newFake()})
	if err == nil || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("error %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "s"), "/" + strings.Repeat("x", 200)} {
		if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNoBroker) {
			t.Errorf("error %v", err)
		}
	}
}

func TestOnlyTheOwnUserAndRootAreLetIn(t *testing.T) {
	for _, c := range []struct {
		uid, own uint32
		want     bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {0, 0, true}} {
		if allowed(c.uid, c.own) != c.want {
			t.Errorf("user %d at a broker of user %d", c.uid, c.own)
		}
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	if _, err := peerUID(ours); err == nil {
		t.Error("who is on the other side of a pipe is not known")
	}
}
