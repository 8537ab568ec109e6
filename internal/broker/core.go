package broker

import (
	"encoding/binary"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Core is a broker. It is not safe for use by several goroutines.
type Core struct {
	config      abi.Config
	configured  bool
	rulesSerial uint32 // changes whenever the rules do
	judgements  uint64 // so far, see permits.go
	review      review

	batch    []byte
	now      int64
	entropy  [abi.EntropySize]byte
	assigned uint32 // client ids made so far
	seed     uint64 // of the hashes

	out       []byte   // effects of this step
	sendAt    int      // where the send effect begins that can still grow; 0 is none
	sendTo    abi.Conn // whom it is for
	acks      []byte   // acknowledgements for the connection whose packets are being handled
	rows      []byte   // effects that write those that come before them
	lastRow   int      // how many bytes of rows lie before the last of them, an abi.EffectAcks, and one; 0 is none
	work      uint32   // units of work done in this step
	resume    uint32   // offset in the batch of the packets at which the last step stopped; 0 is none
	plain     plainRun // the packets that quickRun is at
	resumeNum uint32   // how many packets of that event are left
	filters   filterList

	store            store
	freed            []block // bodies of messages that effects of this step may still refer to
	tree             tree
	connections      []*connectionPage
	heldBytes        int // of CONNECTs of clients that are being authenticated
	sessions         slab[session]
	byClientID       index
	permits          slab[permits]
	byFilters        index
	subscriptions    slab[subscription]
	bySessionAndNode index
	groups           groups
	generation       uint32 // changes whenever a subscription that is not shared does, and whenever a group comes or goes
	presence         uint32 // changes whenever a session with subscriptions comes, goes, or is blocked
	routes           routes
	messages         slab[message]
	deliveries       slab[delivery]
	waiting          uint64 // messages in them
	received         slab[receivedID]
	byReceivedID     index
	aliasesOut       slab[aliasOut]
	byAliasOut       index
	timers           timers
	scans            slab[scan]
	scanning         scanning
	retained         retainedTotals
	trimAt           int64  // when tables may be made smaller again
	lookAt           int64  // when the core looks whether they should be
	budget           uint64 // bytes that runs may take before the tables are added up again, see memory.go
	stats            abi.Stats

	longWay bool // for tests: nothing goes the short way, see quick.go

	// Scratch, so that a step makes no garbage.
	connect     mqtt.Connect
	publish     mqtt.Publish
	ack         mqtt.Ack
	subscribe   mqtt.Subscribe
	unsubscribe mqtt.Unsubscribe
	disconnect  mqtt.Disconnect
	auth        mqtt.Auth
	props       mqtt.Properties
	head        []byte
	encoded     []byte
	connack     mqtt.Connack
	parting     mqtt.Properties // of an AUTH or a DISCONNECT
	marked      []byte          // user properties, see provenance.go
	text        []byte          // reason string, or response information
	reference   []byte          // server reference
	question    abi.Question
	outgoing    mqtt.Publish
	reasons     []byte
	ids         []uint32
	clientID    []byte     // also filters that are reviewed
	dropped     []abi.Conn // sessions that began to lose messages in this step
	limitsMet   []limitMet // limits that are to be told of at the end of this step
	limitsTold  uint8      // those that have been told of in this step without a connection
	overflowed  []abi.Conn // connections that are to be ended at the end of this step, see limits.go
	pausing     abi.Conn   // the connection that slowDown has paused, until the host is told
	nodes       []uint32
	nodesAhead  []uint32
}

// New returns a core that is not configured.
func New() *Core {
	c := &Core{generation: 1, rulesSerial: 1}
	c.tree.init(&c.store)
	c.routes.bound(0)
	c.config.Limits.StepWork = 1
	return c
}

// Batch returns room for a batch of size bytes, with what it held before as far as that fits. It stays valid
// until the next call of Batch.
func (c *Core) Batch(size uint32) []byte {
	c.store.newBatch()
	if uint32(cap(c.batch)) < size {
		// Twice as much at least: a little more each time would leave many buffers to the collector.
		grown := make([]byte, size, max(size, 2*uint32(cap(c.batch))))
		copy(grown, c.batch)
		c.batch = grown
	}
	c.batch = c.batch[:size]
	return c.batch
}

// Chunk returns the bytes of chunk i of the messages that the core keeps, nil if there is no such chunk.
func (c *Core) Chunk(i uint32) []byte {
	if i >= uint32(len(c.store.chunks)) {
		return nil
	}
	return c.store.chunks[i]
}

// Step runs the events in the range [start, end) of the batch and returns the effects, which stay valid until
// the next step. See package abi.
func (c *Core) Step(start, end uint32) []byte {
	var header abi.BatchHeader
	c.out = append(c.out[:0], make([]byte, abi.EffectsHeaderSize)...)
	c.sendAt, c.work = 0, 0
	c.freeBodies()
	c.trim()
	if int(end) > len(c.batch) || abi.ReadBatchHeader(c.batch, &header) != nil {
		return c.finish(end, false)
	}
	c.now = max(c.now, header.Now)
	c.entropy = header.Entropy
	if c.seed == 0 {
		c.plant()
	}
	at := c.runEvents(start, end)
	more := at < end || c.inReview()
	if !more {
		more = c.runTimers()
	}
	if !more {
		more = c.runScans()
	}
	if !c.inReview() { // it publishes wills
		c.endOverflowed()
	}
	c.noteDrops()
	c.noteLimits()
	return c.finish(at, more)
}

// plant takes the seed of the hashes from the first entropy.
func (c *Core) plant() {
	c.seed = binary.LittleEndian.Uint64(c.entropy[:]) | 1
	c.tree.seed = c.seed
}

// runEvents handles events until the end or until the step has done enough work, and returns how far it came.
//
// Nothing is done before the review that new rules ask for has ended, see review.go.
func (c *Core) runEvents(start, end uint32) uint32 {
	var e abi.Event
	batch := c.batch[:end]
	at := start
	for !c.runReview() && at < end {
		next, err := abi.NextEvent(batch, at, &e)
		if err != nil {
			return end // a fault of the host: nothing after it can be read
		}
		if !c.handle(&e) {
			return at
		}
		at = next
		if c.busy() && at < end {
			return at
		}
	}
	return at
}

// busy says whether the step has done as much work as it should.
func (c *Core) busy() bool { return c.work >= c.config.Limits.StepWork }

// handle handles an event. It returns false if it did only part of it and wants to be called again.
func (c *Core) handle(e *abi.Event) bool {
	switch e.Kind {
	case abi.EventPackets, abi.EventPublishes:
		return c.packets(e)
	case abi.EventAcks:
		return c.acksInRow(e)
	case abi.EventConfigure:
		c.configure(e.Data)
	case abi.EventOpen:
		c.open(e)
	case abi.EventClosed:
		c.closed(e.Conn)
	case abi.EventBadPacket:
		c.badPacket(e.Conn, mqtt.ReasonCode(e.Arg))
	case abi.EventBlocked:
		c.setBlocked(e.Conn, true)
	case abi.EventUnblocked:
		c.setBlocked(e.Conn, false)
	case abi.EventDisconnect:
		c.endByHost(e.Conn, mqtt.ReasonCode(e.Arg))
	case abi.EventShutdown:
		c.shutdown(mqtt.ReasonCode(e.Arg), string(e.Data))
	case abi.EventStats:
		c.report()
	case abi.EventSynced:
		c.synced(e.Conn)
	case abi.EventAuthenticated:
		c.authenticated(e)
	case abi.EventPublish:
		c.publishOwn(e)
	case abi.EventAsk:
		c.ask(e)
	}
	return true
}

// configure takes over limits and rules. A configuration that cannot be read changes nothing.
func (c *Core) configure(data []byte) {
	var config abi.Config
	if err := abi.ReadConfig(data, &config); err != nil {
		return
	}
	l := &config.Limits
	l.StepWork = max(l.StepWork, 1)
	l.MaxInflight = max(l.MaxInflight, 1)
	l.ReceiveMaximum = max(l.ReceiveMaximum, 1)
	c.config = config
	c.routes.bound(l.MaxModuleMemory)
	c.configured = true
	c.rulesSerial++
	c.review = review{}
}

// runTimers looks at what is due, and says whether there is more.
func (c *Core) runTimers() (more bool) {
	for !c.busy() {
		kind, id, ok := c.timers.due(c.now)
		if !ok {
			return false
		}
		c.work++
		switch kind {
		case timerConnection:
			c.connectionDue(id)
		case timerSession:
			c.sessionDue(id)
		case timerRetained:
			c.retainedDue(id)
		}
	}
	return true
}

// finish completes the effects.
func (c *Core) finish(consumed uint32, more bool) []byte {
	abi.PutEffectsHeader(c.out, &abi.EffectsHeader{
		Size: uint32(len(c.out)), Consumed: consumed, More: more, Wake: c.timers.next(),
	})
	return c.out
}

// report appends the statistics to the effects.
func (c *Core) report() {
	s := c.stats
	s.Sessions = uint64(c.sessions.live)
	s.Subscriptions = uint64(c.subscriptions.live)
	s.Shared = uint64(c.groups.members)
	s.Retained = uint64(c.retained.count)
	s.Queued = c.waiting + uint64(c.groups.waiting)
	s.MessageBytes = c.store.live
	s.RetainedBytes = uint64(c.retained.bytes)
	s.Memory = c.memory()
	c.encoded = abi.AppendStats(c.encoded[:0], &s)
	c.effect(abi.EffectStats, 0, 0, c.encoded)
}

// effect appends an effect that no other can be joined with.
func (c *Core) effect(kind abi.EffectKind, conn abi.Conn, arg uint32, data []byte) {
	c.sendAt = 0
	c.out = abi.AppendEffect(c.out, kind, 0, conn, arg, data)
}

// beginSend makes c.out ready for bytes that are to be written to a connection; endSend completes them.
func (c *Core) beginSend(to abi.Conn) {
	if c.sendAt == 0 || c.sendTo != to {
		c.sendAt, c.sendTo = len(c.out), to
		c.out = abi.BeginEffect(c.out, abi.EffectSend, 0, to, 0)
	}
}

func (c *Core) endSend() { abi.EndEffect(c.out, c.sendAt) }

// flushAcks sends the acknowledgements that were gathered for a connection.
func (c *Core) flushAcks(to abi.Conn) {
	if len(c.rows) > 0 {
		c.sendAt = 0
		c.out = append(c.out, c.rows...)
		c.rows, c.lastRow = c.rows[:0], 0
	}
	if len(c.acks) == 0 {
		return
	}
	c.beginSend(to)
	c.out = append(c.out, c.acks...)
	c.endSend()
	c.acks = c.acks[:0]
}
