package transport

import (
	"container/list"
	"errors"
	"sync"
)

// handshakes is the queue of handshakes that are under way, the oldest first. A handshake of an honest client
// takes milliseconds; when there are too many, the oldest is one that somebody left half-open.
type handshakes struct {
	mu    sync.Mutex
	limit int
	queue list.List // of *conn
}

// errCrowdedOut ends the oldest handshake when there are too many.
var errCrowdedOut = errors.New("too many handshakes at a time")

// enter adds a handshake, at the cost of the oldest if there are too many. leave removes it.
func (h *handshakes) enter(c *conn) (leave func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.queue.Len() >= h.limit {
		oldest := h.queue.Remove(h.queue.Front()).(*conn)
		oldest.abort(errCrowdedOut)
	}
	entry := h.queue.PushBack(c)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.queue.Remove(entry) // does nothing if it was removed already
	}
}

func (h *handshakes) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queue.Len()
}
