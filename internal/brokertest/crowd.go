package brokertest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Crowd is a number of clients that do random things to several cores at once, among them what clients should not
// do. What comes to them must not depend on how the cores are built.
type Crowd struct {
	// Rigs are the hosts of the cores, in their order.
	Rigs []*Rig
	// Same compares what two cores have written to a client; bytes.Equal if it is not set.
	Same func(a, b []byte) bool

	r       *rand.Rand
	members []*member
}

// member is a client of a crowd.
type member struct {
	conns   []*Conn // one in each rig; nil if it is not connected
	version mqtt.Version
	method  bool     // it has named a method of authentication
	acks    [][]byte // what it owes to what it received
	blocked bool
	lastID  uint16 // of the packets that differ in little else, see alike
}

const crowdSize = 7

// NewCrowd returns a crowd for cores that have not seen any event, with a source of randomness and the limits of
// each core.
func NewCrowd(r *rand.Rand, cores []Core, limits []abi.Limits) *Crowd {
	w := &Crowd{r: r, Same: bytes.Equal}
	options := abi.Options{Shared: abi.SharedStrategy(r.IntN(5)), Methods: []string{"m"}, CheckPayload: r.IntN(2) == 0}
	options.Overflow = []abi.Overflow{abi.DropNewest, abi.DropOldest}[r.IntN(2)]
	if r.IntN(4) == 0 && sameLimits(limits) { // connections end at the end of a step
		options.Overflow = abi.EndConnection
	}
	for i, core := range cores {
		rig := New(core)
		rig.KeepTrace = true
		rig.Authenticate = authenticate
		rig.Configure(&abi.Config{Limits: limits[i], Options: options, Rules: []abi.Rule{
			{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"+/#", "$x/#"}, Subscribe: []string{"#", "$x/#"}},
		}})
		w.Rigs = append(w.Rigs, rig)
	}
	for range crowdSize {
		w.members = append(w.members, &member{})
	}
	return w
}

// sameLimits says whether all cores have the same limits, and do the same in each step therefore.
func sameLimits(limits []abi.Limits) bool {
	return !slices.ContainsFunc(limits, func(l abi.Limits) bool { return l != limits[0] })
}

// authenticate decides who may join a crowd: nearly all. One who names a method is challenged as often as it says
// "more".
func authenticate(a *abi.AuthRequest) (reason uint32, answer abi.AuthAnswer) {
	switch {
	case a.User == "stranger":
		return uint32(mqtt.BadUserNameOrPassword), abi.AuthAnswer{Reason: "who are you?"}
	case string(a.Data) == "more":
		return uint32(mqtt.ContinueAuthentication), abi.AuthAnswer{Data: []byte("go on")}
	}
	return 0, abi.AuthAnswer{Data: a.Data}
}

// Play makes some batches of random events and compares after each. The error is the first difference, or what
// contradicts the contract of package abi.
func (w *Crowd) Play(batches int) error {
	for range batches {
		for range 1 + w.r.IntN(12) {
			w.act(w.r.IntN(crowdSize))
		}
		if err := w.each((*Rig).Run); err != nil {
			return err
		}
		if w.r.IntN(4) > 0 {
			continue
		}
		d := time.Duration(w.r.IntN(4000)) * time.Millisecond
		if err := w.each(func(rig *Rig) error { return rig.Advance(d) }); err != nil {
			return err
		}
	}
	return nil
}

// CompareStats asks all cores for their statistics, which must be the same, but for the bytes of the messages that they
// keep, and the memory that they take: messages that came in one run are kept together, and runs depend on where steps
// end.
func (w *Crowd) CompareStats() error {
	for _, rig := range w.Rigs {
		rig.Event(abi.EventStats, 0, 0, nil)
	}
	if err := w.each((*Rig).Run); err != nil {
		return err
	}
	for k, rig := range w.Rigs[1:] {
		rig.Stats.MessageBytes, rig.Stats.Memory = w.Rigs[0].Stats.MessageBytes, w.Rigs[0].Stats.Memory
		if rig.Stats != w.Rigs[0].Stats {
			return fmt.Errorf("core 0 has counted\n%+v\nand core %d\n%+v", w.Rigs[0].Stats, k+1, rig.Stats)
		}
	}
	return nil
}

// each does something to all rigs, and compares.
func (w *Crowd) each(do func(*Rig) error) error {
	for i, rig := range w.Rigs {
		if err := do(rig); err != nil {
			return fmt.Errorf("core %d: %w", i, err)
		}
	}
	for i, m := range w.members {
		if m.conns == nil {
			continue
		}
		if err := w.compare(m); err != nil {
			return fmt.Errorf("client %d at %v: %w", i, w.Rigs[0].Now(), err)
		}
		if err := m.receive(); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	return nil
}

// compare checks that all cores have written the same to a client.
func (w *Crowd) compare(m *member) error {
	first := m.conns[0]
	for k, c := range m.conns[1:] {
		if !w.Same(c.Stream, first.Stream) || c.Closed != first.Closed || c.Reason != first.Reason || c.Caused != first.Caused {
			return fmt.Errorf("core 0 has written\n%s (closed %v, caused %d)\nand core %d\n%s (closed %v, caused %d)",
				tail(first, m.version), first.Why, first.Caused, k+1, tail(c, m.version), c.Why, c.Caused)
		}
	}
	return nil
}

// receive takes from the first core what must be acknowledged.
func (m *member) receive() error {
	items, err := m.conns[0].Received()
	for _, item := range items {
		m.owe(item.Packet)
	}
	if m.conns[0].Gone() {
		m.conns, m.acks, m.blocked = nil, nil, false
	}
	return err
}

// SameByType compares two streams packet type by packet type. Acknowledgements are gathered, so that what else is
// written to a client may overtake them, until the step ends or all of its packets have been handled.
func SameByType(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	byType := func(b []byte) (list [16][]byte) {
		for len(b) > 0 {
			size, _, _ := mqtt.FrameSize(b)
			kind := mqtt.TypeOf(b)
			list[kind] = append(list[kind], b[:size]...)
			b = b[size:]
		}
		return list
	}
	x, y := byType(a), byType(b)
	for kind := range x {
		if !bytes.Equal(x[kind], y[kind]) {
			return false
		}
	}
	return true
}

// tail writes out the end of what a client has received.
func tail(c *Conn, v mqtt.Version) string {
	var lines []string
	for b := c.Stream; len(b) > 0; {
		size, _, _ := mqtt.FrameSize(b)
		line, err := Describe(b[:size], v)
		if err != nil {
			line = err.Error()
		}
		lines, b = append(lines, line), b[size:]
	}
	return fmt.Sprintf("%q", lines[max(0, len(lines)-12):])
}

// owe notes the answer to a packet.
func (m *member) owe(packet []byte) {
	var p mqtt.Publish
	var a mqtt.Ack
	switch mqtt.TypeOf(packet) {
	case mqtt.PUBLISH:
		if mqtt.ParseServerPublish(packet, m.version, &p); p.QoS == 1 {
			m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBACK, p.PacketID, 0, nil))
		} else if p.QoS == 2 {
			m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBREC, p.PacketID, 0, nil))
		}
	case mqtt.AUTH:
		var auth mqtt.Auth
		if mqtt.ParseServerAuth(packet, m.version, &auth); auth.Reason == mqtt.ContinueAuthentication {
			m.acks = append(m.acks, authPacket(mqtt.ContinueAuthentication, "done"))
		}
	case mqtt.PUBREC:
		mqtt.ParseAck(packet, m.version, &a)
		m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBREL, a.PacketID, 0, nil))
	case mqtt.PUBREL:
		mqtt.ParseAck(packet, m.version, &a)
		m.acks = append(m.acks, mqtt.AppendAck(nil, m.version, mqtt.PUBCOMP, a.PacketID, 0, nil))
	}
}

// act queues one event of a client.
func (w *Crowd) act(i int) {
	m := w.members[i]
	if m.conns == nil {
		w.connect(i, m)
		return
	}
	switch n := w.r.IntN(100); {
	case n < 45:
		w.packets(m, w.publishes(m)...)
	case n < 75:
		k := w.r.IntN(len(m.acks) + 1)
		if k > 0 {
			w.packets(m, m.acks[:k]...)
			m.acks = m.acks[k:]
		}
	case n < 83:
		w.packets(m, mqtt.AppendSubscribe(nil, m.version, 1, w.subscribeProps(m), w.filters()))
	case n < 86:
		w.packets(m, mqtt.AppendUnsubscribe(nil, m.version, 2, nil, [][]byte{[]byte(w.filter())}))
	case n < 90:
		m.blocked = !m.blocked
		kind := abi.EventUnblocked
		if m.blocked {
			kind = abi.EventBlocked
		}
		w.event(m, kind, 0)
	case n < 93:
		for _, c := range m.conns {
			c.Lose()
		}
	case n < 95:
		w.packets(m, mqtt.AppendDisconnect(nil, m.version, mqtt.ReasonCode(4*w.r.IntN(2)), nil))
	case n < 97:
		w.packets(m, mqtt.AppendPingreq(nil))
	case n < 98:
		w.packets(m, w.broken(m))
	case n < 99 && m.method:
		w.packets(m, authPacket(mqtt.ReAuthenticate, []string{"more", "done"}[w.r.IntN(2)]))
	case n < 99:
		w.own()
	default:
		w.packets(m, mqtt.AppendAck(nil, m.version, mqtt.PUBACK+mqtt.PacketType(w.r.IntN(4)), uint16(1+w.r.IntN(30)), 0, nil))
	}
}

func authPacket(reason mqtt.ReasonCode, data string) []byte {
	p := mqtt.Properties{AuthenticationMethod: []byte("m"), AuthenticationData: []byte(data)}
	p.Has = p.Has.With(mqtt.PropAuthenticationMethod).With(mqtt.PropAuthenticationData)
	return mqtt.AppendAuth(nil, reason, &p)
}

// own queues something that the host does without a client.
func (w *Crowd) own() {
	q := abi.Question{Kind: abi.QuestionKind(1 + w.r.IntN(7)), Limit: w.r.Uint32N(4), Text: fmt.Sprintf("c%d", w.r.IntN(crowdSize))}
	if q.Kind == abi.AskRetained || q.Kind == abi.DoClearRetained {
		q.Text = RandomFilter(w.r)
	}
	kind, data := abi.EventAsk, abi.AppendQuestion(nil, &q)
	if w.r.IntN(2) == 0 {
		kind, data = abi.EventPublish, abi.AppendPublication(nil, &abi.Publication{
			Topic: RandomTopic(w.r), Payload: []byte("own"), QoS: byte(w.r.IntN(3)), Retain: w.r.IntN(3) == 0,
		})
	}
	for _, rig := range w.Rigs {
		rig.Event(kind, 0, 1, data)
	}
}

func (w *Crowd) packets(m *member, packets ...[]byte) {
	for _, c := range m.conns {
		c.Packets(packets...)
	}
}

func (w *Crowd) event(m *member, kind abi.EventKind, arg uint32) {
	for _, c := range m.conns {
		c.Event(kind, arg, nil)
	}
}

func (w *Crowd) connect(i int, m *member) {
	m.version = []mqtt.Version{mqtt.V311, mqtt.V5, mqtt.V5, mqtt.V31}[w.r.IntN(4)]
	req := mqtt.Connect{
		Version: m.version, CleanStart: w.r.IntN(4) == 0, KeepAlive: uint16(w.r.IntN(3) * 5), ClientID: fmt.Appendf(nil, "c%d", w.r.IntN(crowdSize)),
	}
	if req.HasWill = w.r.IntN(3) == 0; req.HasWill {
		req.Will = mqtt.Will{Topic: []byte(RandomTopic(w.r)), Payload: fmt.Appendf(nil, "will %d", w.r.IntN(1000)), QoS: byte(w.r.IntN(3)), Retain: w.r.IntN(2) == 0}
		req.Will.Props.Has = mqtt.PropertySet(0).With(mqtt.PropWillDelayInterval).With(mqtt.PropContentType)
		req.Will.Props.WillDelayInterval, req.Will.Props.ContentType = uint32(w.r.IntN(4)), []byte("will")
	}
	p := &req.Props
	p.Has = mqtt.PropertySet(0).With(mqtt.PropSessionExpiryInterval).With(mqtt.PropReceiveMaximum)
	p.SessionExpiryInterval, p.ReceiveMaximum = uint32(w.r.IntN(4)*3), uint16(1+w.r.IntN(6))
	if w.r.IntN(2) == 0 {
		p.Has = p.Has.With(mqtt.PropTopicAliasMaximum)
		p.TopicAliasMaximum = uint16(w.r.IntN(4))
	}
	if w.r.IntN(3) == 0 {
		p.Has = p.Has.With(mqtt.PropMaximumPacketSize)
		p.MaximumPacketSize = 20 + w.r.Uint32N(100)
	}
	peer := abi.Peer{Listener: "plain", Authenticate: w.r.IntN(3) == 0}
	if req.HasUsername = w.r.IntN(10) == 0; req.HasUsername {
		req.Username = []byte("stranger")
	}
	if m.method = m.version == mqtt.V5 && w.r.IntN(4) == 0; m.method {
		p.Has = p.Has.With(mqtt.PropAuthenticationMethod).With(mqtt.PropAuthenticationData)
		p.AuthenticationMethod, p.AuthenticationData = []byte("m"), []byte([]string{"more", "done"}[w.r.IntN(2)])
	}
	for _, rig := range w.Rigs {
		m.conns = append(m.conns, rig.Open(&peer))
	}
	w.packets(m, mqtt.AppendConnect(nil, &req))
}

// publishes makes some PUBLISH packets, most of them plain ones to one topic.
func (w *Crowd) publishes(m *member) (packets [][]byte) {
	topic := []byte(RandomTopic(w.r))
	if w.r.IntN(4) == 0 {
		return w.alike(m, topic)
	}
	for range 1 + w.r.IntN(6) {
		p := mqtt.Publish{Topic: topic, Payload: fmt.Appendf(nil, "%d", w.r.IntN(1000))}
		if w.r.IntN(6) == 0 {
			p.Payload = bytes.Repeat([]byte{'x'}, w.r.IntN(300)) // the length of the length changes
		}
		if w.r.IntN(40) == 0 {
			p.Payload = bytes.Repeat([]byte{'y'}, w.r.IntN(40_000))
		}
		if w.r.IntN(3) == 0 {
			p.QoS, p.PacketID = byte(1+w.r.IntN(2)), uint16(1+w.r.IntN(5))
		}
		p.Retain = w.r.IntN(8) == 0
		if w.r.IntN(8) == 0 {
			w.decorate(&p)
		}
		packets = append(packets, mqtt.AppendPublish(nil, m.version, &p))
	}
	return packets
}

// alike makes plain PUBLISH packets that differ in their payloads and packet ids alone, and now and then in their topic.
func (w *Crowd) alike(m *member, topic []byte) (packets [][]byte) {
	other := bytes.Clone(topic)
	if len(other) > 0 {
		other[len(other)-1] = 'c'
	}
	qos := byte(w.r.IntN(3))
	for range 2 + w.r.IntN(30) {
		p := mqtt.Publish{Topic: topic, Payload: fmt.Appendf(nil, "%04d", w.r.IntN(10_000)), QoS: qos}
		if qos > 0 {
			if m.lastID++; m.lastID%250 < 10 || w.r.IntN(40) == 0 {
				m.lastID += 10 // the lowest are for publishes
			}
			p.PacketID = m.lastID
		}
		if w.r.IntN(10) == 0 {
			p.Topic = other
		}
		packets = append(packets, mqtt.AppendPublish(nil, m.version, &p))
	}
	return packets
}

// decorate gives a PUBLISH properties.
func (w *Crowd) decorate(p *mqtt.Publish) {
	p.Props.Has = mqtt.PropertySet(0).With(mqtt.PropUserProperty)
	p.Props.User = mqtt.AppendUser(nil, []byte("k"), []byte("v"))
	if w.r.IntN(2) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropMessageExpiryInterval)
		p.Props.MessageExpiryInterval = uint32(w.r.IntN(4))
	}
	if w.r.IntN(2) == 0 {
		p.Props.Has = p.Props.Has.With(mqtt.PropTopicAlias)
		p.Props.TopicAlias = uint16(1 + w.r.IntN(4))
		if w.r.IntN(4) == 0 {
			p.Topic = nil
		}
	}
}

func (w *Crowd) subscribeProps(m *member) *mqtt.Properties {
	p := &mqtt.Properties{}
	if m.version == mqtt.V5 && w.r.IntN(2) == 0 {
		p.Has = p.Has.With(mqtt.PropSubscriptionIdentifier)
		p.SubscriptionIDs = []uint32{1 + w.r.Uint32N(300)}
	}
	return p
}

func (w *Crowd) filters() (list []mqtt.Filter) {
	for range 1 + w.r.IntN(3) {
		list = append(list, mqtt.Filter{
			Topic: []byte(w.filter()), QoS: byte(w.r.IntN(3)), NoLocal: w.r.IntN(6) == 0,
			RetainAsPublished: w.r.IntN(3) == 0, RetainHandling: byte(w.r.IntN(3)),
		})
	}
	return list
}

// filter returns a filter, now and then a shared one. Few of these, so that groups have members.
func (w *Crowd) filter() string {
	if w.r.IntN(4) > 0 {
		return RandomFilter(w.r)
	}
	shared := []string{"$share/g/#", "$share/g/a/#", "$share/h/+/+", "$share/h/#", "$share/+/a", "$share/g/$x/#"}
	return shared[w.r.IntN(len(shared))]
}

// broken is a packet with one byte changed.
func (w *Crowd) broken(m *member) []byte {
	p := w.publishes(m)[0]
	if len(p) < 128 {
		p[2+w.r.IntN(len(p)-2)] ^= byte(1 << w.r.IntN(8))
	}
	return p
}

// RandomTopic returns one of few topics, now and then an empty one.
func RandomTopic(r *rand.Rand) string {
	levels := []string{"a", "b", "c", "", "$x"}
	topic := levels[r.IntN(len(levels))]
	for range r.IntN(4) {
		topic += "/" + levels[r.IntN(len(levels))]
	}
	return topic
}

// RandomFilter returns a filter that matches some of them, now and then an empty one.
func RandomFilter(r *rand.Rand) string {
	levels := []string{"a", "b", "c", "", "+", "+", "$x"}
	filter := levels[r.IntN(len(levels))]
	for range r.IntN(4) {
		filter += "/" + levels[r.IntN(len(levels))]
	}
	if r.IntN(3) == 0 {
		filter += "/#"
	}
	if r.IntN(30) == 0 {
		filter = "#"
	}
	return filter
}
