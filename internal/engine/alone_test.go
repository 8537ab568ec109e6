package engine

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// rested is a rest that any engine has had.
const rested = time.Nanosecond

// What comes alone has been applied when PostAndStep returns, by a batch that says so; an engine that has not rested is left alone.
func TestWhatComesAloneIsSteppedAtOnce(t *testing.T) {
	for _, x := range []struct {
		rest   time.Duration
		alone  bool
		expect string
	}{{rested, true, "one"}, {time.Hour, false, ""}, {-1, false, ""}} {
		gate := make(chan struct{})
		log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
			if e.Kind == abi.EventPackets && !x.alone {
				<-gate
			}
		}}
		r := startRig(t, Config{Rest: x.rest}, log)
		epoch, _ := r.Open(1, nil)
		await(t, "the connection", func() bool { return len(log.seen()) == 2 && r.atRest() })
		if !r.PostAndStep(abi.EventPackets, 1, epoch, 1, []byte("one")) {
			t.Fatal("the event was refused")
		}
		if got := r.applier.sentTo(1); got != x.expect {
			t.Errorf("rest %v: %q has been applied, want %q", x.rest, got, x.expect)
		}
		close(gate)
		await(t, "the event", func() bool { return r.applier.sentTo(1) == "one" })
		r.Close()
		if got := r.applier.aloneBatches(); got != (len(x.expect) > 0) {
			t.Errorf("rest %v: a batch came alone: %v", x.rest, got)
		}
	}
}

// atRest says whether nobody runs the core.
func (r *rig) atRest() bool {
	if !r.baton.TryLock() {
		return false
	}
	r.baton.Unlock()
	return true
}

// Events of a connection keep their order, whoever steps them.
func TestOrderIsKeptWhoeverSteps(t *testing.T) {
	const producers, events = 8, 2000
	r := startRig(t, Config{Rest: rested}, &fakeLog{most: 3})
	var wait sync.WaitGroup
	for p := range abi.Conn(producers) {
		wait.Go(func() {
			epoch, _ := r.Open(p+1, nil)
			for i := range uint32(events) {
				post := r.PostAndStep
				if i%5 == 0 {
					post = r.Post
				}
				if !post(abi.EventPackets, p+1, epoch, 1, binary.BigEndian.AppendUint32(nil, i)) {
					t.Error("an event was refused")
				}
			}
		})
	}
	wait.Wait()
	r.expectInOrder(t, producers, events)
}

// What a step leaves to be done is done by the engine's goroutine, which sleeps meanwhile: work that is left, and a time to wake up.
func TestTheRestIsLeftToTheEngine(t *testing.T) {
	log := &fakeLog{}
	log.hook = func(e *abi.Event, h *abi.EffectsHeader) {
		switch string(e.Data) {
		case "more":
			h.More = true
		case "wake":
			h.Wake = MonotoneClock()() + 20
		}
	}
	r := startRig(t, Config{Rest: rested}, log)
	epoch, _ := r.Open(1, nil)
	steps := func() int { log.mu.Lock(); defer log.mu.Unlock(); return len(log.starts) }
	for _, what := range []string{"more", "wake"} {
		await(t, "rest", func() bool { return len(log.seen()) >= 2 && r.atRest() })
		before := steps()
		r.PostAndStep(abi.EventPackets, 1, epoch, 1, []byte(what))
		await(t, "a step for "+what, func() bool { return steps() >= before+2 })
	}
}

// A core that fails in a step of somebody else is replaced like any other, and who stepped does not wait for that.
func TestFailureInAStepOfSomebodyElse(t *testing.T) {
	log := &fakeLog{hook: func(e *abi.Event, _ *abi.EffectsHeader) {
		if string(e.Data) == "fail" {
			panic("told to")
		}
	}}
	r := startRig(t, Config{Rest: rested}, log)
	old, _ := r.Open(1, nil)
	await(t, "the connection", func() bool { return len(log.seen()) == 2 && r.atRest() })
	r.PostAndStep(abi.EventPackets, 1, old, 1, []byte("fail"))
	await(t, "the fresh core", func() bool { return strings.HasSuffix(strings.Join(log.seen(), " "), "1:0:limits") })
	if r.PostAndStep(abi.EventPackets, 1, old, 1, []byte("late")) {
		t.Error("an event of a connection of the failed core was taken")
	}
	if n := r.Metrics().Restarts; n != 1 {
		t.Errorf("%d cores have failed, want 1", n)
	}
	fresh, _ := r.Open(2, nil)
	await(t, "an answer of the fresh core", func() bool {
		return r.PostAndStep(abi.EventPackets, 2, fresh, 1, []byte("x")) && r.applier.sentTo(2) != ""
	})
}
