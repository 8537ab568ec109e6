package engine

import (
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// PostAndStep is Post by a goroutine that has nothing more to tell for now. If the engine has rested for Config.Rest, that
// goroutine runs the core itself, for this one event, and returns when its effects have been applied: what comes alone need not wait
// until another goroutine wakes up. Whatever is left to do then is left to the engine's goroutine. The caller must hold no lock
// that the applier takes.
func (e *Engine) PostAndStep(kind abi.EventKind, conn abi.Conn, epoch uint32, arg uint32, data []byte) bool {
	if e.config.Rest < 0 || e.metrics.restedFor() < e.config.Rest || !e.baton.TryLock() {
		return e.Post(kind, conn, epoch, arg, data)
	}
	defer e.baton.Unlock()
	if e.failed != nil {
		return e.PostNow(kind, conn, epoch, arg, data)
	}
	events, ok := e.queue.pass(e.taken, kind, conn, epoch, arg, data)
	if events != nil {
		e.taken = events
		e.stepAlone()
	}
	return ok
}

// stepAlone runs what has been taken, in another goroutine than the engine's, which it wakes if there is something for that to do. The
// baton is held.
func (e *Engine) stepAlone() {
	e.alone = true
	e.failed = e.turn()
	e.alone = false
	if e.failed != nil || e.more || e.wakeAt != 0 && (e.alarm == 0 || e.wakeAt < e.alarm) {
		e.queue.awaken()
	}
}

// restedFor says how long no step has ended.
func (m *metrics) restedFor() time.Duration {
	return time.Since(m.origin) - time.Duration(m.rested.Load())
}
