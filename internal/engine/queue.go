package engine

import (
	"sync"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// queue gathers events from many goroutines for the one that runs the core. Events lie in it one after the
// other as they will lie in a batch.
type queue struct {
	mu      sync.Mutex
	room    sync.Cond     // signalled to one waiter at a time, in the order of their coming
	wake    chan struct{} // holds a token if there may be events that the taker has not seen
	events  []byte
	limit   int
	waiting int
	epoch   uint32 // numbers the cores: a connection belongs to the one that was told of it
	closed  bool
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit, wake: make(chan struct{}, 1), epoch: 1}
	q.room.L = &q.mu
	return q
}

// open adds the event that announces a connection, and returns the epoch that it belongs to.
func (q *queue) open(conn abi.Conn, peer []byte) (uint32, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, false
	}
	q.append(abi.EventOpen, conn, 0, peer)
	return q.epoch, true
}

// put adds an event, even if the queue is full. It reports whether the event is of use to anybody: not after
// close, and not if it is of a connection of an epoch that has ended.
func (q *queue) put(kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.takes(conn, epoch) {
		return false
	}
	q.append(kind, conn, arg, data)
	return true
}

// putWaiting is put, but waits while the queue is full.
func (q *queue) putWaiting(kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) bool {
	size := abi.EventHeaderSize + len(data)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed && (q.waiting > 0 || q.full(size)) {
		q.wait(size)
	}
	if !q.takes(conn, epoch) {
		q.passOn()
		return false
	}
	q.append(kind, conn, arg, data)
	q.passOn()
	return true
}

// pass is put by whoever runs the core. If nothing else waits, the event does not enter the queue: it is returned, in buffer.
func (q *queue) pass(buffer []byte, kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) (events []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.takes(conn, epoch):
		return nil, false
	case len(q.events) > 0:
		q.append(kind, conn, arg, data)
		return nil, true
	}
	return abi.AppendEvent(buffer[:0], kind, conn, arg, data), true
}

// wait waits for its turn and for room.
func (q *queue) wait(size int) {
	q.waiting++
	q.room.Wait()
	for q.full(size) && !q.closed {
		q.room.Wait()
	}
	q.waiting--
}

// full says whether an event must wait. An event that is larger than the limit gets in alone.
func (q *queue) full(size int) bool {
	return len(q.events) > 0 && len(q.events)+size > q.limit
}

// passOn lets the next waiter look. Waking all would cost as many switches as there are connections.
func (q *queue) passOn() {
	if q.waiting > 0 && (len(q.events) < q.limit || q.closed) {
		q.room.Signal()
	}
}

func (q *queue) takes(conn abi.Conn, epoch uint32) bool {
	return !q.closed && (conn == 0 || epoch == q.epoch)
}

func (q *queue) append(kind abi.EventKind, conn abi.Conn, arg uint32, data []byte) {
	if len(q.events) == 0 {
		q.awaken()
	}
	q.events = abi.AppendEvent(q.events, kind, conn, arg, data)
}

// awaken leaves a token for the taker.
func (q *queue) awaken() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns all events and gives the queue another buffer to fill, whose content is lost.
func (q *queue) take(buffer []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = buffer[:0]
	q.passOn()
	return events
}

// nextEpoch drops all events, and from now on those of connections that were opened before.
func (q *queue) nextEpoch() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = q.events[:0]
	q.epoch++
	q.passOn()
}

// close lets nothing more in and releases those who wait.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.room.Broadcast()
	q.awaken()
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// size says how many bytes of events wait.
func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events)
}
