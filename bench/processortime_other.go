//go:build !linux

package bench

import "time"

func processorTime(pid int) (time.Duration, error) { return processorTimeOfStat(pid) }
