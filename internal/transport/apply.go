package transport

import (
	"encoding/binary"
	"fmt"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Begin begins a batch. Of one that comes alone, Flush writes what it can by itself.
func (t *Transport) Begin(alone bool) { t.alone = alone }

// Apply carries out effects: an effects header, which the engine has looked at, and effects. It is called by
// whoever runs the engine. An error says that they do not follow package abi. It is the hot path: no allocation, no map,
// no waiting; and a writer is woken only for as much as makes a full record of TLS, until Flush.
func (t *Transport) Apply(effects []byte, memory Memory) error {
	err := t.applyAll(effects, memory, *t.table.slots.Load())
	if t.alone {
		return err
	}
	left := t.dirty[:0]
	for _, c := range t.dirty {
		if !c.wakeWriter(recordSize) {
			left = append(left, c)
			continue
		}
		c.dirty = false
	}
	clear(t.dirty[len(left):])
	t.dirty = left
	return err
}

// recordSize is the size of the largest record of TLS (RFC 8446, 5.1).
const recordSize = 16 << 10

// Flush wakes the writers of all connections that something has been written to, or does without them.
func (t *Transport) Flush() {
	atOnce := t.alone && len(t.dirty) <= fewConnections
	for i, c := range t.dirty {
		c.dirty = false
		if !atOnce || !c.writeAtOnce() {
			c.wakeWriter(0)
		}
		t.dirty[i] = nil
	}
	t.dirty = t.dirty[:0]
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
	case abi.EffectAcks:
		return t.applyAcks(effect, slots)
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

// applyDeliver appends PUBLISH packets to the backlog of each target, and remembers in the source which of
// them is furthest behind.
func (t *Transport) applyDeliver(effect *abi.Effect, memory Memory, slots []slot) error {
	d := &t.deliver
	if err := abi.ReadDeliver(effect, d); err != nil {
		return err
	}
	span, err := memory.Range(d.Span())
	if err != nil {
		return err
	}
	run := publishes{d: d, span: span, whole: isWhole(d, span)}
	var slowest *conn
	most := t.limits.SoftBacklog
	for list := d.Targets; len(list) >= abi.TargetSize; list = list[abi.TargetSize:] {
		c := lookup(slots, abi.Conn(binary.LittleEndian.Uint32(list)))
		if c == nil {
			continue
		}
		backlog := c.deliver(&run, binary.LittleEndian.Uint16(list[4:]))
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

// applyAcks appends a run of acknowledgements to the backlog of a connection.
func (t *Transport) applyAcks(effect *abi.Effect, slots []slot) error {
	first, count, err := abi.ReadAcks(effect)
	if err != nil {
		return err
	}
	if c := lookup(slots, effect.Conn); c != nil {
		c.sendAcks(first, count)
		t.touch(c)
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

// Reset ends the connections of a core that has failed.
func (t *Transport) Reset() {
	clear(t.dirty)
	t.dirty = t.dirty[:0]
	for _, c := range t.table.all() {
		c.dirty = false
		c.abort(errCoreFailed)
	}
}
