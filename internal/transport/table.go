package transport

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// A connection's number: its slot in the table, from 1, and above it the generation of the slot.
const (
	maxSlot        = 1<<abi.SlotBits - 1
	maxGenerations = 1 << (32 - abi.SlotBits)
)

// table finds connections by their number. Lookups take no lock.
type table struct {
	slots atomic.Pointer[[]slot]

	mu      sync.Mutex
	limit   int
	free    []uint32 // slots that may be used again
	last    uint32   // last slot that has been used ever
	ages    []uint32 // generations of the slots
	used    int
	waiting []chan struct{} // closed when the table is empty
	past    Figures         // of connections that have ended
	gone    []departed      // who was the last to leave each slot
}

// departed is a connection that has ended, whose end the core has yet to tell of.
type departed struct {
	id  abi.Conn
	log *slog.Logger
}

type slot = *atomic.Pointer[conn]

func (t *table) init(limit int) {
	t.limit = limit
	slots := make([]slot, 1) // there is no slot 0
	t.slots.Store(&slots)
}

// lookup returns the connection of a number, nil if it is gone.
func lookup(slots []slot, id abi.Conn) *conn {
	i := id.Slot()
	if uint64(i) >= uint64(len(slots)) {
		return nil
	}
	if c := slots[i].Load(); c != nil && c.id == id {
		return c
	}
	return nil
}

// add gives c a number and a slot. It returns false if the table is full.
func (t *table) add(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= t.limit {
		return false
	}
	i, ok := t.place()
	if !ok {
		return false
	}
	t.ages[i] = (t.ages[i] + 1) % maxGenerations
	c.id = abi.Conn(t.ages[i]<<abi.SlotBits | i)
	(*t.slots.Load())[i].Store(c)
	t.used++
	return true
}

// place finds a free slot, in a larger table if need be.
func (t *table) place() (uint32, bool) {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i, true
	}
	if t.last == maxSlot {
		return 0, false
	}
	t.last++
	if slots := *t.slots.Load(); int(t.last) == len(slots) {
		t.grow(slots)
	}
	return t.last, true
}

func (t *table) grow(slots []slot) {
	larger := make([]slot, max(64, 2*len(slots)))
	copy(larger, slots)
	for i := range larger {
		if larger[i] == nil {
			larger[i] = new(atomic.Pointer[conn])
		}
	}
	t.slots.Store(&larger)
	t.ages = append(t.ages, make([]uint32, len(larger)-len(t.ages))...)
	t.gone = append(t.gone, make([]departed, len(larger)-len(t.gone))...)
}

// remove frees the slot of c, once.
func (t *table) remove(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.mu.Lock()
	t.past.add(c.total())
	c.mu.Unlock()
	i := c.id.Slot()
	(*t.slots.Load())[i].Store(nil)
	t.gone[i] = departed{c.id, c.log}
	t.free = append(t.free, i)
	if t.used--; t.used == 0 {
		t.announceEmpty()
	}
}

// farewell returns the log of a connection that has ended, once; nil if its slot has been left again since.
func (t *table) farewell(id abi.Conn) *slog.Logger {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := id.Slot()
	if uint64(i) >= uint64(len(t.gone)) || t.gone[i].id != id {
		return nil
	}
	log := t.gone[i].log
	t.gone[i] = departed{}
	return log
}

func (t *table) announceEmpty() {
	for _, w := range t.waiting {
		close(w)
	}
	t.waiting = nil
}

// whenEmpty returns a channel that is closed once the table is empty.
func (t *table) whenEmpty() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := make(chan struct{})
	t.waiting = append(t.waiting, w)
	if t.used == 0 {
		t.announceEmpty()
	}
	return w
}

func (t *table) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// all returns the connections that exist.
func (t *table) all() []*conn {
	var list []*conn
	for _, s := range (*t.slots.Load())[1:] {
		if c := s.Load(); c != nil {
			list = append(list, c)
		}
	}
	return list
}
