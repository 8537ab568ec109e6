package abi

import "encoding/binary"

// Publication is the data of EventPublish.
type Publication struct {
	Topic   string
	Payload []byte
	QoS     uint8
	Retain  bool
}

// AppendPublication appends the encoding of p to b.
func AppendPublication(b []byte, p *Publication) []byte {
	b = appendString(append(b, p.QoS, boolByte(p.Retain)), p.Topic)
	return append(appendU32(b, uint32(len(p.Payload))), p.Payload...)
}

// ReadPublication reads what AppendPublication wrote. The payload aliases b.
func ReadPublication(b []byte, p *Publication) error {
	r := reader{b: b}
	p.QoS, p.Retain, p.Topic = r.byte(), r.byte() == 1, r.string()
	p.Payload = r.take(int(r.u32()))
	return r.end("publication")
}

// QuestionKind tells what is asked or to be done.
type QuestionKind uint8

// The kinds of question. What has no record is told by [Answer].Count alone.
const (
	AskSessions      QuestionKind = 1 + iota // all sessions; records: [SessionRecord]
	AskSession                               // the session whose client id is Text; record: SessionRecord
	AskSubscriptions                         // those of the session Text, of all if it is ""; records: [SubscriptionRecord]
	AskRetained                              // retained messages whose topic matches the filter Text; records: [RetainedRecord]
	// DoDisconnect ends the connection of the session whose client id is Text with the reason code Arg, 0x98 if that is
	// 0 or no reason code. Count is 1 if there was such a connection.
	DoDisconnect
	// DoForget ends the session whose client id is Text, and its connection with reason 0x98. Count is 1 if there was one.
	DoForget
	// DoClearRetained removes the retained messages whose topic matches the filter Text, a page at a time. Count is how many
	// this page has removed.
	DoClearRetained
)

// Question is the data of EventAsk. One that the core cannot read is answered with kind 0 and no record. A filter does
// not match topics that begin with $ by a wildcard in its first level, as in a subscription.
type Question struct {
	Kind   QuestionKind
	Cursor uint32 // 0 at first, then what the answer before says
	Limit  uint32 // records in the answer, at most; the core may give fewer; 0 is as many as it likes
	Arg    uint32
	Text   string
}

// Answer is the data of EffectAnswer. A page may be empty although more is to come: only a cursor of 0 ends the list. What
// is there from the first page to the last is told once; what comes or goes meanwhile may or may not be.
type Answer struct {
	Kind    QuestionKind
	Cursor  uint32 // to ask on with; 0 if that was all
	Count   uint32 // records that follow, or things that were changed
	Records []byte // each as its Append function wrote it
}

// SessionRecord is what the core tells of a session.
type SessionRecord struct {
	ClientID      string
	User          string
	Identity      string // the identity that made the session, "" if there is none
	Conn          Conn   // 0 if it has no connection
	Version       uint8  // of the protocol: 3, 4 or 5
	Expiry        uint32 // seconds that it outlives its connection
	ExpiresIn     uint32 // seconds that are left, while it has no connection; 0xFFFFFFFF is for ever
	KeepAlive     uint16 // seconds, 0 is none or no connection
	Subscriptions uint32
	Queued        uint32
	QueuedBytes   uint32
	Inflight      uint32 // QoS 1 and 2 messages on their way to the client
	Received      uint32 // QoS 2 messages from the client that are not released
	Will          bool
}

// SubscriptionRecord is what the core tells of a subscription.
type SubscriptionRecord struct {
	ClientID          string
	Filter            string // with $share/NAME/ if it is shared
	QoS               uint8
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    uint8
	Identifier        uint32 // 0 is none
}

// RetainedRecord is what the core tells of a retained message. Its payload is not told.
type RetainedRecord struct {
	Topic     string
	Size      uint32 // of the payload in bytes
	QoS       uint8
	ExpiresIn uint32 // seconds, 0 is never
}

// AppendQuestion appends the encoding of q to b.
func AppendQuestion(b []byte, q *Question) []byte {
	b = appendU32(appendU32(appendU32(append(b, byte(q.Kind)), q.Cursor), q.Limit), q.Arg)
	return appendString(b, q.Text)
}

// ReadQuestion reads what AppendQuestion wrote.
func ReadQuestion(b []byte, q *Question) error {
	r := reader{b: b}
	q.Kind, q.Cursor, q.Limit, q.Arg, q.Text = QuestionKind(r.byte()), r.u32(), r.u32(), r.u32(), r.string()
	return r.end("question")
}

// answerHeader is the size of an answer without its records.
const answerHeader = 9

// BeginAnswer appends an answer without records; records may be appended behind it, and EndAnswer completes it.
func BeginAnswer(b []byte, kind QuestionKind) []byte {
	return appendU32(appendU32(append(b, byte(kind)), 0), 0)
}

// EndAnswer writes cursor and count to the answer that begins at offset at.
func EndAnswer(b []byte, at int, cursor, count uint32) {
	binary.LittleEndian.PutUint32(b[at+1:], cursor)
	binary.LittleEndian.PutUint32(b[at+5:], count)
}

// ReadAnswer reads an answer. Its records alias b.
func ReadAnswer(b []byte, a *Answer) error {
	if len(b) < answerHeader {
		return Fault("answer is cut short")
	}
	a.Kind = QuestionKind(b[0])
	a.Cursor, a.Count = binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint32(b[5:])
	a.Records = b[answerHeader:]
	return nil
}

// AppendSessionRecord appends the encoding of s to b.
func AppendSessionRecord(b []byte, s *SessionRecord) []byte {
	b = appendString(appendString(appendString(b, s.ClientID), s.User), s.Identity)
	b = append(b, s.Version, boolByte(s.Will))
	for _, n := range [...]uint32{
		uint32(s.Conn), s.Expiry, s.ExpiresIn, uint32(s.KeepAlive), s.Subscriptions, s.Queued, s.QueuedBytes, s.Inflight, s.Received,
	} {
		b = appendU32(b, n)
	}
	return b
}

// AppendSubscriptionRecord appends the encoding of s to b.
func AppendSubscriptionRecord(b []byte, s *SubscriptionRecord) []byte {
	b = appendString(appendString(b, s.ClientID), s.Filter)
	b = append(b, s.QoS, boolByte(s.NoLocal), boolByte(s.RetainAsPublished), s.RetainHandling)
	return appendU32(b, s.Identifier)
}

// AppendRetainedRecord appends the encoding of m to b.
func AppendRetainedRecord(b []byte, m *RetainedRecord) []byte {
	return appendU32(appendU32(append(appendString(b, m.Topic), m.QoS), m.Size), m.ExpiresIn)
}

// Sessions returns the records of an answer to AskSessions or AskSession.
func (a *Answer) Sessions() ([]SessionRecord, error) {
	return records(a, func(r *reader) SessionRecord {
		s := SessionRecord{ClientID: r.string(), User: r.string(), Identity: r.string(), Version: r.byte(), Will: r.byte() == 1}
		s.Conn, s.Expiry, s.ExpiresIn, s.KeepAlive = Conn(r.u32()), r.u32(), r.u32(), uint16(r.u32())
		s.Subscriptions, s.Queued, s.QueuedBytes, s.Inflight, s.Received = r.u32(), r.u32(), r.u32(), r.u32(), r.u32()
		return s
	})
}

// Subscriptions returns the records of an answer to AskSubscriptions.
func (a *Answer) Subscriptions() ([]SubscriptionRecord, error) {
	return records(a, func(r *reader) SubscriptionRecord {
		return SubscriptionRecord{
			ClientID: r.string(), Filter: r.string(), QoS: r.byte(), NoLocal: r.byte() == 1, RetainAsPublished: r.byte() == 1,
			RetainHandling: r.byte(), Identifier: r.u32(),
		}
	})
}

// Retained returns the records of an answer to AskRetained.
func (a *Answer) Retained() ([]RetainedRecord, error) {
	return records(a, func(r *reader) RetainedRecord {
		return RetainedRecord{Topic: r.string(), QoS: r.byte(), Size: r.u32(), ExpiresIn: r.u32()}
	})
}

func records[T any](a *Answer, read func(*reader) T) ([]T, error) {
	r := reader{b: a.Records}
	var list []T
	for len(r.b) > 0 && r.ok() {
		list = append(list, read(&r))
	}
	if err := r.end("answer"); err != nil {
		return nil, err
	}
	if uint32(len(list)) != a.Count {
		return nil, Fault("answer has not as many records as it says")
	}
	return list, nil
}
