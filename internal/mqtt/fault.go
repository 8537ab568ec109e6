package mqtt

// Fault says why a packet was refused. All faults are constants of this package:
// they cost no allocation and can be compared by address. A nil *Fault is
// success.
type Fault struct {
	Reason    ReasonCode // what to answer in CONNACK or DISCONNECT (4.13)
	Text      string     // for a log; holds nothing of the packet
	Statement string     // the broken statement, such as "[MQTT-2.1.3-1]"; "" if the standard numbers none
}

// Error describes the fault with its statement and its reason code.
func (f *Fault) Error() string {
	text := f.Reason.String() + ": " + f.Text
	if f.Statement != "" {
		text += " " + f.Statement
	}
	return text
}

// Err gives the fault as an error, and a nil error for a nil fault.
func (f *Fault) Err() error {
	if f == nil {
		return nil
	}
	return f
}

// Faults of framing and data representation.
var (
	faultTruncated      = &Fault{MalformedPacket, "packet ends before its fields do", ""}
	faultTrailing       = &Fault{MalformedPacket, "bytes after the last field", ""}
	faultFrame          = &Fault{MalformedPacket, "remaining length differs from the size of the packet", ""}
	faultPacketType     = &Fault{MalformedPacket, "packet is of another type", ""}
	faultFlags          = &Fault{MalformedPacket, textFlags, "[MQTT-2.1.3-1]"}
	faultVarintLong     = &Fault{MalformedPacket, "variable byte integer has more than four bytes", ""}
	faultVarintMinimal  = &Fault{MalformedPacket, "variable byte integer is not minimal", "[MQTT-1.5.5-1]"}
	faultUTF8           = &Fault{MalformedPacket, "string is not well-formed UTF-8", "[MQTT-1.5.4-1]"}
	faultNUL            = &Fault{MalformedPacket, "string contains U+0000", "[MQTT-1.5.4-2]"}
	faultPacketID       = &Fault{ProtocolError, "packet identifier is zero", "[MQTT-2.2.1-3]"}
	faultTopicEmpty     = &Fault{MalformedPacket, "topic name is empty", "[MQTT-4.7.3-1]"}
	faultTopicWildcard  = &Fault{MalformedPacket, "topic name contains a wildcard", "[MQTT-3.3.2-2]"}
	faultFilterEmpty    = &Fault{MalformedPacket, "topic filter is empty", "[MQTT-4.7.3-1]"}
	faultFilterHash     = &Fault{MalformedPacket, "# does not stand alone in the last level", "[MQTT-4.7.1-1]"}
	faultFilterPlus     = &Fault{MalformedPacket, "+ does not stand alone in its level", "[MQTT-4.7.1-2]"}
	faultNotInV3        = &Fault{ProtocolError, "packet type exists in MQTT 5 only", ""}
	faultReasonUnlisted = &Fault{ProtocolError, "reason code is not one of this packet and sender", ""}
)

// flagFaults are the statements about the reserved flags of each packet type.
var flagFaults = [16]*Fault{
	CONNECT:     faultFlags,
	CONNACK:     faultFlags,
	PUBACK:      faultFlags,
	PUBREC:      faultFlags,
	PUBREL:      {MalformedPacket, textFlags, "[MQTT-3.6.1-1]"},
	PUBCOMP:     faultFlags,
	SUBSCRIBE:   {MalformedPacket, textFlags, "[MQTT-3.8.1-1]"},
	SUBACK:      faultFlags,
	UNSUBSCRIBE: {MalformedPacket, textFlags, "[MQTT-3.10.1-1]"},
	UNSUBACK:    faultFlags,
	PINGREQ:     faultFlags,
	PINGRESP:    faultFlags,
	DISCONNECT:  {MalformedPacket, textFlags, "[MQTT-3.14.1-1]"},
	AUTH:        {MalformedPacket, textFlags, "[MQTT-3.15.1-1]"},
}

const textFlags = "reserved flags of the fixed header are not as they must be"

// Faults of properties (2.2.2).
var (
	faultPropertyLength   = &Fault{MalformedPacket, "properties end inside a property", ""}
	faultPropertyUnknown  = &Fault{MalformedPacket, "property is not one of this packet", ""}
	faultPropertyTwice    = &Fault{ProtocolError, "property occurs twice", ""}
	faultPropertyValue    = &Fault{ProtocolError, "property has a value out of its range", ""}
	faultTopicAliasZero   = &Fault{TopicAliasInvalid, "topic alias is zero", "[MQTT-3.3.2-8]"}
	faultResponseWildcard = &Fault{ProtocolError, "response topic contains a wildcard", "[MQTT-3.3.2-14]"}
	faultResponseEmpty    = &Fault{ProtocolError, "response topic is empty", "[MQTT-4.7.3-1]"}
	faultAuthData         = &Fault{ProtocolError, "authentication data without an authentication method", ""}
)

// Faults of CONNECT and CONNACK.
var (
	faultProtocolName      = &Fault{UnsupportedProtocolVersion, "protocol name is not MQTT", "[MQTT-3.1.2-1]"}
	faultProtocolVersion   = &Fault{UnsupportedProtocolVersion, "protocol version is not supported", "[MQTT-3.1.2-2]"}
	faultConnectReserved   = &Fault{MalformedPacket, "reserved connect flag is set", "[MQTT-3.1.2-3]"}
	faultWillQoSUnset      = &Fault{MalformedPacket, "will QoS without the will flag", "[MQTT-3.1.2-11]"}
	faultWillQoS           = &Fault{MalformedPacket, "will QoS is 3", "[MQTT-3.1.2-12]"}
	faultWillRetainUnset   = &Fault{MalformedPacket, "will retain without the will flag", "[MQTT-3.1.2-13]"}
	faultPasswordAlone     = &Fault{MalformedPacket, "password without a user name", "[MQTT311-3.1.2-22]"}
	faultClientIDEmpty     = &Fault{ClientIdentifierNotValid, "empty client identifier without clean session", "[MQTT311-3.1.3-8]"}
	faultClientIDV31       = &Fault{ClientIdentifierNotValid, "client identifier has not 1 to 23 characters", "MQTT 3.1, 3.1"}
	faultConnackFlags      = &Fault{MalformedPacket, "reserved acknowledge flags are set", "[MQTT-3.2.2-1]"}
	faultConnackSession    = &Fault{ProtocolError, "session present in a refusal", "[MQTT-3.2.2-6]"}
	faultConnackReturnCode = &Fault{ProtocolError, "return code is reserved", "MQTT 3.1.1, 3.2.2.3"}
)

// Faults of PUBLISH, SUBSCRIBE, UNSUBSCRIBE and their acknowledgements,
// DISCONNECT and AUTH.
var (
	faultQoS               = &Fault{MalformedPacket, "QoS is 3", "[MQTT-3.3.1-4]"}
	faultDup               = &Fault{MalformedPacket, "DUP is set on QoS 0", "[MQTT-3.3.1-2]"}
	faultNoTopic           = &Fault{ProtocolError, "neither a topic name nor a topic alias", ""}
	faultClientSubID       = &Fault{ProtocolError, "subscription identifier in a PUBLISH of a client", "[MQTT-3.3.4-6]"}
	faultSubscribeEmpty    = &Fault{ProtocolError, "no topic filter", "[MQTT-3.8.3-2]"}
	faultUnsubscribeEmpty  = &Fault{ProtocolError, "no topic filter", "[MQTT-3.10.3-2]"}
	faultOptionsReserved   = &Fault{MalformedPacket, "reserved subscription options are set", "[MQTT-3.8.3-5]"}
	faultOptionsReservedV3 = &Fault{MalformedPacket, "requested QoS is not 0, 1 or 2", "[MQTT311-3.8.3-4]"}
	faultOptionsQoS        = &Fault{ProtocolError, "maximum QoS is 3", ""}
	faultRetainHandling    = &Fault{ProtocolError, "retain handling is 3", ""}
	faultNoLocalShared     = &Fault{ProtocolError, "no local on a shared subscription", "[MQTT-3.8.3-4]"}
	faultSubIDTwice        = &Fault{ProtocolError, "subscription identifier occurs twice", ""}
	faultSubackCode        = &Fault{ProtocolError, "reason code is not one of SUBACK", "[MQTT-3.9.3-2]"}
	faultSubackEmpty       = &Fault{ProtocolError, "no reason code", ""}
	faultServerExpiry      = &Fault{ProtocolError, "session expiry interval in a DISCONNECT of a server", "[MQTT-3.14.2-2]"}
	faultClientReference   = &Fault{ProtocolError, "server reference in a DISCONNECT of a client", ""}
	faultAuthSender        = &Fault{ProtocolError, "reason code of AUTH belongs to the other side", "[MQTT-3.15.2-1]"}
	faultAuthMethod        = &Fault{ProtocolError, "no authentication method", ""}
)
