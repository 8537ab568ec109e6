package testkit

import (
	"errors"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a test that may fail.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper() {}

func (f *failing) Fatal(...any) { f.failed = true; runtime.Goexit() }

func (f *failing) Fatalf(string, ...any) { f.Fatal() }

// fails says whether a test fails, and how long it takes.
func fails(test func(testing.TB)) (failed bool, took time.Duration) {
	f, began := &failing{}, time.Now()
	done := make(chan struct{})
	go func() { defer close(done); test(f) }()
	<-done
	return f.failed, time.Since(began)
}

// What comes is waited for; what does not come fails the test, when its patience is over.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(Patience / 2)
		later := make(chan int)
		go func() { time.Sleep(Patience / 2); later <- 1 }()
		for name, x := range map[string]struct {
			test  func(testing.TB)
			fails bool
		}{
			"what holds later": {func(t testing.TB) { Await(t, "it", func() bool { return time.Now().After(soon) }) }, false},
			"what never holds": {func(t testing.TB) { Await(t, "it", func() bool { return false }) }, true},
			"what comes later": {func(t testing.TB) { Receive(t, later) }, false},
			"what never comes": {func(t testing.TB) { Receive(t, make(chan int)) }, true},
			"no error":         {func(t testing.TB) { Must(1, nil)(t) }, false},
			"an error":         {func(t testing.TB) { Must(1, errors.New("x"))(t) }, true},
		} {
			failed, took := fails(x.test)
			if failed != x.fails || took > Patience+time.Second {
				t.Errorf("%s: fails: %v, after %v", name, failed, took)
			}
		}
	})
}

func TestNobody(t *testing.T) {
	if c, err := net.Dial("tcp", Nobody(t)); err == nil {
		c.Close()
		t.Error("somebody listens")
	}
}
