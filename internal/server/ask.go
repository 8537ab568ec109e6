package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// errShutDown says that there is no core to ask any more.
var errShutDown = errors.New("the broker has been shut down")

// Ask asks the core for what it holds, or for a change, see package abi. Nothing of the answer aliases memory of the
// core. If the core fails meanwhile there is no answer, and ctx ends the wait.
func (s *Server) Ask(ctx context.Context, q abi.Question) (abi.Answer, error) {
	return s.questions.ask(ctx, q, func(number uint32, data []byte) bool {
		return s.engine.PostNow(abi.EventAsk, 0, 0, number, data)
	})
}

// questions are those to the core that wait for their answer.
type questions struct {
	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan<- abi.Answer // each has room for one
}

func (w *questions) ask(ctx context.Context, q abi.Question, post func(number uint32, data []byte) bool) (abi.Answer, error) {
	number, answer := w.enter()
	defer w.leave(number)
	if !post(number, abi.AppendQuestion(nil, &q)) {
		return abi.Answer{}, errShutDown
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return abi.Answer{}, fmt.Errorf("question to the broker core: %w", context.Cause(ctx))
	}
}

// enter gives a question its number.
func (w *questions) enter() (uint32, <-chan abi.Answer) {
	answer := make(chan abi.Answer, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[uint32]chan<- abi.Answer{}
	}
	w.last++
	for w.waiting[w.last] != nil { // after 4,294,967,296 questions
		w.last++
	}
	w.waiting[w.last] = answer
	return w.last, answer
}

func (w *questions) leave(number uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, number)
}

// answer hands an answer to whoever waits for it; nobody may do so any more. data belongs to the core: it is copied. The
// engine's goroutine calls it.
func (w *questions) answer(number uint32, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting := w.waiting[number]
	if waiting == nil {
		return
	}
	var a abi.Answer
	if err := abi.ReadAnswer(append([]byte(nil), data...), &a); err != nil {
		return // whoever waits does so until its time is up
	}
	delete(w.waiting, number)
	waiting <- a
}
