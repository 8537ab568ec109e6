package transport

import (
	"encoding/binary"
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Apply carries out effects: an effects header, which the engine has looked at, and effects. It is called by
// the engine's goroutine. An error says that they do not follow package abi. It is the hot path: no allocation, no map, no waiting; and
// each writer is woken once.
func (t *Transport) Apply(effects []byte, memory Memory) error {
	slots := *t.table.slots.Load()
	err := t.applyAll(effects, memory, slots)
	for i, c := range t.dirty {
		c.dirty = false
		c.wakeWriter()
		t.dirty[i] = nil
	}
	t.dirty = t.dirty[:0]
	return err
}

func (t *Transport) applyAll(effects []byte, memory Memory, slots []slot) error {
	var effect abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &effect)
		if err != nil {
			return err
		}
		if err := t.apply(&effect, memory, slots); err != nil {
			return err
		}
		at = next
	}
	return nil
}

func (t *Transport) apply(effect *abi.Effect, memory Memory, slots []slot) error {
	switch effect.Kind {
	case abi.EffectDeliver:
		return t.applyDeliver(effect, memory, slots)
	case abi.EffectSend:
		if c := lookup(slots, effect.Conn); c != nil {
			c.send(effect.Data)
			t.touch(c)
		}
	case abi.EffectClose:
		if c := lookup(slots, effect.Conn); c != nil {
			c.close(effect.Arg, effect.Data)
			t.touch(c)
		}
	case abi.EffectPause, abi.EffectResume:
		if c := lookup(slots, effect.Conn); c != nil {
			c.pause(effect.Kind == abi.EffectPause)
		}
	case abi.EffectSync:
		if c := lookup(slots, effect.Conn); c != nil {
			c.sync()
		}
	case abi.EffectNote:
		t.note(lookup(slots, effect.Conn), effect)
	case abi.EffectAuthenticate:
		if c := lookup(slots, effect.Conn); c != nil {
			return c.authenticate(effect.Data)
		}
	case abi.EffectProceed:
		if c := lookup(slots, effect.Conn); c != nil {
			c.proceed(effect.Arg == 1)
		}
	case abi.EffectStats:
		return t.applyStats(effect.Data)
	case abi.EffectAnswer:
		if t.answer != nil {
			t.answer(effect.Arg, effect.Data)
		}
	default:
		return abi.Fault(fmt.Sprintf("effect of unknown kind %d", effect.Kind))
	}
	return nil
}

// touch remembers to wake c's writer after this Apply.
func (t *Transport) touch(c *conn) {
	if !c.dirty {
		c.dirty = true
		t.dirty = append(t.dirty, c)
	}
}

// applyDeliver appends a PUBLISH packet to the backlog of each target, and remembers in the source which of
// them is furthest behind.
func (t *Transport) applyDeliver(effect *abi.Effect, memory Memory, slots []slot) error {
	d := &t.deliver
	if err := abi.ReadDeliver(effect, d); err != nil {
		return err
	}
	payload, err := memory.Range(d.Payload)
	if err != nil {
		return err
	}
	var slowest *conn
	most := t.limits.SoftBacklog
	for list := d.Targets; len(list) >= abi.TargetSize; list = list[abi.TargetSize:] {
		c := lookup(slots, abi.Conn(binary.LittleEndian.Uint32(list)))
		if c == nil {
			continue
		}
		backlog := c.deliver(d, binary.LittleEndian.Uint16(list[4:]), payload)
		if backlog > most {
			slowest, most = c, backlog
		}
		t.touch(c)
	}
	if slowest != nil {
		if source := lookup(slots, d.Source); source != nil {
			source.slowDown(slowest, most)
		}
	}
	return nil
}

func (t *Transport) applyStats(data []byte) error {
	var stats abi.Stats
	if err := abi.ReadStats(data, &stats); err != nil {
		return err
	}
	if t.stats != nil {
		t.stats(&stats)
	}
	return nil
}

// Reset ends the connections of a core that has failed. It is called by the engine's goroutine.
func (t *Transport) Reset() {
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	for _, c := range t.table.all() {
		c.dirty = false
		c.abort(errCoreFailed)
	}
}
