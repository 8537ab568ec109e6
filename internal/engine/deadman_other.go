//go:build !linux

package engine

import "time"

// deadman does nothing here: only the watchdog's goroutine sees a step that hangs.
type deadman struct{}

func armDeadman(time.Duration) *deadman { return &deadman{} }

func (*deadman) rearm(time.Duration) {}

func (*deadman) disarm() {}
