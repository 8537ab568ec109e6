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
	cut    []uint32             // how many bytes of each chunk have been cut off; 0 if it is one block
	freed  []uint32             // how many of these are free
	spare  []uint32             // numbers of chunks that were freed whole
	leave  []uint32             // those that become spare with the next batch: the host knows where they were
	free   [numClasses]freeList // blocks to use again
	top    uint32               // chunk that new blocks are cut from
	live   uint64               // bytes in blocks, rounded up to their classes
	held   uint64               // bytes of all chunks
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
		s.freed[l.chunk-1] -= rounded
		return block{l.chunk, l.at, size}
	}
	if !s.topHas(rounded) {
		s.top = s.newChunk(chunkSize)
	}
	used := &s.cut[s.top-1]
	b := block{s.top, *used, size}
	*used += rounded
	return b
}

// allocWhole gives a block a chunk of its own.
func (s *store) allocWhole(size uint32) block {
	s.live += uint64(size)
	return block{s.newChunk(size), 0, size}
}

// topHas says whether size bytes can still be cut from the top chunk.
func (s *store) topHas(size uint32) bool { return s.top != 0 && s.cut[s.top-1]+size <= chunkSize }

func (s *store) newChunk(size uint32) uint32 {
	memory := make([]byte, size)
	s.held += uint64(size)
	if n := len(s.spare); n > 0 {
		id := s.spare[n-1]
		s.spare = s.spare[:n-1]
		s.chunks[id-1] = memory
		return id
	}
	s.chunks = append(s.chunks, memory)
	s.cut, s.freed = append(s.cut, 0), append(s.freed, 0)
	return uint32(len(s.chunks))
}

// release frees a block.
func (s *store) release(b block) {
	if b.size == 0 {
		return
	}
	if b.size > maxBlock {
		s.live -= uint64(b.size)
		s.dropChunk(b.chunk)
		return
	}
	class, rounded := classOf(b.size)
	s.live -= uint64(rounded)
	p := s.chunks[b.chunk-1][b.at:]
	binary.LittleEndian.PutUint32(p, s.free[class].chunk)
	binary.LittleEndian.PutUint32(p[4:], s.free[class].at)
	s.free[class] = freeList{b.chunk, b.at}
	s.freed[b.chunk-1] += rounded
}

// dropChunk gives back a chunk in which nothing is. Its number is used again only after the host has made a new batch:
// until then it remembers where the chunk was.
func (s *store) dropChunk(chunk uint32) {
	s.held -= uint64(len(s.chunks[chunk-1]))
	s.chunks[chunk-1], s.cut[chunk-1], s.freed[chunk-1] = nil, 0, 0
	s.leave = append(s.leave, chunk)
}

// newBatch says that the host knows of no chunk any more.
func (s *store) newBatch() {
	s.spare = append(s.spare, s.leave...)
	s.leave = s.leave[:0]
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

// size returns how many bytes the store takes.
func (s *store) size() uint64 {
	return s.held + sliceBytes*uint64(cap(s.chunks)) + 4*uint64(cap(s.cut)+cap(s.freed)+cap(s.spare)+cap(s.leave))
}

// growth returns how many bytes more a block of size bytes takes: none, or a chunk.
func (s *store) growth(size int) uint64 {
	if size == 0 {
		return 0
	}
	if size > maxBlock {
		return uint64(size)
	}
	if class, rounded := classOf(uint32(size)); s.free[class].chunk != 0 || s.topHas(rounded) {
		return 0
	}
	return chunkSize
}

// trim gives back the chunks in which nothing is, if that are most bytes or more: all free blocks must be looked at.
func (s *store) trim(most uint64) {
	var empty uint64
	for i := range s.chunks {
		if s.empty(uint32(i + 1)) {
			empty += chunkSize
		}
	}
	if empty == 0 || empty < most {
		return
	}
	for class := range s.free {
		s.unlistEmpty(&s.free[class])
	}
	for i := range s.chunks {
		if s.empty(uint32(i + 1)) {
			s.dropChunk(uint32(i + 1))
		}
	}
}

// empty says whether nothing is in a chunk from which blocks have been cut.
func (s *store) empty(chunk uint32) bool {
	return chunk != s.top && s.cut[chunk-1] != 0 && s.cut[chunk-1] == s.freed[chunk-1]
}

// unlistEmpty takes the blocks in empty chunks out of a list of free blocks.
func (s *store) unlistEmpty(list *freeList) {
	rest := *list
	*list = freeList{}
	for rest.chunk != 0 {
		here := rest
		b := s.chunks[here.chunk-1][here.at:]
		rest = freeList{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}
		if s.empty(here.chunk) {
			continue
		}
		binary.LittleEndian.PutUint32(b, list.chunk)
		binary.LittleEndian.PutUint32(b[4:], list.at)
		*list = here
	}
}
