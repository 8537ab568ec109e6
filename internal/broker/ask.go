package broker

import (
	"bytes"
	"slices"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Questions of the host are answered a page at a time, in the order of the numbers that things have in their tables.
// What stays throughout keeps its number and is not missed; what comes or goes meanwhile may or may not be told. Where
// little of what is looked at fits the question a page may be empty, with a cursor to ask on with.
const (
	pageRecords = 256      // records of one page, at most
	pageBytes   = 64 << 10 // bytes after which a page ends
	pageLooked  = 4096     // numbers that are looked at for one page
)

// page is an answer that is being made.
type page struct {
	limit  uint32
	count  uint32
	cursor uint32
	at     int // where its effect begins
}

// ask answers a question.
func (c *Core) ask(e *abi.Event) {
	q := &c.question
	if abi.ReadQuestion(e.Data, q) != nil {
		*q = abi.Question{} // answered too: the host waits
	}
	c.work++
	switch q.Kind {
	case abi.DoDisconnect:
		c.answerDone(e.Arg, q, c.disconnectByID(q))
	case abi.DoForget:
		c.answerDone(e.Arg, q, c.forgetByID(q))
	default:
		c.answerPage(e.Arg, q)
	}
}

// answerDone answers a question that is about one thing and asks for no record.
func (c *Core) answerDone(number uint32, q *abi.Question, done bool) {
	a := c.beginAnswer(number, q)
	if done {
		a.count = 1
	}
	c.endAnswer(&a)
}

// answerPage answers a question that is about many things.
func (c *Core) answerPage(number uint32, q *abi.Question) {
	a := c.beginAnswer(number, q)
	switch q.Kind {
	case abi.AskSessions:
		c.pageSessions(&a, q.Cursor)
	case abi.AskSession:
		if id, _ := c.findSession([]byte(q.Text)); id != 0 {
			c.tellSession(&a, id)
		}
	case abi.AskSubscriptions:
		c.pageSubscriptions(&a, q)
	case abi.AskRetained:
		c.pageRetained(&a, q, c.tellRetained)
	case abi.DoClearRetained:
		c.pageRetained(&a, q, c.clearRetained)
	}
	c.work += a.count
	c.endAnswer(&a)
}

// beginAnswer begins an effect to which records may be appended; nothing else may be until endAnswer.
func (c *Core) beginAnswer(number uint32, q *abi.Question) page {
	c.sendAt = 0
	a := page{limit: q.Limit, at: len(c.out)}
	if a.limit == 0 || a.limit > pageRecords {
		a.limit = pageRecords
	}
	c.out = abi.BeginEffect(c.out, abi.EffectAnswer, 0, 0, number)
	c.out = abi.BeginAnswer(c.out, q.Kind)
	return a
}

func (c *Core) endAnswer(a *page) {
	abi.EndAnswer(c.out, a.at+abi.EffectHeaderSize, a.cursor, a.count)
	abi.EndEffect(c.out, a.at)
}

// pageFull says whether a page takes no more records.
func (c *Core) pageFull(a *page) bool { return a.count >= a.limit || len(c.out)-a.at >= pageBytes }

// pageSessions tells of sessions from number cursor on.
func (c *Core) pageSessions(a *page, cursor uint32) {
	c.sweep(a, cursor, c.sessions.next, func(id uint32) {
		if c.sessions.at(id).clientID.size > 0 {
			c.tellSession(a, id)
		}
	})
}

// sweep looks at numbers from cursor to below end until a page is full or it has looked at enough.
func (c *Core) sweep(a *page, cursor, end uint32, look func(id uint32)) {
	cursor = max(cursor, 1)
	stop := min(uint64(cursor)+pageLooked, uint64(end))
	for id := cursor; uint64(id) < stop; id++ {
		if c.pageFull(a) {
			a.cursor = id
			return
		}
		look(id)
	}
	c.work += scanWork
	if stop < uint64(end) {
		a.cursor = uint32(stop)
	}
}

// tellSession appends what a session is.
func (c *Core) tellSession(a *page, id uint32) {
	s := c.sessions.at(id)
	identity, user, _ := bytes.Cut(c.store.bytes(s.owner), []byte{0}) // see ownerOf
	r := abi.SessionRecord{
		ClientID: string(c.store.bytes(s.clientID)), User: string(user), Identity: string(identity), Conn: s.conn,
		Version: uint8(s.version), Expiry: s.expiry, Subscriptions: s.subscriptions, Queued: s.queued,
		QueuedBytes: s.queuedBytes, Inflight: s.inflight, Received: s.receivedCount, Will: s.will != 0,
	}
	if p := c.connectionOf(s.conn); p != nil {
		r.KeepAlive = uint16(p.overdue / 1500)
	} else if r.ExpiresIn = s.expiry; s.expiresAt != 0 {
		r.ExpiresIn = c.secondsUntil(s.expiresAt)
	}
	c.out = abi.AppendSessionRecord(c.out, &r)
	a.count++
}

// secondsUntil returns how many seconds are left until a time, a part of one counts whole.
func (c *Core) secondsUntil(at int64) uint32 { return uint32((max(at-c.now, 0) + 999) / 1000) }

// pageSubscriptions tells of the subscriptions of one session, or of all.
func (c *Core) pageSubscriptions(a *page, q *abi.Question) {
	var session uint32
	if q.Text != "" {
		if session, _ = c.findSession([]byte(q.Text)); session == 0 {
			return
		}
		if s := c.sessions.at(session); s.subscriptions <= pageLooked {
			c.tellChain(a, s.firstSubscription, q.Cursor)
			return
		}
	}
	c.sweep(a, q.Cursor, c.subscriptions.next, func(id uint32) {
		if of := c.subscriptions.at(id).session; of != 0 && (session == 0 || session == of) {
			c.tellSubscription(a, id)
		}
	})
}

// tellChain tells of the subscriptions of a session from number cursor on.
func (c *Core) tellChain(a *page, first, cursor uint32) {
	c.nodes = c.nodes[:0]
	for id := first; id != 0; id = c.subscriptions.at(id).following {
		if id >= cursor {
			c.nodes = append(c.nodes, id)
		}
	}
	slices.Sort(c.nodes)
	c.work += scanWork
	for _, id := range c.nodes {
		if c.pageFull(a) {
			a.cursor = id
			return
		}
		c.tellSubscription(a, id)
	}
}

// tellSubscription appends what a subscription is.
func (c *Core) tellSubscription(a *page, id uint32) {
	sub := c.subscriptions.at(id)
	c.clientID = c.appendFilter(c.clientID[:0], sub)
	c.out = abi.AppendSubscriptionRecord(c.out, &abi.SubscriptionRecord{
		ClientID: string(c.store.bytes(c.sessions.at(sub.session).clientID)), Filter: string(c.clientID),
		QoS: sub.options.qos(), NoLocal: sub.options.noLocal(), RetainAsPublished: sub.options.retainAsPublished(),
		RetainHandling: sub.options.retainHandling(), Identifier: sub.identifier,
	})
	a.count++
}

// retainHandling is when retained messages are sent: 0 always, 1 for a new subscription, 2 never.
func (o options) retainHandling() uint8 { return uint8(o >> 4 & 3) }

// pageRetained does something to the retained messages that match a filter, from node cursor on.
func (c *Core) pageRetained(a *page, q *abi.Question, each func(a *page, node uint32)) {
	filter, cursor := []byte(q.Text), max(q.Cursor, 1)
	if !mqtt.ValidTopicFilter(filter) || cursor >= c.tree.nodes.next {
		return
	}
	nodes, all := c.retainedNodes(filter, cursor)
	c.work += scanWork
	for _, n := range nodes {
		if c.pageFull(a) {
			a.cursor = n
			return
		}
		each(a, n)
		cursor = n + 1
	}
	if all {
		return
	}
	if len(nodes) == 0 {
		cursor += scanNodes // as many as were looked at
	}
	a.cursor = cursor
}

// tellRetained appends what a retained message is, unless it has expired.
func (c *Core) tellRetained(a *page, node uint32) {
	m := c.messages.at(c.tree.nodes.at(node).retained)
	if m.expires != 0 && m.expires <= c.now {
		return
	}
	r := abi.RetainedRecord{Topic: string(c.store.bytes(m.body)[:m.topic]), Size: m.body.size - m.topic - m.props, QoS: m.qos}
	if m.expires != 0 {
		r.ExpiresIn = c.secondsUntil(m.expires)
	}
	c.out = abi.AppendRetainedRecord(c.out, &r)
	a.count++
}

// clearRetained removes a retained message.
func (c *Core) clearRetained(a *page, node uint32) {
	c.dropRetained(node)
	a.count++
}

// disconnectByID ends the connection of the session that a question names, and says whether it had one.
func (c *Core) disconnectByID(q *abi.Question) bool {
	id, _ := c.findSession([]byte(q.Text))
	if id == 0 {
		return false
	}
	p := c.connectionOf(c.sessions.at(id).conn)
	if p == nil {
		return false
	}
	reason := mqtt.ReasonCode(q.Arg)
	if q.Arg == 0 || q.Arg > 0xFF {
		reason = mqtt.AdministrativeAction
	}
	c.disconnectClient(p, reason, "an administrator ended the connection")
	return true
}

// forgetByID ends the session that a question names, and says whether there was one.
func (c *Core) forgetByID(q *abi.Question) bool {
	id, _ := c.findSession([]byte(q.Text))
	if id == 0 {
		return false
	}
	if p := c.connectionOf(c.sessions.at(id).conn); p != nil {
		c.disconnectClient(p, mqtt.AdministrativeAction, "an administrator ended the session")
	}
	if id, _ = c.findSession([]byte(q.Text)); id != 0 { // unless it ended with its connection
		c.endEarly(id)
	}
	return true
}
