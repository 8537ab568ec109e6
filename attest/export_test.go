package attest

// TreeOf builds a batch tree as a Batcher does.
func TreeOf(leaves []Hash) (root Hash, proof func(i int) Proof) {
	t := newBatchTree(leaves)
	return t.root(), t.proof
}

// Waiting returns how many requests wait for the next quote.
func (b *Batcher) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// Working tells whether the goroutine is there.
func (b *Batcher) Working() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.working
}
