package abi

// Note tells what an EffectNote is about.
type Note uint32

// The notes.
const (
	NoteConnected    Note = 1 + iota // a session began or went on; Data: see [Connected]
	NoteDisconnected                 // a session lost its connection; Data: see [Disconnected]
	NoteRefused                      // a CONNECT was refused; Data: the reason in words
	NoteProtocol                     // a client broke the protocol; Data: the reason in words
	NoteDropped                      // messages to a session were dropped; Data: client id
	NoteDenied                       // the rules refused a publish or a subscribe, for the first time; Data: see [Subscribed]
	NoteSubscribed                   // a client subscribed; Data: see [Subscribed]
	NoteUnsubscribed                 // a client unsubscribed; Data: see [Subscribed], without reason
	NoteLimit                        // a limit was met; Data: see [LimitMet]
)

// Connected is the data of NoteConnected.
type Connected struct {
	ClientID       string
	User           string
	Version        uint8  // 3, 4 or 5
	KeepAlive      uint16 // seconds, as it is enforced; 0 is none
	CleanStart     bool
	SessionPresent bool
	Expiry         uint32 // seconds that the session outlives the connection
}

// Disconnected is the data of NoteDisconnected.
type Disconnected struct {
	ClientID string
	Reason   uint8 // MQTT 5 reason code; 0 if the client said goodbye or the network failed
	Orderly  bool  // the client sent DISCONNECT
}

// Subscribed is the data of NoteSubscribed and NoteUnsubscribed, and of NoteDenied, whose filter may be a topic.
type Subscribed struct {
	ClientID string
	Filter   string
	Reason   uint8 // reason code of SUBACK or UNSUBACK
}

// LimitMet is the data of NoteLimit. The core tells of a limit once for each connection, or once for each step where
// there is none, as for sessions that wait for their clients; [Stats] counts every time.
type LimitMet struct {
	Limit    LimitKind
	ClientID string // "" if there is none
}

// LimitKind names a limit that the core keeps.
type LimitKind uint8

// The limits that the core counts.
const (
	LimitSessions LimitKind = iota
	LimitSubscriptions
	LimitQueue    // messages or bytes in a session's queue
	LimitRetained // messages or bytes
	LimitTopic    // levels or bytes of a topic name or filter
	LimitReceiveMaximum
	LimitMemory     // Limits.MaxMemory or Limits.MaxModuleMemory
	NumLimits   int = iota
)

// String returns the name of a limit as it stands in logs and metrics.
func (k LimitKind) String() string {
	names := [NumLimits]string{"sessions", "subscriptions", "queue", "retained", "topic", "receive_maximum", "memory"}
	if int(k) < NumLimits {
		return names[k]
	}
	return "unknown"
}

// AppendConnected appends the encoding of c to b.
func AppendConnected(b []byte, c *Connected) []byte {
	b = appendString(appendString(b, c.ClientID), c.User)
	b = append(b, c.Version, boolByte(c.CleanStart), boolByte(c.SessionPresent))
	return appendU32(appendU32(b, uint32(c.KeepAlive)), c.Expiry)
}

// ReadConnected reads what AppendConnected wrote.
func ReadConnected(b []byte, c *Connected) error {
	r := reader{b: b}
	c.ClientID, c.User = r.string(), r.string()
	c.Version, c.CleanStart, c.SessionPresent = r.byte(), r.byte() == 1, r.byte() == 1
	c.KeepAlive, c.Expiry = uint16(r.u32()), r.u32()
	return r.end("note of a connection")
}

// AppendDisconnected appends the encoding of d to b.
func AppendDisconnected(b []byte, d *Disconnected) []byte {
	return append(appendString(b, d.ClientID), d.Reason, boolByte(d.Orderly))
}

// ReadDisconnected reads what AppendDisconnected wrote.
func ReadDisconnected(b []byte, d *Disconnected) error {
	r := reader{b: b}
	d.ClientID, d.Reason, d.Orderly = r.string(), r.byte(), r.byte() == 1
	return r.end("note of a disconnection")
}

// AppendSubscribed appends the encoding of a [Subscribed] to b, without garbage.
func AppendSubscribed(b, clientID, filter []byte, reason uint8) []byte {
	return append(appendBytes(appendBytes(b, clientID), filter), reason)
}

// ReadSubscribed reads what AppendSubscribed wrote.
func ReadSubscribed(b []byte, s *Subscribed) error {
	r := reader{b: b}
	s.ClientID, s.Filter, s.Reason = r.string(), r.string(), r.byte()
	return r.end("note of a subscription")
}

// AppendLimitMet appends the encoding of l to b.
func AppendLimitMet(b []byte, l *LimitMet) []byte {
	return appendString(append(b, byte(l.Limit)), l.ClientID)
}

// ReadLimitMet reads what AppendLimitMet wrote.
func ReadLimitMet(b []byte, l *LimitMet) error {
	r := reader{b: b}
	l.Limit, l.ClientID = LimitKind(r.byte()), r.string()
	return r.end("note of a limit")
}
