package brokertest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

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

// connect connects a client, which takes over its own session if it is connected.
func (p *modelPlay) connect(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	req := p.connectRequest(c)
	s, present := p.model.connect(c.id, req.CleanStart)
	p.enter(c, s, req)
	s.answers = []string{connackText(present, 0)}
	p.note("%s connects v%d clean=%v present=%v window=%d small=%v expiry=%d will=%+v delay=%d",
		c.id, c.version, req.CleanStart, present, s.window, s.small, s.expiry, s.will, s.willDelay)
	sent := c.sent
	c.session, c.deaf, c.owed, c.sent, c.aliases = s, false, nil, nil, make([]string, modelAliases+1)
	c.conn = p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	if present {
		c.sent = sent
		p.sendAgain(c)
	}
	return nil
}

// sendAgain sends what was not complete when the last connection ended [MQTT-4.4.0-1]. Where a queue may be full, QoS 1 is
// left out: of two messages that are the same nobody could tell which one was dropped.
func (p *modelPlay) sendAgain(c *modelClient) {
	if p.tight {
		c.sent = slices.DeleteFunc(c.sent, func(s *modelSent) bool { return s.msg.qos == 1 })
	}
	for _, s := range c.sent {
		if c.version != mqtt.V5 { // there are no properties
			plain := *s.msg
			plain.user, plain.life = "", modelNever
			s.msg = &plain
		}
		if s.released {
			p.release(c, s.id)
		} else {
			p.send(c, s.msg, s.id, true)
		}
	}
}

func (p *modelPlay) connectRequest(c *modelClient) *mqtt.Connect {
	c.version = mqtt.V5
	if c.number >= modelSharing && p.r.IntN(2) == 0 {
		c.version = mqtt.V311
	}
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id), CleanStart: p.r.IntN(6) == 0}
	if c.version == mqtt.V5 {
		props := &req.Props
		props.Has = props.Has.With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
		props.SessionExpiryInterval = []uint32{0, 1 + p.r.Uint32N(4), 1000, modelForever}[p.r.IntN(4)]
		props.ReceiveMaximum = uint16(1 + p.r.IntN([]int{4, 60}[p.r.IntN(2)]))
		if c.number >= modelSharing && p.r.IntN(2) == 0 {
			props.Has = props.Has.With(mqtt.PropMaximumPacketSize)
			props.MaximumPacketSize = modelSmall
		}
	}
	if req.HasWill = p.r.IntN(2) == 0; req.HasWill {
		p.addWill(c, req)
	}
	return req
}

func (p *modelPlay) addWill(c *modelClient, req *mqtt.Connect) {
	msg := p.message(c)
	msg.payload += " will"
	req.Will = mqtt.Will{Topic: []byte(msg.topic), Payload: []byte(msg.payload), QoS: msg.qos, Retain: msg.retain}
	if c.version == mqtt.V5 {
		req.Will.Props = *msg.properties()
		req.Will.Props.Has = req.Will.Props.Has.With(mqtt.PropWillDelayInterval)
		req.Will.Props.WillDelayInterval = uint32(p.r.IntN(4))
	}
	c.will = msg
}

// enter notes in the model what a CONNECT asks for.
func (p *modelPlay) enter(c *modelClient, s *modelSession, req *mqtt.Connect) {
	s.version, s.window, s.expiry, s.small = c.version, int(modelWide.MaxInflight), 0, false
	if req.HasWill {
		s.will, s.willDelay = c.will, 0
	}
	if c.version != mqtt.V5 {
		if !req.CleanStart {
			s.expiry = modelForever
		}
		return
	}
	s.expiry, s.willDelay = req.Props.SessionExpiryInterval, req.Will.Props.WillDelayInterval
	s.small = req.Props.Has.Has(mqtt.PropMaximumPacketSize)
	if req.Props.Has.Has(mqtt.PropReceiveMaximum) {
		s.window = min(s.window, int(req.Props.ReceiveMaximum))
	}
}

// part prepares the end of a connection: all that was sent to it has been seen, and nothing comes due in the same
// millisecond as what this end makes due, so that the order is known.
func (p *modelPlay) part() error {
	if err := p.run(); err != nil {
		return err
	}
	for again := true; again; {
		again = false
		for _, s := range p.model.sessions {
			for _, t := range []int64{s.willAt, s.endsAt} {
				again = again || !s.online && t != modelNever && (t-p.model.now)%1000 == 0
			}
		}
		if again {
			if err := p.advance(1); err != nil {
				return err
			}
		}
	}
	return nil
}

// lose cuts a connection.
func (p *modelPlay) lose(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	p.note("%s is lost", c.id)
	c.conn.Lose()
	c.conn = nil
	p.model.leave(c.session)
	return nil
}

// disconnect ends a connection with DISCONNECT: with or without the will, and sometimes another session expiry.
func (p *modelPlay) disconnect(c *modelClient) error {
	if err := p.part(); err != nil {
		return err
	}
	var props mqtt.Properties
	var reason mqtt.ReasonCode
	if c.version == mqtt.V5 {
		reason = mqtt.ReasonCode(4 * p.r.IntN(2))
		if c.session.expiry > 0 && p.r.IntN(3) == 0 {
			props.Has = props.Has.With(mqtt.PropSessionExpiryInterval)
			props.SessionExpiryInterval = uint32(p.r.IntN(3))
			c.session.expiry = props.SessionExpiryInterval
		}
	}
	p.note("%s disconnects, reason %d, expiry %d", c.id, reason, c.session.expiry)
	c.conn.Packets(mqtt.AppendDisconnect(nil, c.version, reason, &props))
	c.conn = nil
	if reason == 0 {
		c.session.will = nil // [MQTT-3.14.4-3]
	}
	p.model.leave(c.session)
	return nil
}

const modelSmall = 400 // bytes, less than a big message

// topic is never empty.
func (p *modelPlay) topic() string { return cmp.Or(RandomTopic(p.r), "a") }

// message makes a message that a client may publish.
func (p *modelPlay) message(c *modelClient) *modelMessage {
	msg := p.plain(c, p.topic(), byte(p.r.IntN(3)))
	msg.retain = p.r.IntN(4) == 0
	if p.tight && (c.number >= modelSharing || msg.qos == 0) {
		msg.retain = false // a refusal has no answer in MQTT 3.1.1 and at QoS 0
	}
	if p.r.IntN(12) == 0 {
		msg.big = true
		msg.payload += strings.Repeat("x", 2*modelSmall)
	}
	if c.version == mqtt.V5 && p.r.IntN(4) == 0 {
		msg.user = "v"
		if !p.tight || !msg.retain { // how retained messages that have expired count is not for the model to say
			msg.life = 1000 * int64(p.r.IntN(4))
		}
	}
	return msg
}

// plain makes a message without anything special. All have another payload of the same size.
func (p *modelPlay) plain(c *modelClient, topic string, qos byte) *modelMessage {
	p.count++
	return &modelMessage{from: c.id, topic: topic, payload: fmt.Sprintf("%s.%06d", c.id, p.count), qos: qos, life: modelNever}
}

func (msg *modelMessage) properties() *mqtt.Properties {
	props := &mqtt.Properties{}
	if msg.user != "" {
		props.Has = props.Has.With(mqtt.PropUserProperty)
		props.User = mqtt.AppendUser(nil, []byte("k"), []byte(msg.user))
	}
	if msg.life != modelNever {
		props.Has = props.Has.With(mqtt.PropMessageExpiryInterval)
		props.MessageExpiryInterval = uint32(msg.life / 1000)
	}
	return props
}

// publish publishes one message, sometimes an empty one that clears the retained message, and at QoS 2 sometimes twice.
// Messages for groups must be told from each other, the empty ones by their user properties.
func (p *modelPlay) publish(c *modelClient, msg *modelMessage) {
	if msg.retain && p.r.IntN(3) == 0 && (c.number < modelSharing || strings.HasPrefix(msg.topic, "$")) {
		if c.version == mqtt.V5 {
			msg.user = msg.payload[:len("c0.000000")]
		}
		msg.payload, msg.big = "", false
	}
	id := p.start(c, msg)
	p.send(c, msg, id, false)
	if msg.qos == 2 && p.r.IntN(6) == 0 {
		p.send(c, msg, id, true)
	}
}

// publishMany publishes messages that differ in their payloads and packet ids only, most of them to one topic. Cores take
// many of these at once where no group gets them, so most topics are out of reach of the groups' filters.
func (p *modelPlay) publishMany(c *modelClient) {
	topics := []string{"a/b", "$x/runs/a", "$x/runs/b"}
	topic, qos := topics[p.r.IntN(3)], byte(p.r.IntN(3))
	var packets [][]byte
	for range 2 + p.r.IntN(30) {
		if p.r.IntN(30) == 0 {
			topic = topics[p.r.IntN(3)]
		}
		msg := p.plain(c, topic, qos)
		packets = append(packets, p.prepare(c, msg, p.start(c, msg), false))
	}
	c.conn.Packets(packets...)
}

// start gives a message of QoS 1 or 2 a packet id, if there is one left; else it becomes QoS 0.
func (p *modelPlay) start(c *modelClient, msg *modelMessage) uint16 {
	if len(c.sent) >= modelIDs/2 {
		msg.qos = 0
		msg.retain = msg.retain && !p.tight // see message
	}
	if msg.qos == 0 {
		return 0
	}
	for c.lastID = c.lastID%modelIDs + 1; c.unfinished(c.lastID) != nil; {
		c.lastID = c.lastID%modelIDs + 1
	}
	c.sent = append(c.sent, &modelSent{id: c.lastID, msg: msg})
	return c.lastID
}

func (p *modelPlay) send(c *modelClient, msg *modelMessage, id uint16, dup bool) {
	c.conn.Packets(p.prepare(c, msg, id, dup))
}

// prepare makes the packet, and tells the model.
func (p *modelPlay) prepare(c *modelClient, msg *modelMessage, id uint16, dup bool) []byte {
	p.note("%s publishes %s=%.16q qos=%d id=%d retain=%v dup=%v life=%d user=%q", c.id, msg.topic, msg.payload, msg.qos, id, msg.retain, dup, msg.life, msg.user)
	packet := mqtt.Publish{Topic: []byte(msg.topic), Payload: []byte(msg.payload), QoS: msg.qos, Retain: msg.retain, PacketID: id, Dup: dup}
	if c.version == mqtt.V5 {
		packet.Props = *msg.properties()
		if !dup {
			p.alias(c, &packet)
		}
	}
	p.model.take(c.session, msg, id)
	return mqtt.AppendPublish(nil, c.version, &packet)
}

// alias lets a topic alias stand for the topic, sometimes.
func (p *modelPlay) alias(c *modelClient, packet *mqtt.Publish) {
	alias := p.r.IntN(modelAliases + 1)
	if alias == 0 || p.r.IntN(3) > 0 || packet.Props.Has == 0 && p.r.IntN(2) == 0 {
		return
	}
	packet.Props.Has = packet.Props.Has.With(mqtt.PropTopicAlias)
	packet.Props.TopicAlias = uint16(alias)
	if topic := string(packet.Topic); c.aliases[alias] == topic {
		packet.Topic = nil
	} else {
		c.aliases[alias] = topic
	}
}

// take is what a broker does with a PUBLISH.
func (m *model) take(s *modelSession, msg *modelMessage, id uint16) {
	reason, kind := mqtt.Success, mqtt.PUBACK
	if msg.qos == 2 {
		kind = mqtt.PUBREC
	}
	if msg.qos < 2 || !s.incoming[id] { // [MQTT-4.3.3-10]
		receivers, ok := m.publish(msg.born(m.now), false)
		switch {
		case !ok:
			reason = mqtt.QuotaExceeded
		case receivers == 0 && s.version == mqtt.V5:
			reason = mqtt.NoMatchingSubscribers
		}
		if ok && msg.qos == 2 {
			s.incoming[id] = true
		}
	}
	if msg.qos > 0 {
		s.answers = append(s.answers, answerText(kind, id, byte(reason)))
	}
}

// publishOwn lets the host publish.
func (p *modelPlay) publishOwn() {
	msg := p.plain(&modelClient{id: ""}, p.topic(), byte(p.r.IntN(3)))
	p.note("the host publishes %s=%q qos=%d", msg.topic, msg.payload, msg.qos)
	p.rig.Event(abi.EventPublish, 0, 0, abi.AppendPublication(nil, &abi.Publication{Topic: msg.topic, Payload: []byte(msg.payload), QoS: msg.qos}))
	p.model.publish(msg.born(p.model.now), false)
}

// acknowledge sends so many of the acknowledgements that a client owes, in or out of order, as one event.
func (p *modelPlay) acknowledge(c *modelClient, n int) {
	if p.r.IntN(4) == 0 {
		p.r.Shuffle(len(c.owed), func(i, j int) { c.owed[i], c.owed[j] = c.owed[j], c.owed[i] })
	}
	var packets [][]byte
	for _, o := range c.owed[:n] {
		reason := mqtt.Success
		if c.version == mqtt.V5 && p.r.IntN(20) == 0 && (o.kind == mqtt.PUBACK || o.kind == mqtt.PUBREC) {
			reason = mqtt.UnspecifiedError
		}
		packets = append(packets, p.acknowledgement(c, o, reason))
	}
	c.owed = slices.Clone(c.owed[n:])
	if len(packets) > 0 {
		c.conn.Packets(packets...)
	}
}

// acknowledgement makes a packet, and tells the model.
func (p *modelPlay) acknowledgement(c *modelClient, o modelOwed, reason mqtt.ReasonCode) []byte {
	p.note("%s acknowledges with %d id=%d reason=%d", c.id, o.kind, o.id, reason)
	if o.kind == mqtt.PUBREL {
		answer := mqtt.Success
		if !c.session.incoming[o.id] && c.version == mqtt.V5 {
			answer = mqtt.PacketIdentifierNotFound
		}
		delete(c.session.incoming, o.id)
		c.session.answers = append(c.session.answers, answerText(mqtt.PUBCOMP, o.id, byte(answer)))
	} else {
		c.session.acknowledge(o.kind, o.id, reason.Failed())
	}
	return mqtt.AppendAck(nil, c.version, o.kind, o.id, reason, nil)
}

func (p *modelPlay) release(c *modelClient, id uint16) {
	c.conn.Packets(p.acknowledgement(c, modelOwed{mqtt.PUBREL, id}, mqtt.Success))
}

// subscribe makes one subscription. Retained messages come at once if nothing waits; else the client does not ask for
// them, because they would be those of later.
func (p *modelPlay) subscribe(c *modelClient) error {
	if err := p.run(); err != nil {
		return err
	}
	sub := modelSubscription{qos: byte(p.r.IntN(3))}
	idle := p.model.waiting(c.session) == 0 && !c.session.blocked &&
		!slices.ContainsFunc(c.session.flight, func(d *modelDelivery) bool { return d.again })
	if p.tight { // those that would have to wait come a few at a time
		idle = idle && c.session.room() >= len(p.model.retained)
	}
	var props mqtt.Properties
	switch {
	case c.version == mqtt.V5:
		sub.retainHandling, sub.retainAsPublished = byte(p.r.IntN(3)), p.r.IntN(2) == 0
		sub.noLocal = p.r.IntN(4) == 0
		if p.r.IntN(2) == 0 {
			sub.identifier = 1 + p.r.Uint32N(300)
			props.Has, props.SubscriptionIDs = props.Has.With(mqtt.PropSubscriptionIdentifier), []uint32{sub.identifier}
		}
		if !idle {
			sub.retainHandling = 2
		}
	case !idle:
		return nil
	}
	filter := cmp.Or(RandomFilter(p.r), "a")
	if p.r.IntN(3) == 0 {
		filter = []string{"$x/runs/a", "$x/runs/+", "$x/#"}[p.r.IntN(3)]
	}
	p.note("%s subscribes to %s %+v", c.id, filter, sub)
	c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 7, &props, []mqtt.Filter{{
		Topic: []byte(filter), QoS: sub.qos, NoLocal: sub.noLocal, RetainAsPublished: sub.retainAsPublished, RetainHandling: sub.retainHandling,
	}}))
	c.session.answers = append(c.session.answers, answerText(mqtt.SUBACK, 7, sub.qos))
	p.model.subscribe(c.session, filter, sub)
	return p.run()
}

// subscribeShared makes a client a member of a group.
func (p *modelPlay) subscribeShared(c *modelClient) {
	if c.number >= modelSharing {
		return
	}
	g := p.model.groups[modelShared[p.r.IntN(len(modelShared))]]
	sub := modelSubscription{qos: modelGrant(c.id, g.number), identifier: g.number}
	p.note("%s subscribes to %s %+v", c.id, g.name, sub)
	props := mqtt.Properties{Has: mqtt.PropertySet(0).With(mqtt.PropSubscriptionIdentifier), SubscriptionIDs: []uint32{g.number}}
	c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 8, &props, []mqtt.Filter{{Topic: []byte(g.name), QoS: sub.qos}}))
	c.session.answers = append(c.session.answers, answerText(mqtt.SUBACK, 8, sub.qos))
	p.model.subscribe(c.session, g.name, sub)
}

// unsubscribe ends one of the subscriptions of a client, or one that it has not.
func (p *modelPlay) unsubscribe(c *modelClient) {
	filter := cmp.Or(RandomFilter(p.r), "a")
	var list []string
	for f := range c.session.subscriptions {
		list = append(list, f)
	}
	if slices.Sort(list); len(list) > 0 && p.r.IntN(4) > 0 {
		filter = list[p.r.IntN(len(list))]
	}
	p.note("%s unsubscribes from %s", c.id, filter)
	c.conn.Packets(mqtt.AppendUnsubscribe(nil, c.version, 9, nil, [][]byte{[]byte(filter)}))
	had := p.model.unsubscribe(c.session, filter)
	switch {
	case c.version != mqtt.V5:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9))
	case had:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9, 0))
	default:
		c.session.answers = append(c.session.answers, answerText(mqtt.UNSUBACK, 9, byte(mqtt.NoSubscriptionExisted)))
	}
}

// block says that a connection takes nothing, or takes something again.
func (p *modelPlay) block(c *modelClient, blocked bool) {
	p.note("%s is blocked: %v", c.id, blocked)
	kind := abi.EventUnblocked
	if blocked {
		kind = abi.EventBlocked
	}
	c.conn.Event(kind, 0, nil)
	c.session.blocked, c.session.quiet = blocked, false
}

// advance lets time pass, and looks just before something comes due and just then.
func (p *modelPlay) advance(d int64) error {
	if err := p.run(); err != nil {
		return err
	}
	until := p.model.now + d
	for p.model.now < until {
		to := until
		if due := p.model.nextDue(); due != modelNever && due <= until {
			if to = due; due-1 > p.model.now {
				to = due - 1
			}
		}
		if err := p.advanceTo(to); err != nil {
			return err
		}
	}
	return nil
}

func (p *modelPlay) advanceTo(t int64) error {
	if err := p.rig.Advance(time.Duration(t-p.model.now) * time.Millisecond); err != nil {
		return err
	}
	p.model.advance(t)
	return p.receive()
}

// finish connects all that have a session, acknowledges until nothing more comes, and compares the retained messages.
func (p *modelPlay) finish() error {
	for _, c := range p.clients {
		if err := p.resume(c); err != nil {
			return err
		}
	}
	for more := true; more; {
		if err := p.run(); err != nil {
			return err
		}
		more = false
		for _, c := range p.clients {
			if c.conn != nil {
				more = more || len(c.owed) > 0
				p.acknowledge(c, len(c.owed))
			}
		}
	}
	for _, c := range p.clients {
		if s := c.session; c.conn != nil && (len(s.queue) > 0 || len(s.flight) > 0 || len(s.incoming) > 0 || len(c.sent) > 0) {
			return fmt.Errorf("%s has not come to an end: %v in the queue, %v in flight", c.id, s.queue, s.flight)
		}
	}
	return p.compareRetained()
}

// resume gives the session of a client a connection that works.
func (p *modelPlay) resume(c *modelClient) error {
	if p.model.sessions[c.id] == nil {
		return nil
	}
	if err := p.part(); err != nil {
		return err
	}
	c.version = mqtt.V5
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id)}
	s, present := p.model.connect(c.id, false)
	p.enter(c, s, req)
	p.note("%s resumes, present=%v", c.id, present)
	s.answers = []string{connackText(present, 0)}
	c.session, c.deaf, c.owed, c.aliases = s, false, nil, make([]string, modelAliases+1)
	if !present {
		c.sent = nil
	}
	c.conn = p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	p.sendAgain(c)
	return p.run()
}

// compareRetained subscribes to everything.
func (p *modelPlay) compareRetained() error {
	c := &modelClient{id: "observer", number: modelClients}
	p.clients = append(p.clients, c)
	c.version = mqtt.V5
	req := &mqtt.Connect{Version: c.version, ClientID: []byte(c.id)}
	s, _ := p.model.connect(c.id, true)
	p.enter(c, s, req)
	s.answers = []string{connackText(false, 0)}
	c.session, c.conn = s, p.rig.Open(&abi.Peer{Listener: "plain"})
	c.conn.Packets(mqtt.AppendConnect(nil, req))
	for _, filter := range []string{"#", "$x/#"} {
		c.conn.Packets(mqtt.AppendSubscribe(nil, c.version, 7, nil, []mqtt.Filter{{Topic: []byte(filter), QoS: 0}}))
		s.answers = append(s.answers, answerText(mqtt.SUBACK, 7, 0))
		p.model.subscribe(s, filter, modelSubscription{})
	}
	return p.run()
}
