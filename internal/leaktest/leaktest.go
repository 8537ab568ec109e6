// Package leaktest fails the tests of a package that leave goroutines behind. It is for tests.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// grace is how long goroutines may take to end after the last test. Those that leak never do, and those that were told to end may have to wait
// for a processor: goleak alone would give them half a second.
const grace = 30 * time.Second

// Main is TestMain of a package that leaves no goroutines behind.
func Main(m *testing.M) {
	status := m.Run()
	if status == 0 {
		if err := leak(grace); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left after the tests:", err)
			status = 1
		}
	}
	os.Exit(status)
}

// leak looks for goroutines that are still there when the time within is over, and describes them.
func leak(within time.Duration) error {
	for deadline := time.Now().Add(within); ; {
		err := goleak.Find() // which itself tries for a while
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
