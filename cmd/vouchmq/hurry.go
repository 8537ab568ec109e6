package main

import (
	"context"
	"sync"
)

// hurry is what must be done even if a second signal ends the process at once.
type hurry struct {
	mu   sync.Mutex
	next int
	todo map[int]func()
}

type hurryKey struct{}

// withHurry returns a context for what may register, and how to do all that is registered.
func withHurry(ctx context.Context) (context.Context, func()) {
	h := &hurry{todo: map[int]func(){}}
	return context.WithValue(ctx, hurryKey{}, h), h.do
}

// onHurry has f called before a second signal ends the process, in which nothing that is deferred runs. The function that it returns
// takes that back.
func onHurry(ctx context.Context, f func()) (back func()) {
	h, ok := ctx.Value(hurryKey{}).(*hurry)
	if !ok {
		return func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	number := h.next
	h.next++
	h.todo[number] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.todo, number)
	}
}

func (h *hurry) do() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.todo {
		f()
	}
}
