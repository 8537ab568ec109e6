//go:build !linux

package bench

import "time"

// sleepUntil sleeps until t, as exactly as the system's timers are.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
