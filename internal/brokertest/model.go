package brokertest

import (
	"maps"
	"slices"
	"strings"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// model is a broker in as few lines as possible: maps and lists, no packets, no effects, and nothing in common with the
// core. It says what each client must get. What it cannot know, such as which member of a group gets a message or in
// which order retained messages come, it takes from what came, see modelSession.accept.
type model struct {
	now      int64 // milliseconds since the test began
	limits   modelLimits
	sessions map[string]*modelSession
	retained map[string]*modelMessage // by topic
	groups   map[string]*modelGroup   // by filter, with "$share/NAME/"
	bursts   int
}

// modelLimits are those that the model knows.
type modelLimits struct {
	queued   int // messages of QoS 1 and 2 that may wait for one session
	retained int // messages
}

// modelMessage is a message as its publisher sent it.
type modelMessage struct {
	from           string // client id, "" is the host
	topic, payload string
	user           string // value of its user property, "" is none
	qos            byte
	retain         bool
	big            bool  // larger than some clients take
	life           int64 // message expiry interval in milliseconds, -1 is none
	expires        int64 // -1 is never
	at             int64 // when it was published
}

type modelSubscription struct {
	qos, retainHandling        byte
	noLocal, retainAsPublished bool
	identifier                 uint32
}

// modelDelivery is a message on its way to one session.
type modelDelivery struct {
	*modelMessage
	level  byte // QoS
	flag   bool // retain flag in the packet
	ids    []uint32
	burst  int  // those of one burst, which is not 0, come in any order
	maybe  bool // the queue was perhaps full
	must   bool // of a group: some member must get it
	id     uint16
	has    bool // the client has sent PUBREC
	again  bool // it must be sent again on this connection
	due    int  // PUBRELs that must come
	group  *modelGroup
	serial int
}

// modelSession is what MQTT keeps for a client (4.1).
type modelSession struct {
	client          string
	version         mqtt.Version
	online, blocked bool
	quiet           bool // blocked since before this batch
	small           bool // the client takes no big messages
	window          int
	expiry          uint32
	endsAt, willAt  int64 // -1 is never
	will            *modelMessage
	willDelay       uint32
	subscriptions   map[string]modelSubscription
	member          map[string]bool  // groups that it is or was in
	instant         []*modelDelivery // QoS 0, to come in this batch
	queue           []*modelDelivery // QoS 1 and 2
	flight          []*modelDelivery // in the order in which they were sent first
	incoming        map[uint16]bool  // QoS 2 ids not released
	answers         []string         // what its packets must be answered with, in order
}

// modelGroup is a shared subscription.
type modelGroup struct {
	name   string // filter with "$share/NAME/"
	filter string // without
	number uint32 // subscription identifier of all members, by which its messages are known
	grants map[*modelSession]byte
	pool   []*modelDelivery // that no member has been sent yet
	serial int              // changes when the last member goes
}

const (
	modelForever = 0xFFFFFFFF
	modelNever   = -1
)

func newModel(limits modelLimits) *model {
	return &model{
		limits: limits, sessions: map[string]*modelSession{}, retained: map[string]*modelMessage{}, groups: map[string]*modelGroup{},
	}
}

// modelMatch compares level by level (4.7).
func modelMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && strings.ContainsAny(f[0], "+#") {
		return false // [MQTT-4.7.2-1]
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t) || level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t)
}

// publish hands a message to all that it is for. It returns how many these are, and false if it is refused because
// there is no room for one more retained message; a will is not refused.
func (m *model) publish(msg *modelMessage, isWill bool) (receivers int, ok bool) {
	if msg.retain && !m.keep(msg) && !isWill {
		return 0, false
	}
	for _, s := range m.sessions {
		if d := s.match(msg); d != nil {
			receivers++
			m.deliver(s, d)
		}
	}
	for _, g := range m.groups {
		if len(g.grants) > 0 && modelMatch(g.filter, msg.topic) {
			receivers++
			m.share(g, msg)
		}
	}
	return receivers, true
}

// keep makes a message the retained message of its topic [MQTT-3.3.1-5], or removes that [MQTT-3.3.1-6].
func (m *model) keep(msg *modelMessage) bool {
	_, had := m.retained[msg.topic]
	switch {
	case msg.payload == "":
		delete(m.retained, msg.topic)
	case !had && len(m.retained) >= m.limits.retained:
		return false
	default:
		m.retained[msg.topic] = msg
	}
	return true
}

// match returns what a session gets of a message by its subscriptions: one copy at the highest QoS (3.3.4).
func (s *modelSession) match(msg *modelMessage) *modelDelivery {
	d, found := &modelDelivery{modelMessage: msg}, false
	for filter, sub := range s.subscriptions {
		if strings.HasPrefix(filter, "$share/") || sub.noLocal && s.client == msg.from || !modelMatch(filter, msg.topic) {
			continue
		}
		found = true
		d.level = max(d.level, min(sub.qos, msg.qos))
		d.flag = d.flag || msg.retain && sub.retainAsPublished
		if sub.identifier != 0 && s.version == mqtt.V5 {
			d.ids = append(d.ids, sub.identifier)
		}
	}
	if !found {
		return nil
	}
	slices.Sort(d.ids)
	return d
}

// deliver gives a session a message: at once or never at QoS 0, in the end at others unless the queue is full.
func (m *model) deliver(s *modelSession, d *modelDelivery) {
	switch {
	case s.online && s.small && d.big:
		return
	case d.level == 0:
		if s.online && !s.blocked {
			s.instant = append(s.instant, d)
		}
		return
	}
	certain := 0 // those that have expired may make room
	for _, q := range s.queue {
		if !q.maybe && !q.expired(m.now) {
			certain++
		}
	}
	if certain >= m.limits.queued+s.room() {
		return
	}
	d.maybe = m.waiting(s) >= m.limits.queued
	s.queue = append(s.queue, d)
}

// waiting says how many messages can be in a session's queue at most: some of its groups may wait there too.
func (m *model) waiting(s *modelSession) int {
	n := len(s.queue)
	for name := range s.member {
		n += len(m.groups[name].pool)
	}
	return n
}

// room says how many messages more can be sent to a client now.
func (s *modelSession) room() int {
	if s.blocked {
		return 0
	}
	return s.windowLeft()
}

// windowLeft says how many messages more may be on their way to a client.
func (s *modelSession) windowLeft() int {
	if !s.online {
		return 0
	}
	room := s.window
	for _, d := range s.flight {
		if !d.again {
			room--
		}
	}
	return room
}

// share notes that one member of a group must get a message, if any can or will be able to.
func (m *model) share(g *modelGroup, msg *modelMessage) {
	d := &modelDelivery{modelMessage: msg, group: g, ids: []uint32{g.number}, serial: g.serial}
	d.must = g.keepers() > 0 && msg.qos > 0
	for s, grant := range g.grants {
		if s.online && !s.blocked {
			d.must = d.must || grant == 0 || msg.qos == 0
		}
	}
	d.must = d.must && len(g.pool) < m.limits.queued
	g.pool = append(g.pool, d)
}

// keepers says how many members can have messages wait for them.
func (g *modelGroup) keepers() (n int) {
	for _, grant := range g.grants {
		if grant > 0 {
			n++
		}
	}
	return n
}

// subscribe makes a subscription and returns whether retained messages come.
func (m *model) subscribe(s *modelSession, filter string, sub modelSubscription) {
	_, had := s.subscriptions[filter]
	s.subscriptions[filter] = sub
	if g := m.groups[filter]; g != nil {
		g.grants[s], s.member[filter] = sub.qos, true
		return
	}
	if sub.retainHandling == 2 || sub.retainHandling == 1 && had {
		return
	}
	m.bursts++
	for topic, msg := range m.retained {
		if !modelMatch(filter, topic) || msg.expired(m.now) {
			continue
		}
		d := &modelDelivery{modelMessage: msg, level: min(msg.qos, sub.qos), flag: true, burst: m.bursts}
		if sub.identifier != 0 && s.version == mqtt.V5 {
			d.ids = []uint32{sub.identifier}
		}
		m.deliver(s, d)
	}
}

func (m *model) unsubscribe(s *modelSession, filter string) (had bool) {
	_, had = s.subscriptions[filter]
	delete(s.subscriptions, filter)
	if g := m.groups[filter]; g != nil {
		g.remove(s)
	}
	return had
}

// remove takes a member out of a group. What waits for nobody is lost.
func (g *modelGroup) remove(s *modelSession) {
	if _, is := g.grants[s]; !is {
		return
	}
	delete(g.grants, s)
	if len(g.grants) == 0 {
		g.serial++
	}
	if g.keepers() == 0 {
		for _, d := range g.pool {
			d.must = false
		}
	}
}

// connect gives a client its session, and says whether it had one.
func (m *model) connect(client string, cleanStart bool) (s *modelSession, present bool) {
	if s = m.sessions[client]; s != nil && s.online {
		m.leave(s) // [MQTT-3.1.4-3]
		s = m.sessions[client]
	}
	if s != nil && cleanStart { // [MQTT-3.1.2-4]
		if s.willAt != modelNever {
			m.publishWill(s)
		}
		m.end(s)
		s = nil
	}
	present = s != nil
	if !present {
		s = &modelSession{client: client, subscriptions: map[string]modelSubscription{}, member: map[string]bool{}, incoming: map[uint16]bool{}}
		m.sessions[client] = s
	}
	s.online, s.endsAt, s.willAt, s.will = true, modelNever, modelNever, nil
	s.instant, s.answers, s.quiet = nil, nil, false
	for _, d := range s.flight {
		d.again, d.due = true, 0
	}
	return s, present
}

// leave takes the connection from a session: its will and its end come due.
func (m *model) leave(s *modelSession) {
	s.online, s.blocked, s.quiet = false, false, false
	if s.will != nil {
		s.willAt = m.now + int64(min(s.willDelay, s.expiry))*1000 // 3.1.3.2.2
	}
	if s.expiry != modelForever {
		s.endsAt = m.now + int64(s.expiry)*1000
	}
	m.due(s)
}

// due does what has come due for a session without a connection.
func (m *model) due(s *modelSession) {
	if s.willAt != modelNever && s.willAt <= m.now {
		m.publishWill(s)
	}
	if s.endsAt != modelNever && s.endsAt <= m.now {
		m.end(s)
	}
}

func (m *model) publishWill(s *modelSession) {
	w := s.will
	s.will, s.willAt = nil, modelNever
	m.publish(w.born(m.now), true) // its life begins now
}

// end ends a session. What it has of groups at QoS 1 goes to other members (4.8.2).
func (m *model) end(s *modelSession) {
	delete(m.sessions, s.client)
	for filter := range s.member {
		m.groups[filter].remove(s)
	}
	for _, d := range s.flight {
		if g := d.group; g != nil && d.level == 1 && g.serial == d.serial && g.keepers() > 0 {
			back := &modelDelivery{modelMessage: d.modelMessage, group: g, ids: d.ids, serial: d.serial}
			back.must = true
			g.pool = append(g.pool, back)
		}
	}
}

// nextDue returns when the next session comes due, or modelNever.
func (m *model) nextDue() int64 {
	next := int64(modelNever)
	for _, s := range m.sessions {
		for _, t := range []int64{s.willAt, s.endsAt} {
			if !s.online && t != modelNever && (next == modelNever || t < next) {
				next = t
			}
		}
	}
	return next
}

// advance lets time pass, but not beyond the time that nextDue says.
func (m *model) advance(now int64) {
	m.now = now
	for _, client := range slices.Sorted(maps.Keys(m.sessions)) {
		if s := m.sessions[client]; !s.online {
			m.due(s)
		}
	}
}

// born returns the message as it is published at a time.
func (msg modelMessage) born(now int64) *modelMessage {
	msg.at, msg.expires = now, modelNever
	if msg.life != modelNever {
		msg.expires = now + msg.life
	}
	return &msg
}

func (msg *modelMessage) expired(now int64) bool {
	return msg.expires != modelNever && msg.expires <= now
}

// left is the message expiry interval that a receiver is told, in seconds, or -1.
func (msg *modelMessage) left(now int64) int64 {
	if msg.expires == modelNever {
		return -1
	}
	return (max(msg.expires-now, 0) + 999) / 1000
}
