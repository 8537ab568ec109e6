package transport

import "sync"

// Sizes of buffers.
const (
	smallBuffer = 4 << 10  // what an idle connection reads into
	runBuffer   = 64 << 10 // what a busy one does
	numClasses  = 8        // 4 KiB to 512 KiB; larger ones are left to the collector
)

// buffer is memory that goes from hand to hand without being allocated anew.
type buffer struct {
	b []byte
}

// pools keeps buffers by their capacity, smallBuffer<<i. It holds memory and no state, so all transports
// share it.
var pools [numClasses]sync.Pool

// getBuffer returns an empty buffer with room for size bytes.
func getBuffer(size int) *buffer {
	for i := range pools {
		if size > smallBuffer<<i {
			continue
		}
		if b, ok := pools[i].Get().(*buffer); ok {
			return b
		}
		return &buffer{make([]byte, 0, smallBuffer<<i)}
	}
	return &buffer{make([]byte, 0, size+size/4)}
}

// putBuffer gives a buffer back. Nothing may look at it afterwards.
func putBuffer(b *buffer) {
	for i := range pools {
		if cap(b.b) == smallBuffer<<i {
			b.b = b.b[:0]
			pools[i].Put(b)
			return
		}
	}
}

// grow returns b if it has room for more bytes, otherwise a larger buffer with the content of b, which it
// gives back.
func (b *buffer) grow(more int) *buffer {
	if cap(b.b)-len(b.b) >= more {
		return b
	}
	larger := getBuffer(max(len(b.b)+more, 2*cap(b.b)))
	larger.b = append(larger.b, b.b...)
	putBuffer(b)
	return larger
}
