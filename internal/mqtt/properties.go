package mqtt

import "math/bits"

// PropertyID is the identifier of an MQTT 5 property (table 2-4). All of them
// fit into one byte, although the standard calls them variable byte integers.
type PropertyID uint8

// The properties of MQTT 5.
const (
	PropPayloadFormatIndicator          PropertyID = 0x01
	PropMessageExpiryInterval           PropertyID = 0x02
	PropContentType                     PropertyID = 0x03
	PropResponseTopic                   PropertyID = 0x08
	PropCorrelationData                 PropertyID = 0x09
	PropSubscriptionIdentifier          PropertyID = 0x0B
	PropSessionExpiryInterval           PropertyID = 0x11
	PropAssignedClientIdentifier        PropertyID = 0x12
	PropServerKeepAlive                 PropertyID = 0x13
	PropAuthenticationMethod            PropertyID = 0x15
	PropAuthenticationData              PropertyID = 0x16
	PropRequestProblemInformation       PropertyID = 0x17
	PropWillDelayInterval               PropertyID = 0x18
	PropRequestResponseInformation      PropertyID = 0x19
	PropResponseInformation             PropertyID = 0x1A
	PropServerReference                 PropertyID = 0x1C
	PropReasonString                    PropertyID = 0x1F
	PropReceiveMaximum                  PropertyID = 0x21
	PropTopicAliasMaximum               PropertyID = 0x22
	PropTopicAlias                      PropertyID = 0x23
	PropMaximumQoS                      PropertyID = 0x24
	PropRetainAvailable                 PropertyID = 0x25
	PropUserProperty                    PropertyID = 0x26
	PropMaximumPacketSize               PropertyID = 0x27
	PropWildcardSubscriptionAvailable   PropertyID = 0x28
	PropSubscriptionIdentifierAvailable PropertyID = 0x29
	PropSharedSubscriptionAvailable     PropertyID = 0x2A
)

// PropertySet is a set of properties: bit n stands for PropertyID n.
type PropertySet uint64

// Has tells whether the set holds id.
func (s PropertySet) Has(id PropertyID) bool { return s>>id&1 != 0 }

// With gives the set with id added.
func (s PropertySet) With(id PropertyID) PropertySet { return s | 1<<id }

// Without gives the set with id removed.
func (s PropertySet) Without(id PropertyID) PropertySet { return s &^ (1 << id) }

// The properties that each packet may carry (table 2-4).
const (
	ConnectProperties PropertySet = 1<<PropSessionExpiryInterval | 1<<PropReceiveMaximum | 1<<PropMaximumPacketSize |
		1<<PropTopicAliasMaximum | 1<<PropRequestResponseInformation | 1<<PropRequestProblemInformation |
		1<<PropUserProperty | 1<<PropAuthenticationMethod | 1<<PropAuthenticationData

	WillProperties PropertySet = ForwardProperties | 1<<PropWillDelayInterval

	ConnackProperties PropertySet = 1<<PropSessionExpiryInterval | 1<<PropReceiveMaximum | 1<<PropMaximumQoS |
		1<<PropRetainAvailable | 1<<PropMaximumPacketSize | 1<<PropAssignedClientIdentifier |
		1<<PropTopicAliasMaximum | 1<<PropReasonString | 1<<PropUserProperty |
		1<<PropWildcardSubscriptionAvailable | 1<<PropSubscriptionIdentifierAvailable |
		1<<PropSharedSubscriptionAvailable | 1<<PropServerKeepAlive | 1<<PropResponseInformation |
		1<<PropServerReference | 1<<PropAuthenticationMethod | 1<<PropAuthenticationData

	PublishProperties PropertySet = ForwardProperties | 1<<PropTopicAlias | 1<<PropSubscriptionIdentifier

	// ForwardProperties are those of a PUBLISH that belong to the message and that
	// a server hands on; a topic alias and subscription identifiers belong to one
	// connection. The message expiry interval goes on diminished by the time the
	// message has waited ([MQTT-3.3.2-6]).
	ForwardProperties PropertySet = 1<<PropPayloadFormatIndicator | 1<<PropMessageExpiryInterval |
		1<<PropContentType | 1<<PropResponseTopic | 1<<PropCorrelationData | 1<<PropUserProperty

	AckProperties         PropertySet = 1<<PropReasonString | 1<<PropUserProperty // PUBACK to PUBCOMP, SUBACK, UNSUBACK
	SubscribeProperties   PropertySet = 1<<PropSubscriptionIdentifier | 1<<PropUserProperty
	UnsubscribeProperties PropertySet = 1 << PropUserProperty
	DisconnectProperties  PropertySet = 1<<PropSessionExpiryInterval | 1<<PropReasonString | 1<<PropUserProperty |
		1<<PropServerReference
	AuthProperties PropertySet = 1<<PropAuthenticationMethod | 1<<PropAuthenticationData |
		1<<PropReasonString | 1<<PropUserProperty
)

// Properties are the properties of one packet or of one will.
//
// Has tells which are present; any other field holds whatever an earlier packet
// left there and must not be read. Intervals are in seconds.
type Properties struct {
	Has PropertySet

	PayloadFormatIndicator byte // 0 or 1
	MaximumQoS             byte // 0 or 1

	RequestProblemInformation       bool
	RequestResponseInformation      bool
	RetainAvailable                 bool
	WildcardSubscriptionAvailable   bool
	SubscriptionIdentifierAvailable bool
	SharedSubscriptionAvailable     bool

	ServerKeepAlive   uint16
	ReceiveMaximum    uint16
	TopicAliasMaximum uint16
	TopicAlias        uint16

	MessageExpiryInterval uint32
	SessionExpiryInterval uint32
	WillDelayInterval     uint32
	MaximumPacketSize     uint32

	ContentType              []byte
	ResponseTopic            []byte
	CorrelationData          []byte
	AssignedClientIdentifier []byte
	AuthenticationMethod     []byte
	AuthenticationData       []byte
	ResponseInformation      []byte
	ServerReference          []byte
	ReasonString             []byte

	// SubscriptionIDs are the subscription identifiers in the order of the packet:
	// one in a SUBSCRIBE, any number in a PUBLISH of a server. Parsing uses the
	// array of the slice again and makes a longer one only when it is full.
	SubscriptionIDs []uint32

	// User is a run of encoded properties that holds all user properties of the
	// packet in their order, and perhaps others between them. Read it with
	// NextUser, build it with AppendUser.
	User []byte
}

// Reset makes p empty. It costs next to nothing.
func (p *Properties) Reset() {
	p.Has = 0
	p.User = nil
	p.SubscriptionIDs = p.SubscriptionIDs[:0]
}

// NextUser takes the next user property from raw, which is Properties.User or a
// copy of it, and moves raw behind it:
//
//	for raw := p.User; ; {
//		key, value, ok := mqtt.NextUser(&raw)
//		if !ok {
//			break
//		}
//	}
//
// It skips properties of other kinds.
func NextUser(raw *[]byte) (key, value []byte, ok bool) {
	b := *raw
	for at := 0; at < len(b); {
		next := skipProperty(b, at)
		if next < 0 {
			break
		}
		if PropertyID(b[at]) == PropUserProperty {
			middle := skipBinary(b, at+1)
			*raw = b[next:]
			return b[at+3 : middle : middle], b[middle+2 : next : next], true
		}
		at = next
	}
	*raw = nil
	return nil, nil, false
}

// skipProperty gives the offset behind the property at b[at:], without a look at
// its value, or -1 if it does not fit into b.
func skipProperty(b []byte, at int) int {
	next := at + 1
	switch k := kindOf(b[at]); k {
	case kindByte, kindUint16, kindUint32:
		next += int(k)
	case kindVarint:
		_, n, f := varint(b[next:])
		if f != nil {
			return -1
		}
		next += n
	case kindText, kindTopic, kindBinary:
		next = skipBinary(b, next)
	case kindPair:
		if next = skipBinary(b, next); next >= 0 {
			next = skipBinary(b, next)
		}
	default:
		return -1
	}
	if next > len(b) {
		return -1
	}
	return next
}

// skipBinary gives the offset behind the string or binary data at b[at:], or -1
// if it does not fit into b.
func skipBinary(b []byte, at int) int {
	if at+2 > len(b) {
		return -1
	}
	next := at + 2 + (int(b[at])<<8 | int(b[at+1]))
	if next > len(b) {
		return -1
	}
	return next
}

// AppendUser appends an encoded user property. Several of them in a row make a
// Properties.User, which needs PropUserProperty in Has as well.
func AppendUser(dst, key, value []byte) []byte {
	dst = append(dst, byte(PropUserProperty))
	return appendBinary(appendBinary(dst, key), value)
}

// kind is how the value of a property is encoded. The kinds of fixed size are
// the number of their bytes.
type kind uint8

const (
	kindNone   kind = 0 // no such property
	kindByte   kind = 1
	kindUint16 kind = 2
	kindUint32 kind = 4
	kindVarint kind = 5 // variable byte integer
	kindText   kind = 6 // UTF-8 encoded string
	kindTopic  kind = 7 // UTF-8 encoded string that is a topic name
	kindBinary kind = 8 // binary data
	kindPair   kind = 9 // two UTF-8 encoded strings
)

type propertyInfo struct {
	kind     kind
	min, max uint32 // allowed values of a number
}

// propertyTable is table 2-4, with the range of each number.
var propertyTable = [64]propertyInfo{
	PropPayloadFormatIndicator:          {kindByte, 0, 1},
	PropMessageExpiryInterval:           {kindUint32, 0, 1<<32 - 1},
	PropContentType:                     {kind: kindText},  // [MQTT-3.3.2-19]
	PropResponseTopic:                   {kind: kindTopic}, // [MQTT-3.3.2-13], [MQTT-3.3.2-14]
	PropCorrelationData:                 {kind: kindBinary},
	PropSubscriptionIdentifier:          {kindVarint, 1, MaxRemainingLength}, // 3.8.2.1.2
	PropSessionExpiryInterval:           {kindUint32, 0, 1<<32 - 1},
	PropAssignedClientIdentifier:        {kind: kindText},
	PropServerKeepAlive:                 {kindUint16, 0, 1<<16 - 1},
	PropAuthenticationMethod:            {kind: kindText},
	PropAuthenticationData:              {kind: kindBinary},
	PropRequestProblemInformation:       {kindByte, 0, 1},
	PropWillDelayInterval:               {kindUint32, 0, 1<<32 - 1},
	PropRequestResponseInformation:      {kindByte, 0, 1},
	PropResponseInformation:             {kind: kindText},
	PropServerReference:                 {kind: kindText},
	PropReasonString:                    {kind: kindText},
	PropReceiveMaximum:                  {kindUint16, 1, 1<<16 - 1}, // 3.1.2.11.3
	PropTopicAliasMaximum:               {kindUint16, 0, 1<<16 - 1},
	PropTopicAlias:                      {kindUint16, 1, 1<<16 - 1}, // [MQTT-3.3.2-8]
	PropMaximumQoS:                      {kindByte, 0, 1},
	PropRetainAvailable:                 {kindByte, 0, 1},
	PropUserProperty:                    {kind: kindPair},
	PropMaximumPacketSize:               {kindUint32, 1, 1<<32 - 1}, // 3.1.2.11.4
	PropWildcardSubscriptionAvailable:   {kindByte, 0, 1},
	PropSubscriptionIdentifierAvailable: {kindByte, 0, 1},
	PropSharedSubscriptionAvailable:     {kindByte, 0, 1},
}

func kindOf(id byte) kind {
	if int(id) >= len(propertyTable) {
		return kindNone
	}
	return propertyTable[id].kind
}

// bytes gives the field of a property that is a string or binary data.
func (p *Properties) bytes(id PropertyID) *[]byte {
	switch id {
	case PropContentType:
		return &p.ContentType
	case PropResponseTopic:
		return &p.ResponseTopic
	case PropCorrelationData:
		return &p.CorrelationData
	case PropAssignedClientIdentifier:
		return &p.AssignedClientIdentifier
	case PropAuthenticationMethod:
		return &p.AuthenticationMethod
	case PropAuthenticationData:
		return &p.AuthenticationData
	case PropResponseInformation:
		return &p.ResponseInformation
	case PropServerReference:
		return &p.ServerReference
	}
	return &p.ReasonString
}

// setNumber stores the value of a property that is a number.
func (p *Properties) setNumber(id PropertyID, n uint32) {
	switch id {
	case PropPayloadFormatIndicator:
		p.PayloadFormatIndicator = byte(n)
	case PropMessageExpiryInterval:
		p.MessageExpiryInterval = n
	case PropSubscriptionIdentifier:
		p.SubscriptionIDs = append(p.SubscriptionIDs, n)
	case PropSessionExpiryInterval:
		p.SessionExpiryInterval = n
	case PropServerKeepAlive:
		p.ServerKeepAlive = uint16(n)
	case PropRequestProblemInformation:
		p.RequestProblemInformation = n != 0
	case PropWillDelayInterval:
		p.WillDelayInterval = n
	case PropRequestResponseInformation:
		p.RequestResponseInformation = n != 0
	case PropReceiveMaximum:
		p.ReceiveMaximum = uint16(n)
	case PropTopicAliasMaximum:
		p.TopicAliasMaximum = uint16(n)
	case PropTopicAlias:
		p.TopicAlias = uint16(n)
	case PropMaximumQoS:
		p.MaximumQoS = byte(n)
	case PropRetainAvailable:
		p.RetainAvailable = n != 0
	case PropMaximumPacketSize:
		p.MaximumPacketSize = n
	case PropWildcardSubscriptionAvailable:
		p.WildcardSubscriptionAvailable = n != 0
	case PropSubscriptionIdentifierAvailable:
		p.SubscriptionIdentifierAvailable = n != 0
	case PropSharedSubscriptionAvailable:
		p.SharedSubscriptionAvailable = n != 0
	}
}

// number is the inverse of setNumber, but for subscription identifiers, which
// have no single value.
func (p *Properties) number(id PropertyID) uint32 {
	switch id {
	case PropPayloadFormatIndicator:
		return uint32(p.PayloadFormatIndicator)
	case PropMessageExpiryInterval:
		return p.MessageExpiryInterval
	case PropSessionExpiryInterval:
		return p.SessionExpiryInterval
	case PropServerKeepAlive:
		return uint32(p.ServerKeepAlive)
	case PropRequestProblemInformation:
		return number(p.RequestProblemInformation)
	case PropWillDelayInterval:
		return p.WillDelayInterval
	case PropRequestResponseInformation:
		return number(p.RequestResponseInformation)
	case PropReceiveMaximum:
		return uint32(p.ReceiveMaximum)
	case PropTopicAliasMaximum:
		return uint32(p.TopicAliasMaximum)
	case PropTopicAlias:
		return uint32(p.TopicAlias)
	case PropMaximumQoS:
		return uint32(p.MaximumQoS)
	case PropRetainAvailable:
		return number(p.RetainAvailable)
	case PropMaximumPacketSize:
		return p.MaximumPacketSize
	case PropWildcardSubscriptionAvailable:
		return number(p.WildcardSubscriptionAvailable)
	case PropSubscriptionIdentifierAvailable:
		return number(p.SubscriptionIdentifierAvailable)
	case PropSharedSubscriptionAvailable:
		return number(p.SharedSubscriptionAvailable)
	}
	return 0
}

func number(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// next gives the lowest property of the set and the set without it.
func (s PropertySet) next() (PropertyID, PropertySet) {
	return PropertyID(bits.TrailingZeros64(uint64(s))), s & (s - 1)
}
