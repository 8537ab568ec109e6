//go:build !(linux || darwin)

package engine

import "github.com/tetratelabs/wazero/experimental"

// reservation is a linear memory of which the whole capacity is allocated at once, so that views of it stay
// where they are.
type reservation struct {
	all []byte
}

func reserve(_, max uint64) experimental.LinearMemory { return &reservation{make([]byte, max)} }

// Reallocate returns the first size bytes, nil if there are fewer.
func (r *reservation) Reallocate(size uint64) []byte {
	if size > uint64(len(r.all)) {
		return nil
	}
	return r.all[:size]
}

// Free lets the collector have the memory.
func (r *reservation) Free() { r.all = nil }
