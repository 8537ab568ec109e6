package broker

import (
	"encoding/binary"
	"slices"
)

// pageBits is how many elements a page of a slab has, as a power of two.
const pageBits = 8

const pageSize = 1 << pageBits

// slab keeps elements of one type in pages that never move, and gives each a number from 1 on. Elements are
// used again after they have been freed. T must have no pointers, so that the garbage collector has nothing to
// look at.
type slab[T any] struct {
	pages   [][]T
	free    []uint32 // numbers of freed elements; has room for all
	gone    []uint32 // pages that trim has given back; blank stands in for each
	blank   []T      // a page of zero elements, for those who look at all numbers
	next    uint32   // the number that was never used
	live    uint32
	element uint32 // bytes of one, see sizeOf; 0 is not known yet
}

// alloc returns the number of an element that is all zero.
func (s *slab[T]) alloc() (uint32, *T) {
	s.live++
	if len(s.free) == 0 && len(s.gone) > 0 {
		s.revive()
	}
	if n := len(s.free); n > 0 {
		id := s.free[n-1]
		s.free = s.free[:n-1]
		return id, s.at(id)
	}
	if s.next == 0 {
		s.next = 1 // number 0 is nobody
	}
	id := s.next
	if int(id>>pageBits) == len(s.pages) {
		s.pages = append(s.pages, make([]T, pageSize))
		s.reserve()
	}
	s.next++
	return id, s.at(id)
}

// at returns the element with a number that alloc gave.
func (s *slab[T]) at(id uint32) *T { return &s.pages[id>>pageBits][id&(pageSize-1)] }

// release frees an element. It is all zero from now on.
func (s *slab[T]) release(id uint32) {
	var zero T
	*s.at(id) = zero
	s.live--
	s.free = append(s.free, id)
}

// reserve makes the list of free numbers large enough for all, so that to free something takes no memory.
func (s *slab[T]) reserve() {
	if n := s.held() * pageSize; cap(s.free) < n {
		s.free = append(make([]uint32, 0, max(n, 2*cap(s.free))), s.free...)
	}
}

// held returns how many pages there are.
func (s *slab[T]) held() int { return len(s.pages) - len(s.gone) }

// size returns how many bytes the slab takes.
func (s *slab[T]) size() uint64 {
	pages := uint64(s.held())
	if s.blank != nil {
		pages++
	}
	return pages*s.pageBytes() + 4*uint64(cap(s.free)+cap(s.gone)) + sliceBytes*uint64(cap(s.pages))
}

func (s *slab[T]) pageBytes() uint64 {
	if s.element == 0 {
		s.element = sizeOf[T]()
	}
	return pageSize * uint64(s.element)
}

// room says whether the next element takes no more memory.
func (s *slab[T]) room() bool {
	return len(s.free) > 0 || len(s.gone) == 0 && s.next&(pageSize-1) != 0
}

// growth returns how many bytes more the next element takes: none, or a page.
func (s *slab[T]) growth() uint64 {
	if s.room() {
		return 0
	}
	need := s.pageBytes()
	if n := (s.held() + 1) * pageSize; cap(s.free) < n {
		need += 4 * uint64(max(n, 2*cap(s.free))-cap(s.free))
	}
	return need
}

// trim gives back the pages on which nothing lives. Their numbers are used again later.
func (s *slab[T]) trim() {
	if len(s.free) < pageSize {
		return
	}
	free := make([]uint16, len(s.pages))
	for _, id := range s.free {
		free[id>>pageBits]++
	}
	before := len(s.gone)
	for page, n := range free {
		if n == pageSize {
			s.giveBack(uint32(page))
		}
	}
	if len(s.gone) == before {
		return
	}
	s.free = slices.DeleteFunc(s.free, func(id uint32) bool { return free[id>>pageBits] == pageSize })
	s.free = append(make([]uint32, 0, s.held()*pageSize), s.free...)
}

func (s *slab[T]) giveBack(page uint32) {
	if s.blank == nil {
		s.blank = make([]T, pageSize)
	}
	s.pages[page] = s.blank
	s.gone = append(s.gone, page)
}

// revive makes a page anew that trim has given back.
func (s *slab[T]) revive() {
	page := s.gone[len(s.gone)-1]
	s.gone = s.gone[:len(s.gone)-1]
	s.pages[page] = make([]T, pageSize)
	s.reserve()
	for id := (page+1)<<pageBits - 1; id>>pageBits == page; id-- {
		s.free = append(s.free, id)
	}
}

// sliceBytes is what a slice takes besides its elements.
const sliceBytes = 24

// sizeOf returns about how many bytes a T takes, which must have no pointers and no int.
func sizeOf[T any]() uint32 {
	var zero T
	return uint32(binary.Size(&zero)+7) &^ 7
}
