package leaktest

import (
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// One that stays is found; one that ends, though later than goleak waits for it, is none.
func TestLeak(t *testing.T) {
	end := make(chan struct{})
	go func() { <-end }()
	if err := leak(0); err == nil || !strings.Contains(err.Error(), "TestLeak") {
		t.Errorf("a goroutine that stays: %v", err)
	}
	time.AfterFunc(time.Second, func() { close(end) })
	if err := leak(grace); err != nil {
		t.Errorf("a goroutine that ends: %v", err)
	}
}
