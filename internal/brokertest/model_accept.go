package brokertest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// accept takes a packet that the core has sent to the client of a session. The error says why it must not have.
func (m *model) accept(s *modelSession, packet []byte) error {
	switch mqtt.TypeOf(packet) {
	case mqtt.PUBLISH:
		return m.acceptPublish(s, packet)
	case mqtt.PUBREL:
		return s.acceptRelease(packet)
	}
	text, err := modelAnswer(packet, s.version)
	switch {
	case err != nil:
		return err
	case len(s.answers) == 0:
		return fmt.Errorf("answers %q, which nothing has asked for", text)
	case s.answers[0] != text:
		return fmt.Errorf("answers %q, not %q", text, s.answers[0])
	}
	s.answers = s.answers[1:]
	return nil
}

// modelAnswer writes out an answer to a packet of the client.
func modelAnswer(packet []byte, v mqtt.Version) (string, error) {
	var fault *mqtt.Fault
	kind, id, codes := mqtt.TypeOf(packet), uint16(0), []byte(nil)
	switch kind {
	case mqtt.CONNACK:
		var c mqtt.Connack
		fault = mqtt.ParseConnack(packet, v, &c)
		return connackText(c.SessionPresent, byte(c.Reason)), modelFault(fault)
	case mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP:
		var a mqtt.Ack
		fault = mqtt.ParseAck(packet, v, &a)
		id, codes = a.PacketID, []byte{byte(a.Reason)}
	case mqtt.SUBACK:
		var a mqtt.Suback
		fault = mqtt.ParseSuback(packet, v, &a)
		id, codes = a.PacketID, a.Codes
	case mqtt.UNSUBACK:
		var a mqtt.Unsuback
		fault = mqtt.ParseUnsuback(packet, v, &a)
		id, codes = a.PacketID, a.Codes
	default:
		return "", fmt.Errorf("sends a packet of type %d: % x", kind, packet)
	}
	return answerText(kind, id, codes...), modelFault(fault)
}

func modelFault(fault *mqtt.Fault) error {
	if fault == nil {
		return nil
	}
	return fault.Err()
}

func connackText(present bool, reason byte) string {
	return fmt.Sprintf("CONNACK present=%v % x", present, reason)
}

func answerText(kind mqtt.PacketType, id uint16, codes ...byte) string {
	return fmt.Sprintf("%d id=%d % x", kind, id, codes)
}

// acceptRelease takes a PUBREL: it answers a PUBREC, or is sent again in its turn [MQTT-4.4.0-1].
func (s *modelSession) acceptRelease(packet []byte) error {
	var a mqtt.Ack
	if fault := mqtt.ParseAck(packet, s.version, &a); fault != nil {
		return fault.Err()
	}
	d := s.inFlight(a.PacketID)
	switch {
	case d == nil || !d.has || a.Reason != mqtt.Success:
		return fmt.Errorf("sends PUBREL %d with reason %#x, which the client has not asked for", a.PacketID, byte(a.Reason))
	case d.again && d != s.nextAgain():
		return fmt.Errorf("sends PUBREL %d again out of turn", a.PacketID)
	case d.again:
		d.again = false
	case d.due == 0:
		return fmt.Errorf("sends PUBREL %d once too often", a.PacketID)
	default:
		d.due--
	}
	return nil
}

func (s *modelSession) inFlight(id uint16) *modelDelivery {
	for _, d := range s.flight {
		if d.id == id {
			return d
		}
	}
	return nil
}

// nextAgain returns what must be sent again next. What is larger than the client takes now counts as sent and
// acknowledged [MQTT-3.1.2-25].
func (s *modelSession) nextAgain() *modelDelivery {
	for i, d := range s.flight {
		switch {
		case !d.again:
		case !d.has && s.small && d.big:
			s.flight = slices.Delete(slices.Clone(s.flight), i, i+1)
			return s.nextAgain()
		default:
			return d
		}
	}
	return nil
}

// acceptPublish takes a PUBLISH: what is due at QoS 0, what must be sent again, what is next in the queue, or what is for
// a group.
func (m *model) acceptPublish(s *modelSession, packet []byte) error {
	var p mqtt.Publish
	if fault := mqtt.ParseServerPublish(packet, s.version, &p); fault != nil {
		return fault.Err()
	}
	if s.quiet {
		return fmt.Errorf("sends %s although the connection is blocked", publishText(&p))
	}
	var err error
	switch {
	case p.Dup:
		err = m.acceptAgain(s, &p)
	case p.QoS > 0 && s.windowLeft() == 0:
		err = errors.New("the client has as many messages in flight as it takes")
	case p.QoS > 0 && s.nextAgain() != nil:
		err = errors.New("others must be sent again before")
	case p.QoS > 0 && s.inFlight(p.PacketID) != nil:
		err = errors.New("its packet id is in use")
	case m.groupOf(&p) != nil:
		err = m.acceptShared(s, m.groupOf(&p), &p)
	case p.QoS == 0:
		s.instant, _, err = m.acceptFirst(s, s.instant, &p)
	default:
		var d *modelDelivery
		if s.queue, d, err = m.acceptFirst(s, s.queue, &p); err == nil {
			d.id = p.PacketID
			s.flight = append(s.flight, d)
		}
	}
	if err != nil {
		return fmt.Errorf("sends %s: %w", publishText(&p), err)
	}
	return nil
}

// acceptAgain takes what was in flight when the last connection ended [MQTT-4.4.0-1].
func (m *model) acceptAgain(s *modelSession, p *mqtt.Publish) error {
	d := s.nextAgain()
	switch {
	case d == nil:
		return errors.New("nothing must be sent again")
	case d.has || d.id != p.PacketID || !m.same(s, d, p):
		return fmt.Errorf("the next to be sent again is %d: %s", d.id, d)
	case s.windowLeft() == 0:
		return errors.New("the client has as many messages in flight as it takes")
	}
	d.again = false
	return nil
}

// acceptFirst takes the first of a list, or another of its burst. It passes over what may have been dropped.
func (m *model) acceptFirst(s *modelSession, list []*modelDelivery, p *mqtt.Publish) ([]*modelDelivery, *modelDelivery, error) {
	for len(list) > 0 {
		first := 1 + slices.IndexFunc(list[1:], func(d *modelDelivery) bool { return d.burst == 0 || d.burst != list[0].burst })
		if first == 0 {
			first = len(list)
		}
		for i, d := range list[:first] {
			if m.same(s, d, p) && m.mayCome(s, d) {
				m.passOver(s, list[:first])
				return slices.Delete(slices.Clone(list), i, i+1), d, nil
			}
		}
		for _, d := range list[:first] {
			if !m.mayDrop(s, d) {
				return list, nil, fmt.Errorf("the next is %s", d)
			}
		}
		list = list[first:]
	}
	return list, nil, errors.New("nothing like that is to be sent")
}

// passOver notes that of a burst, in which one has come, those that the client does not take now have perhaps had their turn.
func (m *model) passOver(s *modelSession, burst []*modelDelivery) {
	for _, d := range burst {
		d.maybe = d.maybe || m.mayDrop(s, d)
	}
}

// mayCome says whether a message may be sent: it has not expired while it waited (3.3.2.3.3).
func (m *model) mayCome(s *modelSession, d *modelDelivery) bool {
	return !(s.small && d.big) && (!d.expired(m.now) || d.at == m.now || d.level == 0)
}

// mayDrop says whether it is right that a message is not sent when its turn has come.
func (m *model) mayDrop(s *modelSession, d *modelDelivery) bool {
	return d.maybe || d.expired(m.now) || s.small && d.big
}

// same says whether a packet is the one that a delivery should be.
func (m *model) same(s *modelSession, d *modelDelivery, p *mqtt.Publish) bool {
	if d.topic != string(p.Topic) || d.payload != string(p.Payload) || d.level != p.QoS || d.flag != p.Retain {
		return false
	}
	if s.version != mqtt.V5 {
		return true
	}
	left := int64(-1)
	if p.Props.Has.Has(mqtt.PropMessageExpiryInterval) {
		left = int64(p.Props.MessageExpiryInterval)
	}
	return left == d.left(m.now) && userOf(p) == d.user && slices.Equal(identifiersOf(p), d.ids)
}

func identifiersOf(p *mqtt.Publish) (ids []uint32) {
	if p.Props.Has.Has(mqtt.PropSubscriptionIdentifier) {
		ids = slices.Sorted(slices.Values(p.Props.SubscriptionIDs))
	}
	return ids
}

// userOf returns the value of the user property.
func userOf(p *mqtt.Publish) string {
	if !p.Props.Has.Has(mqtt.PropUserProperty) {
		return ""
	}
	rest := p.Props.User
	_, value, _ := mqtt.NextUser(&rest)
	return string(value)
}

// groupOf returns the group by which a message came, or nil.
func (m *model) groupOf(p *mqtt.Publish) *modelGroup {
	for _, g := range m.groups {
		if slices.Equal(identifiersOf(p), []uint32{g.number}) {
			return g
		}
	}
	return nil
}

// acceptShared takes a message of a group that no other member has been sent.
func (m *model) acceptShared(s *modelSession, g *modelGroup, p *mqtt.Publish) error {
	byMust := slices.SortedStableFunc(slices.Values(g.pool), func(a, b *modelDelivery) int {
		// Messages can look the same: those that came again after a reconnect, and those without a payload.
		return cmp.Or(cmp.Compare(modelBool(b.must), modelBool(a.must)), cmp.Compare(a.qos, b.qos))
	})
	for _, d := range byMust {
		offered := *d
		offered.level, offered.flag = min(d.qos, modelGrant(s.client, g.number)), false
		if !m.same(s, &offered, p) || !m.mayCome(s, &offered) {
			continue
		}
		g.pool = slices.DeleteFunc(g.pool, func(other *modelDelivery) bool { return other == d })
		if p.QoS > 0 {
			offered.id = p.PacketID
			s.flight = append(s.flight, &offered)
		}
		if !s.member[g.name] {
			return errors.New("the client has never been a member of the group")
		}
		return nil
	}
	return errors.New("no message of the group waits that is like that")
}

func modelBool(b bool) int {
	if b {
		return 1
	}
	return 0
}

// acknowledge takes a PUBACK, PUBREC or PUBCOMP of a client, and returns whether it means anything.
func (s *modelSession) acknowledge(kind mqtt.PacketType, id uint16, failed bool) {
	d := s.inFlight(id)
	switch {
	case d == nil:
	case kind == mqtt.PUBREC && d.level == 2 && !failed:
		d.has, d.again = true, false
		d.due++
	case kind == mqtt.PUBREC && d.level == 2, kind == mqtt.PUBACK && d.level == 1, kind == mqtt.PUBCOMP && d.has:
		s.flight = slices.DeleteFunc(slices.Clone(s.flight), func(f *modelDelivery) bool { return f == d })
	}
}

// settle checks, at the end of a batch, that all has been sent that can be.
func (m *model) settle() error {
	for _, s := range m.sessions {
		if err := m.settleSession(s); err != nil {
			return fmt.Errorf("to %s the core %w", s.client, err)
		}
	}
	for _, g := range m.groups {
		if err := m.settleGroup(g); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) settleSession(s *modelSession) error {
	defer func() { s.quiet = s.blocked }()
	switch {
	case len(s.instant) > 0:
		return fmt.Errorf("has not sent %s", s.instant[0])
	case len(s.answers) > 0:
		return fmt.Errorf("has not answered %q", s.answers[0])
	case !s.online:
		return nil
	}
	for _, d := range s.flight {
		if d.due > 0 && !d.again {
			return fmt.Errorf("has not sent PUBREL %d", d.id)
		}
	}
	if s.room() == 0 {
		return nil
	}
	if d := s.nextAgain(); d != nil {
		return fmt.Errorf("has not sent again %d: %s", d.id, d)
	}
	for _, d := range s.queue {
		if !m.mayDrop(s, d) {
			return fmt.Errorf("has not sent %s, although the client could take %d more", d, s.room())
		}
	}
	s.queue = nil
	return nil
}

// settleGroup checks that nothing waits with a group if all members that are there could take more.
func (m *model) settleGroup(g *modelGroup) error {
	able, busy := 0, 0
	for s, grant := range g.grants {
		switch {
		case !s.online || grant == 0:
		case s.room() == 0:
			busy++
		default:
			able++
		}
	}
	now := able > 0 && busy == 0 || g.keepers() == 0
	for _, d := range g.pool {
		if d.must && !d.expired(m.now) && (now || d.qos == 0) {
			return fmt.Errorf("no member of %s has been sent %s", g.name, d)
		}
	}
	g.pool = slices.DeleteFunc(g.pool, func(d *modelDelivery) bool { return d.qos == 0 })
	return nil
}

// String is for errors.
func (d *modelDelivery) String() string {
	return fmt.Sprintf("%s=%.24q qos=%d of %d retain=%v ids=%v user=%q expires=%d from %s at %d",
		d.topic, d.payload, d.level, d.qos, d.flag, d.ids, d.user, d.expires, d.from, d.at)
}

func publishText(p *mqtt.Publish) string {
	return fmt.Sprintf("PUBLISH id=%d dup=%v %s=%.24q qos=%d retain=%v ids=%v user=%q left=%d",
		p.PacketID, p.Dup, p.Topic, p.Payload, p.QoS, p.Retain, identifiersOf(p), userOf(p), p.Props.MessageExpiryInterval)
}
