package engine

import (
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// memory resolves the ranges that effects name: it implements Memory.
type memory struct {
	core   Core
	batch  []byte
	chunks [][]byte // views of chunks that were asked for since the batch was made
}

// reset forgets what was known of an earlier batch.
func (m *memory) reset(core Core, batch []byte) {
	m.core, m.batch = core, batch
	clear(m.chunks)
}

// maxChunks bounds the numbers of chunks that are believed. Chunks hold a megabyte or so.
const maxChunks = 1 << 16

// Range returns the bytes that r names. They must not be changed, nor looked at after the effects have been
// applied.
func (m *memory) Range(r abi.Ref) ([]byte, error) {
	space := m.batch
	if r.Space != 0 {
		chunk, err := m.chunk(r.Space-1, uint64(r.Offset)+uint64(r.Size))
		if err != nil {
			return nil, err
		}
		space = chunk
	}
	if uint64(r.Offset)+uint64(r.Size) > uint64(len(space)) {
		return nil, abi.Fault(fmt.Sprintf("range of %d bytes at %d reaches over the end of space %d", r.Size, r.Offset, r.Space))
	}
	return space[r.Offset : r.Offset+r.Size], nil
}

// chunk returns a chunk, from what was asked for before if that holds the first size bytes.
func (m *memory) chunk(i uint32, size uint64) ([]byte, error) {
	if uint64(i) < uint64(len(m.chunks)) && uint64(len(m.chunks[i])) >= max(size, 1) {
		return m.chunks[i], nil
	}
	if i >= maxChunks {
		return nil, abi.Fault(fmt.Sprintf("chunk %d is beyond all bounds", i))
	}
	chunk, err := m.core.Chunk(i)
	if err != nil {
		return nil, err
	}
	for uint64(len(m.chunks)) <= uint64(i) {
		m.chunks = append(m.chunks, nil)
	}
	m.chunks[i] = chunk
	return chunk, nil
}
