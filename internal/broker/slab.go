package broker

import (
	"encoding/binary"
	"math/bits"
)

// pageBits is how many elements a page of a slab has, as a power of two.
const pageBits = 8

const pageSize = 1 << pageBits

// slab keeps elements of one type in pages that never move, and gives each a number from 1 on. Elements are
// used again after they have been freed. T must have no pointers, so that the garbage collector has nothing to
// look at.
type slab[T any] struct {
	pages   []*[pageSize]T
	vacant  []vacancy    // of each page
	roomy   uint32       // the first page with a free element, and 1; 0 is none
	gone    []uint32     // pages that trim has given back; blank stands in for each
	blank   *[pageSize]T // zero elements, for those who look at all numbers
	next    uint32       // all numbers from here on were never used
	live    uint32
	element uint32 // bytes of one, see sizeOf; 0 is not known yet
}

// vacancy says which elements of a page are free.
type vacancy struct {
	free  [pageSize / 64]uint64 // a bit for each
	count uint32
	next  uint32 // page with a free element, as in roomy
}

// alloc returns the number of an element that is all zero.
func (s *slab[T]) alloc() (uint32, *T) {
	if s.roomy == 0 {
		s.addPage()
	}
	s.live++
	page := s.roomy - 1
	v := &s.vacant[page]
	word := 0
	for v.free[word] == 0 {
		word++
	}
	i := uint32(word*64 + bits.TrailingZeros64(v.free[word]))
	v.free[word] &= v.free[word] - 1
	if v.count--; v.count == 0 {
		s.roomy = v.next
	}
	id := page<<pageBits | i
	s.next = max(s.next, id+1)
	return id, &s.pages[page][i]
}

// addPage adds a page of free elements, one that trim has given back if there is one.
func (s *slab[T]) addPage() {
	page := uint32(len(s.pages))
	if n := len(s.gone); n > 0 {
		page = s.gone[n-1]
		s.gone = s.gone[:n-1]
		s.pages[page] = new([pageSize]T)
	} else {
		s.pages, s.vacant = append(s.pages, new([pageSize]T)), append(s.vacant, vacancy{})
	}
	v := &s.vacant[page]
	v.count, v.next = s.whole(page), s.roomy
	for i := range v.free {
		v.free[i] = ^uint64(0)
	}
	if page == 0 {
		v.free[0] &^= 1
	}
	s.roomy = page + 1
}

// whole returns how many elements a page has: number 0 is nobody.
func (s *slab[T]) whole(page uint32) uint32 {
	if page == 0 {
		return pageSize - 1
	}
	return pageSize
}

// at returns the element with a number that alloc gave.
func (s *slab[T]) at(id uint32) *T { return &s.pages[id>>pageBits][id&(pageSize-1)] }

// release frees an element. It is all zero from now on.
func (s *slab[T]) release(id uint32) {
	var zero T
	*s.at(id) = zero
	s.live--
	v := &s.vacant[id>>pageBits]
	v.free[id>>6%(pageSize/64)] |= 1 << (id % 64)
	if v.count++; v.count == 1 {
		v.next, s.roomy = s.roomy, id>>pageBits+1
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
	return pages*s.pageBytes() + vacancySize*uint64(cap(s.vacant)) + pointerBytes*uint64(cap(s.pages)) + 4*uint64(cap(s.gone))
}

// Sizes of what is in no slab; a test compares what they add up to with what is there.
const (
	vacancySize  = 40
	pointerBytes = 8
	sliceBytes   = 24 // of a slice besides its elements
)

func (s *slab[T]) pageBytes() uint64 {
	if s.element == 0 {
		s.element = sizeOf[T]()
	}
	return pageSize * uint64(s.element)
}

// room says whether the next element takes no more memory.
func (s *slab[T]) room() bool { return s.roomy != 0 }

// growth returns how many bytes more the next element takes: none, or a page.
func (s *slab[T]) growth() uint64 {
	if s.room() {
		return 0
	}
	return s.pageBytes() + vacancySize
}

// trim gives back the pages on which nothing lives. Their numbers are used again later.
func (s *slab[T]) trim() {
	place := &s.roomy
	for *place != 0 {
		page := *place - 1
		v := &s.vacant[page]
		if v.count < s.whole(page) {
			place = &v.next
			continue
		}
		*place = v.next
		*v = vacancy{}
		s.giveBack(page)
	}
}

func (s *slab[T]) giveBack(page uint32) {
	if s.blank == nil {
		s.blank = new([pageSize]T)
	}
	s.pages[page] = s.blank
	s.gone = append(s.gone, page)
}

// sizeOf returns about how many bytes a T takes, which must have no pointers and no int.
func sizeOf[T any]() uint32 {
	var zero T
	return uint32(binary.Size(&zero)+7) &^ 7
}
