package broker

import (
	"encoding/binary"
	"math/bits"
)

// chunkSize is the size of the chunks that the store cuts blocks from. Larger blocks get a chunk of their own.
const chunkSize = 256 << 10

const (
	minBlock   = 32
	maxBlock   = chunkSize / 2
	numClasses = 25 // sizes 32, 48, 64, 96, 128 ... 131072: two for each power of two, see classOf
)

// block is a range of bytes in the store. The zero block has no bytes.
type block struct {
	chunk uint32 // number of the chunk, from 1
	at    uint32 // offset in it
	size  uint32 // bytes in use
}

// store keeps bytes of any length outside the garbage collector's sight: names, topics, payloads. Freed
// blocks are used again for blocks of the same size class.
type store struct {
	chunks [][]byte
	spare  []uint32             // numbers of chunks that were freed whole
	free   [numClasses]freeList // blocks to use again
	top    uint32               // chunk that new blocks are cut from
	used   uint32               // bytes of it that have been cut off
	live   uint64               // bytes in blocks, rounded up to their classes
}

// freeList is a chain of freed blocks; each holds the place of the next in its first eight bytes.
type freeList struct{ chunk, at uint32 }

// classOf returns the class of blocks that size bytes fit into, and their size.
func classOf(size uint32) (class int, rounded uint32) {
	if size <= minBlock {
		return 0, minBlock
	}
	exponent := bits.Len32(size - 1) // size fits into 1<<exponent
	class = 2 * (exponent - bits.Len32(minBlock-1))
	if half := uint32(3) << (exponent - 2); size <= half {
		return class - 1, half
	}
	return class, 1 << exponent
}

// alloc returns a block of size bytes, the content of which is undefined.
func (s *store) alloc(size uint32) block {
	if size == 0 {
		return block{}
	}
	if size > maxBlock {
		return s.allocWhole(size)
	}
	class, rounded := classOf(size)
	s.live += uint64(rounded)
	if l := s.free[class]; l.chunk != 0 {
		b := s.chunks[l.chunk-1][l.at:]
		s.free[class] = freeList{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
		return block{l.chunk, l.at, size}
	}
	if s.top == 0 || s.used+rounded > chunkSize {
		s.top, s.used = s.newChunk(chunkSize), 0
	}
	b := block{s.top, s.used, size}
	s.used += rounded
	return b
}

// allocWhole gives a block a chunk of its own.
func (s *store) allocWhole(size uint32) block {
	s.live += uint64(size)
	return block{s.newChunk(size), 0, size}
}

func (s *store) newChunk(size uint32) uint32 {
	memory := make([]byte, size)
	if n := len(s.spare); n > 0 {
		id := s.spare[n-1]
		s.spare = s.spare[:n-1]
		s.chunks[id-1] = memory
		return id
	}
	s.chunks = append(s.chunks, memory)
	return uint32(len(s.chunks))
}

// release frees a block.
func (s *store) release(b block) {
	if b.size == 0 {
		return
	}
	if b.size > maxBlock {
		s.live -= uint64(b.size)
		s.chunks[b.chunk-1] = nil
		s.spare = append(s.spare, b.chunk)
		return
	}
	class, rounded := classOf(b.size)
	s.live -= uint64(rounded)
	p := s.chunks[b.chunk-1][b.at:]
	binary.LittleEndian.PutUint32(p, s.free[class].chunk)
	binary.LittleEndian.PutUint32(p[4:], s.free[class].at)
	s.free[class] = freeList{b.chunk, b.at}
}

// bytes returns the bytes of a block.
func (s *store) bytes(b block) []byte {
	if b.size == 0 {
		return nil
	}
	return s.chunks[b.chunk-1][b.at : b.at+b.size : b.at+b.size]
}

// keep returns a block with a copy of p.
func (s *store) keep(p []byte) block {
	b := s.alloc(uint32(len(p)))
	copy(s.bytes(b), p)
	return b
}
