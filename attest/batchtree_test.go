package attest_test

import (
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// seeded returns random numbers, and logs what they depend on.
func seeded(t *testing.T) *mathrand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return mathrand.New(mathrand.NewPCG(seed, 0))
}

// TestTreeComplete: the tree is that of the standard's definition, and each of its leaves has a proof.
func TestTreeComplete(t *testing.T) {
	random := seeded(t)
	sizes := []int{attest.MaxBatch - 1, attest.MaxBatch}
	for n := 1; n <= 130; n++ {
		sizes = append(sizes, n)
	}
	for range 10 {
		sizes = append(sizes, 1+random.IntN(attest.MaxBatch))
	}
	for _, n := range sizes {
		leaves := someLeaves(n)
		root, proof := attest.TreeOf(leaves)
		if root != tree(leaves) {
			t.Fatalf("the tree of %d leaves is another one", n)
		}
		for i := range n {
			p := proof(i)
			if n <= 130 && !slices.Equal(p.Path, path(leaves, i)) {
				t.Fatalf("leaf %d of %d has another path", i, n)
			}
			if got, err := p.Root(leaves[i]); err != nil || got != root || p.N != uint64(n) || p.I != uint64(i) {
				t.Fatalf("leaf %d of %d: %v", i, n, err)
			}
		}
	}
}

// forgery is a proof with the leaf that it is for, and what it must not lead to.
type forgery struct {
	proof attest.Proof
	leaf  attest.Hash
}

// accepted reports whether the proof leads to what was signed.
func (f forgery) accepted(signed attest.ReportData) bool {
	root, err := f.proof.Root(f.leaf)
	return err == nil && attest.ReportDataFor(attest.PurposeConnection, f.proof.N, root) == signed
}

// with returns a copy that was changed.
func (f forgery) with(change func(f *forgery)) forgery {
	f.proof.Path = slices.Clone(f.proof.Path)
	change(&f)
	return f
}

// TestMutatedProofs: whatever is changed of a proof, in every way that there is, it is refused.
func TestMutatedProofs(t *testing.T) {
	count := 0
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 11, 64, 65, 130, 1000, attest.MaxBatch} {
		leaves := someLeaves(n)
		root, proof := attest.TreeOf(leaves)
		signed := attest.ReportDataFor(attest.PurposeConnection, uint64(n), root)
		for _, i := range slices.Compact([]int{0, n / 2, n - 1}) {
			honest := forgery{proof(i), leaves[i]}
			if !honest.accepted(signed) {
				t.Fatalf("control: leaf %d of %d", i, n)
			}
			for name, all := range mutations(honest) {
				for k, f := range all {
					if count++; f.accepted(signed) {
						t.Errorf("leaf %d of %d: %s %d is accepted: %+v", i, n, name, k, f.proof)
					}
				}
			}
		}
	}
	t.Logf("%d mutated proofs", count)
}

// mutations returns everything that can be changed of a proof, by the name of the change.
func mutations(f forgery) map[string][]forgery {
	m := map[string][]forgery{}
	add := func(name string, change func(f *forgery)) { m[name] = append(m[name], f.with(change)) }
	for bit := range 8 * attest.HashSize {
		add("bit of the leaf", func(f *forgery) { f.leaf[bit/8] ^= 1 << (bit % 8) })
		for k := range f.proof.Path {
			add("bit of the path", func(f *forgery) { f.proof.Path[k][bit/8] ^= 1 << (bit % 8) })
		}
	}
	for other := range uint64(attest.MaxBatch + 2) {
		if other != f.proof.I {
			add("index", func(f *forgery) { f.proof.I = other })
		}
		if other != f.proof.N {
			add("size", func(f *forgery) { f.proof.N = other })
		}
	}
	for bit := range 64 {
		add("bit of the index", func(f *forgery) { f.proof.I ^= 1 << bit })
		add("bit of the size", func(f *forgery) { f.proof.N ^= 1 << bit })
	}
	for k := range f.proof.Path {
		add("missing hash", func(f *forgery) { f.proof.Path = slices.Delete(f.proof.Path, k, k+1) })
		add("repeated hash", func(f *forgery) { f.proof.Path = slices.Insert(f.proof.Path, k, f.proof.Path[k]) })
		add("leaf in the place of its sibling", func(f *forgery) { f.leaf, f.proof.Path[k] = f.proof.Path[k], f.leaf })
		for l := range k {
			add("swapped hashes", func(f *forgery) { f.proof.Path[k], f.proof.Path[l] = f.proof.Path[l], f.proof.Path[k] })
		}
	}
	for k := range len(f.proof.Path) + 1 {
		add("hash too many", func(f *forgery) { f.proof.Path = slices.Insert(f.proof.Path, k, attest.Hash{}) })
		add("leaf too many", func(f *forgery) { f.proof.Path = slices.Insert(f.proof.Path, k, f.leaf) })
	}
	addNodesAsLeaves(f, add)
	return m
}

// addNodesAsLeaves adds proofs that take a node above the leaf for a leaf, in the tree as it is and in one that is as
// much smaller.
func addNodesAsLeaves(f forgery, add func(name string, change func(f *forgery))) {
	node, i, last := f.leaf, f.proof.I, f.proof.N-1
	for k, sibling := range f.proof.Path {
		for i&1 == 0 && i == last { // it has no sibling and moves up as it is
			i, last = i/2, last/2
		}
		if i&1 == 0 {
			node = attest.NodeHash(node, sibling)
		} else {
			node = attest.NodeHash(sibling, node)
		}
		i, last = i/2, last/2
		at, size, leaf := i, last+1, node
		rest := func(f *forgery) { f.leaf, f.proof.Path = leaf, f.proof.Path[k+1:] }
		add("node as a leaf", rest)
		add("node as a leaf, its index", func(f *forgery) { rest(f); f.proof.I = at })
		add("node as a leaf, its tree", func(f *forgery) { rest(f); f.proof.I, f.proof.N = at, size })
	}
}

// TestMutatedProofsAtRandom changes several things at a time, in trees of any size.
func TestMutatedProofsAtRandom(t *testing.T) {
	random := seeded(t)
	for range 40 {
		n := 1 + random.IntN(attest.MaxBatch)
		leaves := someLeaves(n)
		root, proof := attest.TreeOf(leaves)
		signed := attest.ReportDataFor(attest.PurposeConnection, uint64(n), root)
		for range 250 {
			i := random.IntN(n)
			honest := forgery{proof(i), leaves[i]}
			mutated := honest
			for range 1 + random.IntN(3) {
				mutated = mutated.with(func(f *forgery) { mutate(f, random) })
			}
			same := mutated.leaf == honest.leaf && mutated.proof.I == honest.proof.I && mutated.proof.N == honest.proof.N &&
				slices.Equal(mutated.proof.Path, honest.proof.Path)
			if mutated.accepted(signed) != same {
				t.Fatalf("leaf %d of %d: accepted is %v of %+v", i, n, !same, mutated.proof)
			}
		}
	}
}

func mutate(f *forgery, random *mathrand.Rand) {
	flip := func(h *attest.Hash) { h[random.IntN(len(h))] ^= 1 << random.IntN(8) }
	size := len(f.proof.Path)
	switch kind := random.IntN(7); {
	case kind == 0:
		flip(&f.leaf)
	case kind == 1:
		f.proof.I = random.Uint64N(attest.MaxBatch + 2)
	case kind == 2:
		f.proof.N = random.Uint64N(attest.MaxBatch + 2)
	case kind == 3:
		f.proof.Path = slices.Insert(f.proof.Path, random.IntN(size+1), f.leaf)
	case size == 0:
		f.proof.I ^= 1 << random.IntN(64)
	case kind == 4:
		flip(&f.proof.Path[random.IntN(size)])
	case kind == 5:
		k := random.IntN(size)
		f.proof.Path = slices.Delete(f.proof.Path, k, k+1)
	case kind == 6:
		k, l := random.IntN(size), random.IntN(size)
		f.proof.Path[k], f.proof.Path[l] = f.proof.Path[l], f.proof.Path[k]
	}
}
