//go:build linux || darwin

package engine

import (
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// reservation is a linear memory whose whole address range is reserved when it is made. Pages take up memory
// when they are first written to. So the memory grows without being copied, views of it stay where they are,
// and Go's collector does not count it.
type reservation struct {
	all []byte
}

// reserve is an experimental.MemoryAllocatorFunc. Without address space it returns a memory that cannot hold
// anything; the instantiation then fails with the panic that newInstance turns into an error.
func reserve(_, max uint64) experimental.LinearMemory {
	all, err := unix.Mmap(-1, 0, int(max), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		panic(fmt.Errorf("reserve %d bytes of address space for the module: %w", max, err))
	}
	return &reservation{all}
}

// Reallocate returns the first size bytes of the reservation, nil if it is smaller.
func (r *reservation) Reallocate(size uint64) []byte {
	if size > uint64(len(r.all)) {
		return nil
	}
	return r.all[:size]
}

// Free gives the memory back to the system. Nothing may look at it afterwards.
func (r *reservation) Free() {
	if r.all != nil {
		_ = unix.Munmap(r.all) // fails only for a range that is not mapped
		r.all = nil
	}
}
