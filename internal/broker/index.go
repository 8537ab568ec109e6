package broker

// index is a hash table from hashes to numbers of elements: open addressing with linear probing. It does
// not know keys; whoever looks something up compares the element that a number stands for with what it looks
// for:
//
//	for i := ix.first(hash); i != none; i = ix.next(i, hash) {
//		if id := ix.ids[i]; matches(id) { ... }
//	}
type index struct {
	hashes []uint32
	ids    []uint32 // 0 is an empty place
	mask   uint32
	live   uint32
}

// none is what first and next return when there is nothing more.
const none = ^uint32(0)

const minIndex = 64

// first returns the first place whose hash is the one given.
func (ix *index) first(hash uint32) uint32 {
	if ix.live == 0 {
		return none
	}
	return ix.scan(hash&ix.mask, hash)
}

// next returns the next place after i whose hash is the one given.
func (ix *index) next(i, hash uint32) uint32 { return ix.scan((i+1)&ix.mask, hash) }

func (ix *index) scan(i, hash uint32) uint32 {
	for ix.ids[i] != 0 {
		if ix.hashes[i] == hash {
			return i
		}
		i = (i + 1) & ix.mask
	}
	return none
}

// insert adds an element.
func (ix *index) insert(hash, id uint32) {
	if (ix.live+1)*4 > uint32(len(ix.ids))*3 {
		ix.grow()
	}
	ix.place(hash, id)
	ix.live++
}

func (ix *index) place(hash, id uint32) {
	i := hash & ix.mask
	for ix.ids[i] != 0 {
		i = (i + 1) & ix.mask
	}
	ix.hashes[i], ix.ids[i] = hash, id
}

func (ix *index) grow() { ix.resize(uint32(max(minIndex, 2*len(ix.ids)))) }

// resize makes the index one of n places, a power of two.
func (ix *index) resize(n uint32) {
	hashes, ids := ix.hashes, ix.ids
	ix.hashes, ix.ids, ix.mask = make([]uint32, n), make([]uint32, n), n-1
	for i, id := range ids {
		if id != 0 {
			ix.place(hashes[i], id)
		}
	}
}

// remove takes out the element with that hash and number.
func (ix *index) remove(hash, id uint32) {
	for i := ix.first(hash); i != none; i = ix.next(i, hash) {
		if ix.ids[i] == id {
			ix.vacate(i)
			ix.live--
			return
		}
	}
}

// vacate empties place i and moves back the elements behind it that would no longer be found.
func (ix *index) vacate(i uint32) {
	for j := (i + 1) & ix.mask; ix.ids[j] != 0; j = (j + 1) & ix.mask {
		home := ix.hashes[j] & ix.mask
		if (j-home)&ix.mask >= (j-i)&ix.mask {
			ix.hashes[i], ix.ids[i] = ix.hashes[j], ix.ids[j]
			i = j
		}
	}
	ix.ids[i] = 0
}

// size returns how many bytes the index takes.
func (ix *index) size() uint64 { return 4 * uint64(cap(ix.hashes)+cap(ix.ids)) }

// growth returns how many bytes more the next element takes.
func (ix *index) growth() uint64 {
	if (ix.live+1)*4 <= uint32(len(ix.ids))*3 {
		return 0
	}
	return 8 * uint64(max(minIndex, len(ix.ids)))
}

// trim makes the index smaller if it is nearly empty.
func (ix *index) trim() {
	n := uint32(len(ix.ids))
	for n > minIndex && ix.live*4 < n {
		n /= 2
	}
	if n < uint32(len(ix.ids)) {
		ix.resize(n)
	}
}
