package demo

import (
	"bytes"
	"sync"
)

// broadcast keeps what a process prints, for others to look at while it runs.
type broadcast struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *broadcast) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *broadcast) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
