package broker

// index is a hash table from hashes to numbers of elements of a slab, each of which is in it at most once. It does not
// know keys; whoever looks something up compares the element that a number stands for with what it looks for:
//
//	for id := ix.first(hash); id != 0; id = ix.next(id, hash) {
//		if matches(id) { ... }
//	}
//
// Elements whose hashes fall into one bucket form a chain. An element brings a bucket or more with it, and the chain that has
// belonged there since is shared out (linear hashing, Litwin 1980): a million elements or ten, to add one moves only a
// few. Buckets and links lie in pages that stay where they are, so that growing leaves nothing to the collector.
//
// Where numbers are small, buckets and links hold a part of the hash of the element that they name, its tag. Then
// firstLike and nextLike find elements without a look at their links, which most often are not in the cache.
type index struct {
	tags    uint32                // bits of a bucket, and of next, that are the tag; set before the first insert
	spread  uint32                // there are 1<<spread buckets for each element, so that most chains have one; set with tags
	buckets []*[bucketPage]uint32 // the first element of each
	links   []*[pageSize]link     // by the number of the element
	used    []uint16              // how many links of each page are
	held    uint32                // pages of links
	count   uint32                // buckets in use
	mask    uint32                // the smallest 1<<k - 1 that all their numbers fit into
	live    uint32
	moved   uint32 // elements that were moved so far, for tests
}

// link is an element's place in its chain.
type link struct {
	hash uint32
	next uint32 // with its tag; 0 is the end
}

// bucketPage is how many buckets a page has.
const (
	bucketBits = 9
	bucketPage = 1 << bucketBits
)

// first returns the first element with a hash, 0 if there is none.
func (ix *index) first(hash uint32) uint32 {
	if ix.live == 0 {
		return 0
	}
	return ix.scan(*ix.bucket(ix.bucketOf(hash)), hash)
}

// next returns the next element behind id with the same hash.
func (ix *index) next(id, hash uint32) uint32 { return ix.scan(ix.link(id).next, hash) }

func (ix *index) scan(id, hash uint32) uint32 {
	for id != 0 {
		l := ix.link(id)
		if l.hash == hash {
			return id
		}
		id = l.next
	}
	return 0
}

// firstLike returns the first element with a tag like that of a hash, 0 if there is none. Its hash may be another.
func (ix *index) firstLike(hash uint32) uint32 {
	if ix.live != 0 {
		at := *ix.bucket(ix.bucketOf(hash))
		if (at^hash)&ix.tags == 0 {
			return at &^ ix.tags
		}
		return ix.scanTags(at, hash)
	}
	return 0
}

// nextLike returns the next element behind id with such a tag.
func (ix *index) nextLike(id, hash uint32) uint32 { return ix.scanTags(ix.link(id).next, hash) }

func (ix *index) scanTags(at, hash uint32) uint32 {
	for at != 0 && (at^hash)&ix.tags != 0 {
		at = ix.link(at &^ ix.tags).next
	}
	return at &^ ix.tags
}

// bucketOf returns the number of the bucket of a hash: buckets that do not exist yet are still part of another.
func (ix *index) bucketOf(hash uint32) uint32 {
	b := hash & ix.mask
	missing := (ix.count - 1 - b) >> 31 // 1 if it does not exist, without a jump that nobody can foresee
	return b & (ix.mask >> missing)
}

func (ix *index) bucket(b uint32) *uint32 { return &ix.buckets[b>>bucketBits][b&(bucketPage-1)] }

func (ix *index) link(id uint32) *link { return &ix.links[id>>pageBits][id&(pageSize-1)] }

// insert adds an element.
func (ix *index) insert(hash, id uint32) {
	for ix.live++; ix.live<<ix.spread > ix.count; {
		ix.grow()
	}
	page := id >> pageBits
	for page >= uint32(len(ix.links)) {
		ix.links, ix.used = append(ix.links, nil), append(ix.used, 0)
	}
	if ix.links[page] == nil {
		ix.links[page] = new([pageSize]link)
		ix.held++
	}
	ix.used[page]++
	first := ix.bucket(ix.bucketOf(hash))
	*ix.link(id) = link{hash, *first}
	*first = id | hash&ix.tags
}

// grow adds a bucket, and gives it what it shares with another so far.
func (ix *index) grow() {
	b := ix.count
	if b>>bucketBits == uint32(len(ix.buckets)) {
		ix.buckets = append(ix.buckets, new([bucketPage]uint32))
	}
	if b > ix.mask {
		ix.mask = 2*ix.mask + 1
	}
	ix.count++
	if b == 0 {
		return
	}
	to, from := ix.bucket(b), ix.bucket(b&(ix.mask>>1))
	at := *from
	*from = 0
	for at != 0 {
		l, place := ix.link(at&^ix.tags), from
		if l.hash&ix.mask == b {
			place = to
		}
		next := l.next
		l.next, *place = *place, at
		at = next
		ix.moved++
	}
}

// remove takes out the element with that hash and number.
func (ix *index) remove(hash, id uint32) {
	if ix.live == 0 {
		return
	}
	for at := ix.bucket(ix.bucketOf(hash)); *at != 0; at = &ix.link(*at &^ ix.tags).next {
		if *at&^ix.tags == id {
			*at = ix.link(id).next
			ix.used[id>>pageBits]--
			ix.live--
			return
		}
	}
}

// hashOf returns the hash of an element that is in the index.
func (ix *index) hashOf(id uint32) uint32 { return ix.link(id).hash }

// size returns how many bytes the index takes.
func (ix *index) size() uint64 {
	return 4*bucketPage*uint64(len(ix.buckets)) + linkSize*pageSize*uint64(ix.held) +
		pointerBytes*uint64(cap(ix.buckets)+cap(ix.links)) + 2*uint64(cap(ix.used))
}

const linkSize = 8

// growth returns about how many bytes more the next element takes: those whose slab needs no other page need none here.
func (ix *index) growth() (need uint64) {
	if ix.live >= ix.count && ix.count>>bucketBits == uint32(len(ix.buckets)) {
		need = 4 * bucketPage
	}
	if ix.live+2 >= ix.held*pageSize { // number 0 is nobody, and the root has no name
		need += linkSize * pageSize
	}
	return need
}

// trimBuckets is how many buckets trim takes away at most, so that a step does not become long.
const trimBuckets = 1 << 15

// trim makes the index smaller if it is nearly empty.
func (ix *index) trim() {
	for i, n := range ix.used {
		if n == 0 && ix.links[i] != nil {
			ix.links[i] = nil
			ix.held--
		}
	}
	for n := 0; n < trimBuckets && ix.count > bucketPage && ix.live*4 < ix.count; n++ {
		ix.shrink()
	}
	for last := len(ix.buckets) - 1; last >= 0 && uint32(last)<<bucketBits >= ix.count; last-- {
		ix.buckets[last] = nil
		ix.buckets = ix.buckets[:last]
	}
}

// shrink takes the last bucket away: grow the other way round.
func (ix *index) shrink() {
	ix.count--
	from := ix.bucket(ix.count)
	to := ix.bucket(ix.count & (ix.mask >> 1))
	for *to != 0 {
		to = &ix.link(*to &^ ix.tags).next
	}
	*to, *from = *from, 0
	if ix.count <= ix.mask>>1+1 {
		ix.mask >>= 1
	}
}
