package server

import (
	"container/heap"
	"sync"
	"time"
)

// watch looks at connections when something of theirs is due. One timer serves all; it looks at the clock at least once a
// second while there is anything to wait for, so that a clock that jumps, or one in the hands of a test, is followed.
type watch struct {
	clock func() time.Time

	mu      sync.Mutex
	heap    dueHeap
	timer   *time.Timer
	stopped bool
}

// set says when to look at a connection; the zero time is never.
func (w *watch) set(x *standing, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(x)
	if at.IsZero() || w.stopped {
		return
	}
	x.at = at
	heap.Push(&w.heap, x)
	if w.heap[0] == x {
		w.wind()
	}
}

// remove ends the watch over a connection.
func (w *watch) remove(x *standing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(x)
}

func (w *watch) take(x *standing) {
	if x.place >= 0 {
		heap.Remove(&w.heap, x.place)
	}
}

// wind sets the timer for the first that is due. w.mu is held.
func (w *watch) wind() {
	if w.stopped || len(w.heap) == 0 {
		return
	}
	wait := max(min(w.heap[0].at.Sub(w.clock()), time.Second), 0)
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.ring)
		return
	}
	w.timer.Reset(wait)
}

// ring looks at all that are due.
func (w *watch) ring() {
	for _, x := range w.dueNow() {
		x.client.Review()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wind()
}

// dueNow returns those that are due. They are due again a second later, unless somebody says otherwise: one whose connection is not
// yet known to the core cannot be ended yet.
func (w *watch) dueNow() (list []*standing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock()
	for len(w.heap) > 0 && !now.Before(w.heap[0].at) {
		x := w.heap[0]
		x.at = now.Add(time.Second)
		heap.Fix(&w.heap, 0)
		list = append(list, x)
	}
	return list
}

// stop ends the watch.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// dueHeap has first what is due first. It implements heap.Interface.
type dueHeap []*standing

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *dueHeap) Push(x any) {
	s := x.(*standing)
	s.place = len(*h)
	*h = append(*h, s)
}

func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.place = -1
	return last
}
