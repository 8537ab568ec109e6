package abi

import "encoding/binary"

// Limits bound what clients may ask of the core.
type Limits struct {
	MaxPacketSize     uint32 // largest packet that a client may send, in bytes, header included
	MaxInflight       uint16 // QoS 1 and 2 messages that may be on their way to one client, at least 1
	ReceiveMaximum    uint16 // QoS 2 messages that may be on their way from one client, at least 1
	TopicAliasMaximum uint16 // aliases that one client may set
	MaxQueued         uint32 // messages that wait in one session's queue
	MaxQueuedBytes    uint32 // their bytes
	MaxRetained       uint32 // retained messages
	MaxRetainedBytes  uint32 // their bytes
	MaxSessions       uint32 // sessions, connected or not
	MaxSubscriptions  uint32 // subscriptions of one session
	MaxTopicLevels    uint16 // levels of a topic name or filter
	MaxKeepAlive      uint16 // seconds; a client that asks for more or for none gets this; 0 is no bound
	MaxSessionExpiry  uint32 // seconds that a session may outlive its connection; 0xFFFFFFFF is for ever
	MaxMemory         uint32 // bytes of messages that the core keeps in all
	ConnectTimeout    uint32 // milliseconds from EventOpen to CONNECT
	StallTimeout      uint32 // milliseconds without an acknowledgement after which a client no longer slows publishers
	StepWork          uint32 // units of work after which a step stops; one packet or one receiver is one unit
	MaxTopicBytes     uint16 // bytes of a topic name or filter; 0 is no bound but MQTT's own
	MaxAliasesOut     uint16 // topic aliases that the core sets towards one client, if that allows as many
	// MaxModuleMemory is how many bytes all tables of the core may take; 0 is no bound. From seven eighths of it on new
	// sessions and subscriptions are refused, at the limit messages that must be kept. What is never refused may take
	// an eighth more, and the collector of the module's runtime needs its share besides.
	MaxModuleMemory uint32
}

// Overflow says what becomes of a message for a session whose queue is full.
type Overflow uint8

// The overflow rules.
const (
	DropNewest    Overflow = iota // the message that came last is dropped
	DropOldest                    // room is made by dropping those that have waited longest; what is in flight stays
	EndConnection                 // the client is disconnected, reason 0x97, and its queue kept; without a connection as DropNewest
	numOverflows
)

// SharedStrategy says which member of a shared subscription gets a message.
type SharedStrategy uint8

// The strategies. A member that cannot take a message now is passed over while another can.
const (
	SharedRoundRobin SharedStrategy = iota // each in its turn
	SharedRandom                           // any, from the entropy of the batch
	SharedSticky                           // the same until it leaves
	SharedHashClient                       // by the publisher's client id
	SharedHashTopic                        // by the topic name
	numSharedStrategies
)

// Options change what the core answers. The zero value is what the standard describes.
type Options struct {
	Overflow        Overflow
	Shared          SharedStrategy
	CheckPayload    bool     // a payload that claims to be UTF-8 and is not is refused (0x99)
	Failure80       bool     // a refused SUBSCRIBE is answered with 0x80 in MQTT 5 too, for clients that know no other
	Methods         []string // methods of enhanced authentication that the host knows
	ResponsePrefix  string   // response information (3.2.2.3.15) for clients that ask; %c and %u are filled in; "" is none
	ServerReference string   // where clients are sent that are refused for want of room (0x9C), "" is nowhere
}

// Condition names peers: those that have the identity, those with the user name, or all that the listener
// let in without either. Empty fields do not bind; a condition with nothing set names nobody.
type Condition struct {
	Identity  string // an identity of the policy that the peer's evidence has been appraised to
	User      string // the name of an authenticated user
	Anonymous bool   // peers with neither an identity nor an authenticated user
	Listener  string // only on this listener
}

// Rule lets the peers that any of Who names publish to the topics, and subscribe to filters within the
// filters, that it lists. %c, %u and %i stand for client id, user name and identity.
//
// With Provenance what an attested peer publishes by it is stamped, see ProvenancePrefix.
type Rule struct {
	Who        []Condition
	Publish    []string
	Subscribe  []string
	Provenance bool
}

// ProvenancePrefix begins the names of user properties that only the broker writes (in any case of letters): the core takes those
// away that a client sends with a message or a will. Where a rule has Provenance, it adds those below.
const (
	ProvenancePrefix   = "vouchmq-"
	ProvenanceIdentity = ProvenancePrefix + "publisher-identity" // of the policy, that the rule names the publisher by
	ProvenancePlatform = ProvenancePrefix + "publisher-platform" // Peer.Platform
	ProvenanceModule   = ProvenancePrefix + "publisher-module"   // Peer.Module
)

// Config is the data of EventConfigure.
type Config struct {
	Limits  Limits
	Options Options
	Rules   []Rule // the first that names the peer and covers the topic decides; none is a refusal
}

// Peer is the data of EventOpen: what the host knows of the other side.
type Peer struct {
	Listener   string
	Identities []string // of the policy, those that the peer's evidence holds for; the first names it
	User       string   // authenticated user name, "" if there is none
	Address    string   // for notes only
	Platform   string   // of the TEE that the peer's evidence comes from, "" if it gave none
	Module     string   // digest of the module that it runs, "" if it gave none
	// Authenticate says that the core must ask the host, with EffectAuthenticate, before it accepts a CONNECT. Until
	// the core has sent EffectProceed the host then hands over one packet only.
	Authenticate bool
}

// AppendConfig appends the encoding of c to b. Lists and strings are preceded by their length (u16).
func AppendConfig(b []byte, c *Config) []byte {
	for _, n := range c.Limits.fields() {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = appendOptions(b, &c.Options)
	b = appendCount(b, len(c.Rules))
	for i := range c.Rules {
		b = appendRule(b, &c.Rules[i])
	}
	return b
}

func appendOptions(b []byte, o *Options) []byte {
	b = append(b, byte(o.Overflow), byte(o.Shared), boolByte(o.CheckPayload), boolByte(o.Failure80))
	b = appendStrings(b, o.Methods)
	return appendString(appendString(b, o.ResponsePrefix), o.ServerReference)
}

func readOptions(r *reader) Options {
	return Options{
		Overflow:     Overflow(r.byte()) % numOverflows,
		Shared:       SharedStrategy(r.byte()) % numSharedStrategies,
		CheckPayload: r.byte() == 1, Failure80: r.byte() == 1,
		Methods: r.strings(), ResponsePrefix: r.string(), ServerReference: r.string(),
	}
}

func appendRule(b []byte, r *Rule) []byte {
	b = appendCount(b, len(r.Who))
	for _, w := range r.Who {
		b = appendString(appendString(b, w.Identity), w.User)
		b = append(b, boolByte(w.Anonymous))
		b = appendString(b, w.Listener)
	}
	return append(appendStrings(appendStrings(b, r.Publish), r.Subscribe), boolByte(r.Provenance))
}

// ReadConfig reads what AppendConfig wrote.
func ReadConfig(b []byte, c *Config) error {
	r := reader{b: b}
	var fields [numLimits]uint32
	for i := range fields {
		fields[i] = r.u32()
	}
	c.Limits.setFields(&fields)
	c.Options = readOptions(&r)
	c.Rules = nil
	for n := r.count(); n > 0 && r.ok(); n-- {
		c.Rules = append(c.Rules, readRule(&r))
	}
	return r.end("configuration")
}

func readRule(r *reader) Rule {
	var rule Rule
	for n := r.count(); n > 0 && r.ok(); n-- {
		rule.Who = append(rule.Who, Condition{
			Identity: r.string(), User: r.string(), Anonymous: r.byte() == 1, Listener: r.string(),
		})
	}
	rule.Publish = r.strings()
	rule.Subscribe = r.strings()
	rule.Provenance = r.byte() == 1
	return rule
}

// AppendPeer appends the encoding of p to b.
func AppendPeer(b []byte, p *Peer) []byte {
	b = appendString(b, p.Listener)
	b = appendStrings(b, p.Identities)
	b = appendString(b, p.User)
	b = appendString(appendString(appendString(b, p.Address), p.Platform), p.Module)
	return append(b, boolByte(p.Authenticate))
}

// ReadPeer reads what AppendPeer wrote.
func ReadPeer(b []byte, p *Peer) error {
	r := reader{b: b}
	p.Listener = r.string()
	p.Identities = r.strings()
	p.User = r.string()
	p.Address, p.Platform, p.Module = r.string(), r.string(), r.string()
	p.Authenticate = r.byte() == 1
	return r.end("peer")
}

const numLimits = 20

func (l *Limits) fields() [numLimits]uint32 {
	return [numLimits]uint32{
		l.MaxPacketSize, uint32(l.MaxInflight), uint32(l.ReceiveMaximum), uint32(l.TopicAliasMaximum),
		l.MaxQueued, l.MaxQueuedBytes, l.MaxRetained, l.MaxRetainedBytes,
		l.MaxSessions, l.MaxSubscriptions, uint32(l.MaxTopicLevels), uint32(l.MaxKeepAlive),
		l.MaxSessionExpiry, l.MaxMemory, l.ConnectTimeout, l.StallTimeout, l.StepWork,
		uint32(l.MaxTopicBytes), uint32(l.MaxAliasesOut), l.MaxModuleMemory,
	}
}

func (l *Limits) setFields(f *[numLimits]uint32) {
	*l = Limits{
		MaxPacketSize: f[0], MaxInflight: uint16(f[1]), ReceiveMaximum: uint16(f[2]), TopicAliasMaximum: uint16(f[3]),
		MaxQueued: f[4], MaxQueuedBytes: f[5], MaxRetained: f[6], MaxRetainedBytes: f[7],
		MaxSessions: f[8], MaxSubscriptions: f[9], MaxTopicLevels: uint16(f[10]), MaxKeepAlive: uint16(f[11]),
		MaxSessionExpiry: f[12], MaxMemory: f[13], ConnectTimeout: f[14], StallTimeout: f[15], StepWork: f[16],
		MaxTopicBytes: uint16(f[17]), MaxAliasesOut: uint16(f[18]), MaxModuleMemory: f[19],
	}
}
