package transport

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
)

// handshakes are those that are under way, the oldest first. A handshake of an honest client takes milliseconds; when
// there are too many, the oldest is one that somebody left half-open. An address that has too many, as one that floods
// the broker does, loses its own: nobody else's makes way for it.
type handshakes struct {
	mu         sync.Mutex
	limit      int
	perAddress int
	queue      list.List // of *handshake
	byAddress  map[netip.Addr]*list.List
}

// handshake is one that is under way. It belongs to handshakes.
type handshake struct {
	conn      *conn
	inQueue   *list.Element
	address   netip.Addr    // what it counts for, see prefixOf
	inAddress *list.Element // nil if it counts for no address
}

// errCrowdedOut ends the oldest handshake when there are too many.
var errCrowdedOut = errors.New("too many handshakes at a time")

// enter adds a handshake, at the cost of the oldest if there are too many.
func (h *handshakes) enter(c *conn) *handshake {
	s := &handshake{conn: c}
	h.mu.Lock()
	oldest := h.oldest(&h.queue, h.limit)
	s.inQueue = h.queue.PushBack(s)
	h.mu.Unlock()
	if oldest != nil {
		c.entrance.crowdOut(oldest)
	}
	return s
}

// count counts a handshake for an address, at the cost of the oldest of that address if it has too many. A Unix socket
// has none.
func (h *handshakes) count(s *handshake, address netip.Addr) {
	if !address.IsValid() {
		return
	}
	address = prefixOf(address)
	h.mu.Lock()
	own := h.byAddress[address]
	if own == nil {
		own = list.New()
		h.byAddress[address] = own
	}
	oldest := h.oldest(own, h.perAddress)
	h.byAddress[address] = own // also if that left it empty
	if s.inQueue != nil {      // otherwise it has ended meanwhile
		s.address, s.inAddress = address, own.PushBack(s)
	}
	h.tidy(address)
	h.mu.Unlock()
	if oldest != nil {
		s.conn.entrance.crowdOutOfAddress(oldest)
	}
}

// oldest takes out the oldest of a list that has no room for one more, nil if it has. h.mu is held.
func (h *handshakes) oldest(from *list.List, limit int) *conn {
	if from.Len() < limit {
		return nil
	}
	s := from.Front().Value.(*handshake)
	h.remove(s)
	return s.conn
}

// leave removes a handshake, if it is still there.
func (h *handshakes) leave(s *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(s)
}

// remove is leave while h.mu is held.
func (h *handshakes) remove(s *handshake) {
	if s.inQueue == nil {
		return
	}
	h.queue.Remove(s.inQueue)
	s.inQueue = nil
	if s.inAddress != nil {
		h.byAddress[s.address].Remove(s.inAddress)
		h.tidy(s.address)
		s.inAddress = nil
	}
}

// tidy forgets an address that has no handshakes. h.mu is held.
func (h *handshakes) tidy(address netip.Addr) {
	if own := h.byAddress[address]; own != nil && own.Len() == 0 {
		delete(h.byAddress, address)
	}
}

// size returns how many handshakes are under way.
func (h *handshakes) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queue.Len()
}

func (h *handshakes) setLimits(limit, perAddress int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit, h.perAddress = limit, perAddress
}
