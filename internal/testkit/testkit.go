// Package testkit is what tests of many packages have in common: to wait for things, to expect no error, to keep a log. It is for tests.
package testkit

import (
	"bytes"
	"net"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come: longer than the slowest machine needs.
const Patience = time.Minute

// Must gives a value that came with no error: Must(f())(t).
func Must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Await waits until a condition holds.
func Await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// Receive waits for a value, or for the channel to be closed.
func Receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// Nobody is an address at which nobody listens, nor will until the test ends: it is that of the near end of a connection.
func Nobody(t testing.TB) string {
	t.Helper()
	l := Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { l.Close() })
	c := Must(net.Dial("tcp", l.Addr().String()))(t)
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// Buffer keeps what several goroutines write, for a log.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is all that has been written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
