package brokertest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// Core is what a rig drives; *broker.Core is one.
type Core interface {
	Batch(size uint32) []byte
	Step(start, end uint32) []byte
	Chunk(i uint32) []byte
}

// Note is something that the core had to say for the log.
type Note struct {
	Kind abi.Note
	Conn abi.Conn
	Text string
}

// Answer is what the core answered to a question with a number.
type Answer struct {
	Number uint32
	abi.Answer
}

// Rig is a host. It is not safe for use by several goroutines.
type Rig struct {
	// Sync answers EffectSync at once. Without it, the test queues abi.EventSynced itself.
	Sync bool
	// Notes are all notes so far.
	Notes []Note
	// Trace holds the effects of all steps so far, if KeepTrace is set.
	Trace     []byte
	KeepTrace bool
	// Steps counts the calls of the core's step; Stops those of them that came only part of the way.
	Steps, Stops int
	// Stats are those of the last EventStats.
	Stats abi.Stats
	// Authenticate answers EffectAuthenticate at once. Without it, the test queues abi.EventAuthenticated itself.
	Authenticate func(*abi.AuthRequest) (reason uint32, answer abi.AuthAnswer)
	// Shortest is how many packets a run that a client sends must have to be handed over as one; 0: none is.
	Shortest int
	// Answers are those to the questions so far.
	Answers []Answer

	core    Core
	now     int64
	wake    int64
	entropy *rand.ChaCha8
	batch   []byte
	conns   map[abi.Conn]*Conn
	slots   []uint32   // generation of each slot, the first is slot 1
	free    []uint32   // slots to use again
	after   []func()   // what the host does about the effects, in the next batch
	leaving []abi.Conn // connections whose end is an event of this batch
}

// Epoch is the time at which every rig begins, in milliseconds of the Unix clock.
const Epoch = 1_700_000_000_000

// New returns a host for a core that has not seen any event.
func New(core Core) *Rig {
	r := &Rig{core: core, now: Epoch, entropy: rand.NewChaCha8([32]byte{}), conns: map[abi.Conn]*Conn{}, Sync: true}
	r.begin()
	return r
}

// Now says how much time has passed since the rig began.
func (r *Rig) Now() time.Duration { return time.Duration(r.now-Epoch) * time.Millisecond }

// Configure queues a configuration.
func (r *Rig) Configure(c *abi.Config) { r.Event(abi.EventConfigure, 0, 0, abi.AppendConfig(nil, c)) }

// Event queues an event.
func (r *Rig) Event(kind abi.EventKind, conn abi.Conn, arg uint32, data []byte) {
	r.batch = abi.AppendEvent(r.batch, kind, conn, arg, data)
}

// Open queues a new connection.
func (r *Rig) Open(peer *abi.Peer) *Conn {
	var slot uint32
	if n := len(r.free); n > 0 {
		slot, r.free = r.free[n-1], r.free[:n-1]
	} else {
		r.slots = append(r.slots, 0)
		slot = uint32(len(r.slots))
	}
	r.slots[slot-1] = (r.slots[slot-1] + 1) & 0xFF
	c := &Conn{ID: abi.Conn(r.slots[slot-1]<<abi.SlotBits | slot), rig: r, gated: peer.Authenticate, credit: 1}
	r.conns[c.ID] = c
	r.Event(abi.EventOpen, c.ID, 0, abi.AppendPeer(nil, peer))
	return c
}

// Advance lets time pass. The core is woken whenever it asked to be.
func (r *Rig) Advance(d time.Duration) error {
	until := r.now + d.Milliseconds()
	for r.wake != 0 && r.wake <= until {
		r.now = max(r.now, r.wake)
		if err := r.Run(); err != nil {
			return err
		}
		if r.wake != 0 && r.wake <= r.now {
			return fmt.Errorf("the core wants to be woken at %d although it is %d and it has nothing more to do", r.wake, r.now)
		}
	}
	r.now = until
	return nil
}

// Run runs the events that are queued, and goes on until the core has nothing more to do at this time.
func (r *Rig) Run() error {
	for {
		if err := r.runBatch(); err != nil {
			return err
		}
		after := r.after
		r.after = nil
		if len(after) == 0 {
			return nil
		}
		for _, f := range after {
			f()
		}
	}
}

func (r *Rig) begin() { r.batch = append(r.batch[:0], make([]byte, abi.BatchHeaderSize)...) }

// mostSteps bounds the steps of one batch: a core that needs more goes round in circles.
const mostSteps = 1_000_000

func (r *Rig) runBatch() error {
	header := abi.BatchHeader{Now: r.now}
	r.entropy.Read(header.Entropy[:])
	abi.PutBatchHeader(r.batch, &header)
	defer r.begin()
	start, end := uint32(abi.BatchHeaderSize), uint32(len(r.batch))
	copy(r.core.Batch(end), r.batch)
	for range mostSteps {
		effects := r.core.Step(start, end)
		var h abi.EffectsHeader
		if err := abi.ReadEffectsHeader(effects, &h); err != nil {
			return err
		}
		r.Steps++
		if r.KeepTrace {
			r.Trace = append(r.Trace, effects...)
		}
		if err := r.apply(effects); err != nil {
			return err
		}
		if h.Consumed < start || h.Consumed > end {
			return fmt.Errorf("a step of [%d, %d) says that it came to %d", start, end, h.Consumed)
		}
		r.wake = h.Wake
		if start = h.Consumed; start == end && !h.More {
			r.leave()
			return nil
		}
		r.Stops++
	}
	return fmt.Errorf("the core is not done after %d steps", mostSteps)
}

// leave forgets the connections whose end the core has been told: from now on nothing may be written to them.
func (r *Rig) leave() {
	for _, id := range r.leaving {
		delete(r.conns, id)
	}
	r.leaving = r.leaving[:0]
}

// apply carries out the effects of a step.
func (r *Rig) apply(effects []byte) error {
	var e abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects); {
		next, err := abi.NextEffect(effects, at, &e)
		if err != nil {
			return err
		}
		if err := r.applyOne(&e); err != nil {
			return fmt.Errorf("effect %d of connection %#x: %w", e.Kind, e.Conn, err)
		}
		at = next
	}
	return nil
}

func (r *Rig) applyOne(e *abi.Effect) error {
	switch e.Kind {
	case abi.EffectDeliver:
		return r.deliver(e)
	case abi.EffectNote:
		r.Notes = append(r.Notes, Note{abi.Note(e.Arg), e.Conn, string(e.Data)})
		return nil
	case abi.EffectStats:
		return abi.ReadStats(e.Data, &r.Stats)
	case abi.EffectAnswer:
		a := Answer{Number: e.Arg}
		err := abi.ReadAnswer(slices.Clone(e.Data), &a.Answer)
		r.Answers = append(r.Answers, a)
		return err
	}
	c, err := r.open(e.Conn)
	if err != nil {
		return err
	}
	switch e.Kind {
	case abi.EffectSend:
		c.write(e.Data)
	case abi.EffectAcks:
		first, count, err := abi.ReadAcks(e)
		c.write(abi.AppendAcks(nil, first, count))
		return err
	case abi.EffectClose:
		c.close(e.Arg, string(e.Data))
	case abi.EffectPause, abi.EffectResume:
		return c.pause(e.Kind == abi.EffectPause)
	case abi.EffectSync:
		c.mark("sync")
		if r.Sync {
			r.after = append(r.after, func() { c.Event(abi.EventSynced, 0, nil) })
		}
	case abi.EffectAuthenticate:
		return c.ask(e.Data)
	case abi.EffectProceed:
		return c.proceed(e.Arg)
	default:
		return fmt.Errorf("there is no such effect")
	}
	return nil
}

// open returns a connection that can be written to.
func (r *Rig) open(id abi.Conn) (*Conn, error) {
	c := r.conns[id]
	if c == nil || c.Closed {
		return nil, fmt.Errorf("the connection is not open")
	}
	return c, nil
}

func (r *Rig) deliver(e *abi.Effect) error {
	var d abi.Deliver
	if err := abi.ReadDeliver(e, &d); err != nil {
		return err
	}
	payloads, err := r.payload(d.Span())
	if err != nil {
		return err
	}
	if d.NumTargets() == 0 {
		return fmt.Errorf("the delivery is for nobody")
	}
	if source := r.conns[d.Source]; source != nil {
		source.Caused += d.NumTargets() * int(d.Count)
	} else if d.Source != 0 {
		return fmt.Errorf("the source of the delivery is not known")
	}
	head := slices.Clone(d.Head)
	for i := range d.NumTargets() {
		t := d.Target(i)
		c, err := r.open(t.Conn)
		if err != nil {
			return fmt.Errorf("target %#x: %w", t.Conn, err)
		}
		if (t.PacketID == 0) != (d.QoS == 0) {
			return fmt.Errorf("packet id %d at QoS %d", t.PacketID, d.QoS)
		}
		for k := range d.Count {
			if d.QoS > 0 {
				binary.BigEndian.PutUint16(head[d.PacketIDAt:], t.PacketID+uint16(k))
			}
			c.write(head)
			c.write(payloads[k*d.Stride : k*d.Stride+d.Payload.Size])
		}
	}
	return nil
}

func (r *Rig) payload(ref abi.Ref) ([]byte, error) {
	space := r.batch
	if ref.Space > 0 {
		space = r.core.Chunk(ref.Space - 1)
	}
	if uint64(ref.Offset)+uint64(ref.Size) > uint64(len(space)) {
		return nil, fmt.Errorf("the payload %+v is outside of %d bytes", ref, len(space))
	}
	return space[ref.Offset : ref.Offset+ref.Size], nil
}
