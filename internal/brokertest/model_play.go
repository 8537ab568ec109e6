package brokertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// ModelSeeds returns what a test calls [PlayModel] with: so many random seeds, or as many as VOUCHMQ_ROUNDS says, or the
// one that VOUCHMQ_SEED says.
func ModelSeeds(rounds int) (seeds []uint64) {
	if seed, err := strconv.ParseUint(os.Getenv("VOUCHMQ_SEED"), 10, 64); err == nil {
		return []uint64{seed}
	}
	if n, err := strconv.Atoi(os.Getenv("VOUCHMQ_ROUNDS")); err == nil {
		rounds = n
	}
	for range rounds {
		seeds = append(seeds, rand.Uint64())
	}
	return seeds
}

// PlayModel lets clients do random things with a core that has not seen any event, and compares what it does with a
// model after each batch: nothing is lost, nothing comes twice but with DUP after a reconnect, and all comes in order. The
// error is the first difference, with what was done before, and says the seed that repeats it. check is called after each
// batch, unless it is nil.
func PlayModel(core Core, seed uint64, check func() error) error {
	p := newModelPlay(core, rand.New(rand.NewPCG(seed, 0)), check)
	err := p.play()
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		return fmt.Errorf("%s\nat %d ms, with VOUCHMQ_SEED=%d: %w", strings.Join(p.log, "\n"), p.model.now, seed, err)
	}
	return nil
}

// modelPlay is one game of clients against a core.
type modelPlay struct {
	r       *rand.Rand
	rig     *Rig
	model   *model
	clients []*modelClient
	tight   bool
	check   func() error
	count   int
	log     []string // what was done last
}

// modelClient is a client that follows the protocol, but not always at once, and loses its connection now and then.
type modelClient struct {
	id      string
	number  int
	conn    *Conn // nil if it has none
	session *modelSession
	version mqtt.Version
	deaf    bool        // what comes is lost on the way
	owed    []modelOwed // acknowledgements
	sent    []*modelSent
	lastID  uint16
	aliases []string      // topics, by alias
	will    *modelMessage // of its last CONNECT
}

// modelOwed is an acknowledgement that a client has not sent yet.
type modelOwed struct {
	kind mqtt.PacketType
	id   uint16
}

// modelSent is a message of QoS 1 or 2 that is not complete.
type modelSent struct {
	id       uint16
	msg      *modelMessage
	released bool // PUBREL is what is to be sent again
}

const (
	modelClients = 7
	modelSharing = 4 // the first so many use MQTT 5 and shared subscriptions only
	modelSteps   = 300
	modelIDs     = 200 // packet ids that a client uses
	modelAliases = 3
	modelLog     = 60 // lines of what was done before a failure
)

var modelShared = []string{"$share/g/#", "$share/h/a/#", "$share/g/a/#", "$share/g/+/+"}

// modelGrant is the QoS with which a client subscribes to a group, always the same.
func modelGrant(client string, number uint32) byte {
	return byte((uint32(client[len(client)-1]) + number) % 3)
}

func newModelPlay(core Core, r *rand.Rand, check func() error) *modelPlay {
	p := &modelPlay{r: r, rig: New(core), tight: r.IntN(4) == 0, check: check}
	p.rig.Shortest = 2 * r.IntN(2)
	limits, known := modelWide, modelLimits{queued: 1 << 20, retained: 1 << 20}
	if p.tight {
		limits.MaxQueued, limits.MaxRetained = 6, 5
		known = modelLimits{queued: 6, retained: 5}
	}
	limits.StepWork = []uint32{1 << 20, 1 + r.Uint32N(40)}[r.IntN(2)]
	p.model = newModel(known)
	for i, full := range modelShared {
		filter := strings.SplitN(full, "/", 3)[2]
		p.model.groups[full] = &modelGroup{name: full, filter: filter, number: uint32(1001 + i), grants: map[*modelSession]byte{}}
	}
	for i := range modelClients {
		p.clients = append(p.clients, &modelClient{id: fmt.Sprintf("c%d", i), number: i})
	}
	p.rig.Configure(&abi.Config{Limits: limits, Options: abi.Options{Shared: abi.SharedStrategy(r.IntN(5))}, Rules: []abi.Rule{
		{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#", "$x/#"}, Subscribe: []string{"#", "$x/#"}},
	}})
	return p
}

// modelWide are limits that are not met.
var modelWide = abi.Limits{
	MaxPacketSize: 1 << 20, MaxInflight: 50, ReceiveMaximum: 1024, TopicAliasMaximum: modelAliases,
	MaxQueued: 100_000, MaxQueuedBytes: 64 << 20, MaxRetained: 1 << 20, MaxRetainedBytes: 256 << 20,
	MaxSessions: 1000, MaxSubscriptions: 1000, MaxTopicLevels: 16, MaxSessionExpiry: modelForever,
	MaxMemory: 512 << 20, ConnectTimeout: 10_000, StallTimeout: 1000,
}

func (p *modelPlay) note(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf("%d ", p.model.now)+fmt.Sprintf(format, args...))
	p.log = p.log[max(0, len(p.log)-modelLog):]
}

// play makes batches of a few operations.
func (p *modelPlay) play() error {
	for range modelSteps {
		for range 1 + p.r.IntN(5) {
			if err := p.act(p.clients[p.r.IntN(modelClients)]); err != nil {
				return err
			}
			if !p.tight {
				continue
			}
			if err := p.run(); err != nil {
				return err
			}
		}
		if err := p.run(); err != nil {
			return err
		}
	}
	return nil
}

// act makes one operation.
func (p *modelPlay) act(c *modelClient) error {
	if c.conn == nil {
		return p.connect(c)
	}
	switch n := p.r.IntN(100); {
	case n < 26:
		p.publish(c, p.message(c))
	case n < 38:
		p.publishMany(c)
	case n < 60:
		p.acknowledge(c, p.r.IntN(len(c.owed)+1))
	case n < 70:
		return p.subscribe(c)
	case n < 73:
		p.subscribeShared(c)
	case n < 76:
		p.unsubscribe(c)
	case n < 80:
		p.block(c, !c.session.blocked)
	case n < 84:
		return p.lose(c)
	case n < 87:
		return p.disconnect(c)
	case n < 88:
		return p.connect(c) // takes over its own session
	case n < 91:
		c.deaf = true
	case n < 92:
		p.publishOwn()
	default:
		return p.advance(int64(p.r.IntN(3000)))
	}
	return nil
}

// run lets the core work, and compares.
func (p *modelPlay) run() error {
	if err := p.rig.Run(); err != nil {
		return err
	}
	return p.receive()
}

// receive takes what has come to all clients.
func (p *modelPlay) receive() error {
	for _, c := range p.clients {
		if c.conn == nil {
			continue
		}
		items, err := c.conn.Received()
		for _, item := range items {
			if item.Packet == nil {
				continue
			}
			if err := p.model.accept(c.session, item.Packet); err != nil {
				return fmt.Errorf("to %s the core %w", c.id, err)
			}
			c.hear(item.Packet)
		}
		if err != nil || c.conn.Gone() {
			return errors.Join(err, fmt.Errorf("%s has been disconnected: %s", c.id, c.conn.Why))
		}
	}
	if err := p.model.settle(); err != nil || p.check == nil {
		return err
	}
	return p.check()
}

// hear notes what a client must answer, and what is complete.
func (c *modelClient) hear(packet []byte) {
	var a mqtt.Ack
	kind := mqtt.TypeOf(packet)
	if c.deaf {
		return
	}
	switch kind {
	case mqtt.PUBLISH:
		var pub mqtt.Publish
		mqtt.ParseServerPublish(packet, c.version, &pub)
		if pub.QoS > 0 {
			c.owed = append(c.owed, modelOwed{[]mqtt.PacketType{mqtt.PUBACK, mqtt.PUBREC}[pub.QoS-1], pub.PacketID})
		}
		return
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP:
		mqtt.ParseAck(packet, c.version, &a)
	}
	switch {
	case kind == mqtt.PUBREL:
		c.owed = append(c.owed, modelOwed{mqtt.PUBCOMP, a.PacketID})
	case kind == mqtt.PUBREC && !a.Reason.Failed():
		if s := c.unfinished(a.PacketID); s != nil {
			s.released = true
			c.owed = append(c.owed, modelOwed{mqtt.PUBREL, a.PacketID})
		}
	case a.PacketID != 0:
		c.sent = slices.DeleteFunc(c.sent, func(s *modelSent) bool { return s.id == a.PacketID })
	}
}

func (c *modelClient) unfinished(id uint16) *modelSent {
	if i := slices.IndexFunc(c.sent, func(s *modelSent) bool { return s.id == id }); i >= 0 {
		return c.sent[i]
	}
	return nil
}
