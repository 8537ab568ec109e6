package pubsub

import "sync"

// ending is why a connection ended: the first reason that becomes known.
type ending struct {
	mu    sync.Mutex
	err   error
	known chan struct{} // closed once there is a reason
}

func newEnding() *ending { return &ending{known: make(chan struct{})} }

func (e *ending) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
		close(e.known)
	}
}

// get returns the reason, nil if there is none yet.
func (e *ending) get() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}
