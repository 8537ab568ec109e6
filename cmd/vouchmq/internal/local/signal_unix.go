//go:build unix

package local

import "syscall"

// StatsSignal asks a broker for its statistics.
const StatsSignal = syscall.SIGUSR1
