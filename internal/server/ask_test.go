package server

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// answerTo makes the answer of a core, whose buffer it uses again.
func answerTo(buffer []byte, id string) []byte {
	b := abi.BeginAnswer(buffer[:0], abi.AskSession)
	b = abi.AppendSessionRecord(b, &abi.SessionRecord{ClientID: id})
	abi.EndAnswer(b, 0, 0, 1)
	return b
}

func TestAnswersReachWhoAsked(t *testing.T) {
	var w questions
	var group sync.WaitGroup
	type posted struct {
		number uint32
		text   string
	}
	core := make(chan posted, 10)
	for _, id := range []string{"a", "b", "c"} {
		group.Go(func() {
			a, err := w.ask(t.Context(), abi.Question{Kind: abi.AskSession, Text: id}, func(number uint32, data []byte) bool {
				var q abi.Question
				if err := abi.ReadQuestion(data, &q); err != nil {
					t.Error(err)
				}
				core <- posted{number, q.Text}
				return true
			})
			if err != nil {
				t.Error(err)
				return
			}
			sessions, err := a.Sessions()
			if err != nil || len(sessions) != 1 || sessions[0].ClientID != id {
				t.Errorf("who asked for %s got %+v, error %v", id, sessions, err)
			}
		})
	}
	all := []posted{<-core, <-core, <-core}
	buffer := make([]byte, 0, 256)
	for i := range all {
		p := all[len(all)-1-i]
		buffer = answerTo(buffer, p.text)
		w.answer(p.number, buffer)
		w.answer(p.number, buffer) // a second one is for nobody
		clear(buffer)              // as the core's memory is used again
	}
	w.answer(99, buffer)
	group.Wait()
	if len(w.waiting) != 0 {
		t.Errorf("%d questions still wait", len(w.waiting))
	}
}

func TestQuestionsThatAreNotAnswered(t *testing.T) {
	var w questions
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	silent := func(number uint32, _ []byte) bool {
		w.answer(number, []byte("cut"))
		return true
	}
	if _, err := w.ask(ctx, abi.Question{}, silent); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := w.ask(t.Context(), abi.Question{}, func(uint32, []byte) bool { return false }); !errors.Is(err, errShutDown) {
		t.Errorf("error %v", err)
	}
	if len(w.waiting) != 0 {
		t.Errorf("%d questions still wait", len(w.waiting))
	}
}
