package attest

// batchTree is the Merkle tree over the claims-sets of one batch, in the shape of RFC 9162, section 2.1.1. It is
// immutable.
type batchTree struct {
	levels [][]Hash // the leaves first, the root last; a node without sibling moves up as it is
}

// newBatchTree builds the tree of 1 to MaxBatch leaves, which it keeps. Pairing nodes from the left, level by level,
// gives the same tree as the standard's definition, which splits at the largest power of two.
func newBatchTree(leaves []Hash) batchTree {
	t := batchTree{levels: [][]Hash{leaves}}
	for level := leaves; len(level) > 1; {
		above := make([]Hash, 0, (len(level)+1)/2)
		for ; len(level) > 1; level = level[2:] {
			above = append(above, NodeHash(level[0], level[1]))
		}
		above = append(above, level...)
		t.levels = append(t.levels, above)
		level = above
	}
	return t
}

func (t batchTree) root() Hash { return t.levels[len(t.levels)-1][0] }

// proof returns the proof of leaf i: the siblings of the nodes from the leaf upward (RFC 9162, section 2.1.3.1).
func (t batchTree) proof(i int) Proof {
	p := Proof{N: uint64(len(t.levels[0])), I: uint64(i)}
	for _, level := range t.levels[:len(t.levels)-1] {
		if sibling := i ^ 1; sibling < len(level) {
			p.Path = append(p.Path, level[sibling])
		}
		i /= 2
	}
	return p
}
