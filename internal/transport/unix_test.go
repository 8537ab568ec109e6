package transport

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnixSocket(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	socket, err := ListenUnix(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Listen(socket, ListenConfig{Name: "local", Rates: Rates{MaxPerAddress: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Fatalf("%v, %v", info, err)
	}
	for range 2 { // nothing tells its clients apart, so no limit of addresses binds them
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		write(t, c, []byte{0xC0, 0})
		expect(t, c, 2)
	}
	if p := b.onlyPeer(t); p.Address != "unix" || p.Listener != "local" {
		t.Fatalf("the core was told of %+v", p)
	}
	if _, err := ListenUnix(path, 0o600); err == nil || !strings.Contains(err.Error(), "listens there already") {
		t.Fatalf("a second listener: %v", err)
	}
	if l.Addr().String() != path {
		t.Fatalf("address %v", l.Addr())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Fatalf("left over: %v", left)
	}
}

func TestUnixSocketThatIsStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	// What took its place is left alone.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}

func TestUnixSocketWhereSomethingElseIs(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(folder, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, folder, filepath.Join(folder, "none", "s"), filepath.Join(folder, strings.Repeat("x", 200))} {
		if l, err := ListenUnix(path, 0o600); err == nil {
			_ = l.Close()
			t.Errorf("listens at %s", path)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Fatalf("%q, %v", b, err)
	}
}
