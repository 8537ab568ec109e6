//go:build !unix

package local

import "syscall"

// StatsSignal asks a broker for its statistics. There is no such signal here: nobody can send it.
const StatsSignal = syscall.Signal(-1)
