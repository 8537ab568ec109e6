//go:build !linux

package engine

import "time"

// processorTime is known on Linux only.
func processorTime() time.Duration { return 0 }
