package broker

// pageBits is how many elements a page of a slab has, as a power of two.
const pageBits = 8

const pageSize = 1 << pageBits

// slab keeps elements of one type in pages that never move, and gives each a number from 1 on. Elements are
// used again after they have been freed. T must have no pointers, so that the garbage collector has nothing to
// look at.
type slab[T any] struct {
	pages [][]T
	free  []uint32 // numbers of freed elements
	next  uint32   // the number that was never used
	live  uint32
}

// alloc returns the number of an element that is all zero.
func (s *slab[T]) alloc() (uint32, *T) {
	s.live++
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
