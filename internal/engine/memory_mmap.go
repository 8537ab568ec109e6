//go:build linux || darwin

package engine

import (
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// reservation is a linear memory whose whole address range is reserved when it is made. Pages take up memory
// when they are first written to, or a little earlier, see ahead. So the memory grows without being copied,
// views of it stay where they are, and Go's collector does not count it.
type reservation struct {
	all  []byte
	size atomic.Uint64 // of the module's memory
	grew chan struct{} // has one element after size has grown; closed by Free
	done chan struct{} // closed when prepare has returned
}

// ahead is how many bytes beyond the end of the module's memory are made resident before it grows into them.
const ahead = 2 << 20

// reserve is an experimental.MemoryAllocatorFunc. Without address space it returns a memory that cannot hold
// anything; the instantiation then fails with the panic that newInstance turns into an error.
func reserve(_, max uint64) experimental.LinearMemory {
	all, err := unix.Mmap(-1, 0, int(max), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		panic(fmt.Errorf("reserve %d bytes of address space for the module: %w", max, err))
	}
	r := &reservation{all: all, grew: make(chan struct{}, 1), done: make(chan struct{})}
	go r.prepare()
	return r
}

// Reallocate returns the first size bytes of the reservation, nil if it is smaller.
func (r *reservation) Reallocate(size uint64) []byte {
	if size > uint64(len(r.all)) {
		return nil
	}
	r.size.Store(size)
	select {
	case r.grew <- struct{}{}:
	default: // prepare has not looked since
	}
	return r.all[:size]
}

// prepare makes what lies ahead of the module's memory resident whenever that has grown. A step that writes to a fresh page
// would wait until the system has given it one: some 10 µs on a virtual machine, where its host has to find one too and may take
// milliseconds, and longer on a confidential one, where the hardware has to accept it.
func (r *reservation) prepare() {
	defer close(r.done)
	var ready uint64
	for range r.grew {
		size := r.size.Load()
		end := min(size+ahead, uint64(len(r.all)))
		for ready = max(ready, size); ready < end; {
			next := min(ready+populated, end)
			if populate(r.all[ready:next]) != nil {
				break // the step will wait
			}
			ready = next
		}
	}
}

// populated is how many bytes are made resident at a time.
const populated = 256 << 10

// Free gives the memory back to the system. Nothing may look at it afterwards.
func (r *reservation) Free() {
	if r.all == nil {
		return
	}
	close(r.grew)
	<-r.done
	_ = unix.Munmap(r.all) // fails only for a range that is not mapped
	r.all = nil
}
