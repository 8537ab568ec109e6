package broker

// timerKind says what a timer is for.
type timerKind uint8

const (
	timerConnection timerKind = iota // CONNECT overdue, or keep-alive
	timerSession                     // will due, or session expired
	timerRetained                    // a retained message has expired; the id is that of its node
)

// timer is a time at which to look at something.
type timer struct {
	at   int64 // milliseconds
	id   uint32
	pos  uint32 // place in the heap, from 1; 0 is not set
	kind timerKind
}

// timers is a binary heap of timers by time. Each timer knows its place, so that it can be moved: no timer
// that is no longer wanted stays.
type timers struct {
	all  slab[timer]
	heap []uint32 // place 0 is not used
}

// next returns the earliest time, or 0 if no timer is set.
func (t *timers) next() int64 {
	if len(t.heap) < 2 {
		return 0
	}
	return t.all.at(t.heap[1]).at
}

// due takes out a timer whose time has come.
func (t *timers) due(now int64) (kind timerKind, id uint32, ok bool) {
	if len(t.heap) < 2 {
		return 0, 0, false
	}
	first := t.all.at(t.heap[1])
	if first.at > now {
		return 0, 0, false
	}
	t.unset(t.heap[1])
	return first.kind, first.id, true
}

// create makes a timer that is not set.
func (t *timers) create(kind timerKind, id uint32) uint32 {
	n, timer := t.all.alloc()
	timer.kind, timer.id = kind, id
	return n
}

// remove unsets and frees a timer.
func (t *timers) remove(n uint32) {
	t.unset(n)
	t.all.release(n)
}

// set sets a timer to a time, whether it was set before or not.
func (t *timers) set(n uint32, at int64) {
	timer := t.all.at(n)
	timer.at = at
	if timer.pos == 0 {
		if len(t.heap) == 0 {
			t.heap = append(t.heap, 0)
		}
		t.heap = append(t.heap, n)
		timer.pos = uint32(len(t.heap) - 1)
	}
	t.down(t.up(timer.pos))
}

// unset stops a timer.
func (t *timers) unset(n uint32) {
	timer := t.all.at(n)
	pos := timer.pos
	if pos == 0 {
		return
	}
	timer.pos = 0
	last := uint32(len(t.heap) - 1)
	moved := t.heap[last]
	t.heap = t.heap[:last]
	if pos != last {
		t.put(pos, moved)
		t.down(t.up(pos))
	}
}

func (t *timers) put(pos, n uint32) {
	t.heap[pos] = n
	t.all.at(n).pos = pos
}

func (t *timers) up(pos uint32) uint32 {
	n := t.heap[pos]
	at := t.all.at(n).at
	for pos > 1 && t.all.at(t.heap[pos/2]).at > at {
		t.put(pos, t.heap[pos/2])
		pos /= 2
	}
	t.put(pos, n)
	return pos
}

func (t *timers) down(pos uint32) {
	n := t.heap[pos]
	at := t.all.at(n).at
	for {
		child := 2 * pos
		if child >= uint32(len(t.heap)) {
			break
		}
		if child+1 < uint32(len(t.heap)) && t.all.at(t.heap[child+1]).at < t.all.at(t.heap[child]).at {
			child++
		}
		if t.all.at(t.heap[child]).at >= at {
			break
		}
		t.put(pos, t.heap[child])
		pos = child
	}
	t.put(pos, n)
}

// size returns how many bytes the timers take.
func (t *timers) size() uint64 { return t.all.size() + 4*uint64(cap(t.heap)) }

// growth returns how many bytes more the next timer takes.
func (t *timers) growth() uint64 {
	need := t.all.growth()
	if len(t.heap) == cap(t.heap) {
		need += 4 * uint64(max(len(t.heap), pageSize))
	}
	return need
}

// trim gives back what no timer takes.
func (t *timers) trim() {
	t.all.trim()
	if cap(t.heap) > 4*len(t.heap)+pageSize {
		t.heap = append(make([]uint32, 0, 2*len(t.heap)), t.heap...)
	}
}
