package mqtt

import "strconv"

// ReasonCode is a one-byte MQTT 5 reason code (2.4). Values below 0x80 are
// successes. Return codes of MQTT 3.1.1 are translated into reason codes by the
// parsers, and back by [ReasonCode.ConnackV3] and [ReasonCode.SubackV3].
type ReasonCode uint8

// The reason codes of MQTT 5 (table 2-6). Several names share the value 0.
const (
	Success                             ReasonCode = 0x00
	NormalDisconnection                 ReasonCode = 0x00
	GrantedQoS0                         ReasonCode = 0x00
	GrantedQoS1                         ReasonCode = 0x01
	GrantedQoS2                         ReasonCode = 0x02
	DisconnectWithWill                  ReasonCode = 0x04
	NoMatchingSubscribers               ReasonCode = 0x10
	NoSubscriptionExisted               ReasonCode = 0x11
	ContinueAuthentication              ReasonCode = 0x18
	ReAuthenticate                      ReasonCode = 0x19
	UnspecifiedError                    ReasonCode = 0x80
	MalformedPacket                     ReasonCode = 0x81
	ProtocolError                       ReasonCode = 0x82
	ImplementationSpecificError         ReasonCode = 0x83
	UnsupportedProtocolVersion          ReasonCode = 0x84
	ClientIdentifierNotValid            ReasonCode = 0x85
	BadUserNameOrPassword               ReasonCode = 0x86
	NotAuthorized                       ReasonCode = 0x87
	ServerUnavailable                   ReasonCode = 0x88
	ServerBusy                          ReasonCode = 0x89
	Banned                              ReasonCode = 0x8A
	ServerShuttingDown                  ReasonCode = 0x8B
	BadAuthenticationMethod             ReasonCode = 0x8C
	KeepAliveTimeout                    ReasonCode = 0x8D
	SessionTakenOver                    ReasonCode = 0x8E
	TopicFilterInvalid                  ReasonCode = 0x8F
	TopicNameInvalid                    ReasonCode = 0x90
	PacketIdentifierInUse               ReasonCode = 0x91
	PacketIdentifierNotFound            ReasonCode = 0x92
	ReceiveMaximumExceeded              ReasonCode = 0x93
	TopicAliasInvalid                   ReasonCode = 0x94
	PacketTooLarge                      ReasonCode = 0x95
	MessageRateTooHigh                  ReasonCode = 0x96
	QuotaExceeded                       ReasonCode = 0x97
	AdministrativeAction                ReasonCode = 0x98
	PayloadFormatInvalid                ReasonCode = 0x99
	RetainNotSupported                  ReasonCode = 0x9A
	QoSNotSupported                     ReasonCode = 0x9B
	UseAnotherServer                    ReasonCode = 0x9C
	ServerMoved                         ReasonCode = 0x9D
	SharedSubscriptionsNotSupported     ReasonCode = 0x9E
	ConnectionRateExceeded              ReasonCode = 0x9F
	MaximumConnectTime                  ReasonCode = 0xA0
	SubscriptionIdentifiersNotSupported ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported   ReasonCode = 0xA2
)

// packetSet is a set of packet types: bit n stands for PacketType n. Bit 0,
// which no packet type has, stands for a DISCONNECT that a client sends.
type packetSet uint16

const (
	inConnack    packetSet = 1 << CONNACK
	inPublishAck packetSet = 1<<PUBACK | 1<<PUBREC
	inReleaseAck packetSet = 1<<PUBREL | 1<<PUBCOMP
	inSuback     packetSet = 1 << SUBACK
	inUnsuback   packetSet = 1 << UNSUBACK
	inAuth       packetSet = 1 << AUTH
	byServer     packetSet = 1 << DISCONNECT
	byClient     packetSet = 1 << 0
	byBoth       packetSet = byServer | byClient
)

type reasonInfo struct {
	name string
	in   packetSet // the packets that may carry the code
}

// reasonTable joins the names with the tables of 3.2.2.2, 3.4.2.1, 3.5.2.1,
// 3.6.2.1, 3.7.2.1, 3.9.3, 3.11.3, 3.14.2.1 and 3.15.2.1. A server that says
// "normal disconnection" is tolerated: brokers in the field do so.
var reasonTable = [...]reasonInfo{
	Success:                             {"Success", inConnack | inPublishAck | inReleaseAck | inSuback | inUnsuback | inAuth | byBoth},
	GrantedQoS1:                         {"Granted QoS 1", inSuback},
	GrantedQoS2:                         {"Granted QoS 2", inSuback},
	DisconnectWithWill:                  {"Disconnect with Will Message", byClient},
	NoMatchingSubscribers:               {"No matching subscribers", inPublishAck},
	NoSubscriptionExisted:               {"No subscription existed", inUnsuback},
	ContinueAuthentication:              {"Continue authentication", inAuth},
	ReAuthenticate:                      {"Re-authenticate", inAuth},
	UnspecifiedError:                    {"Unspecified error", inConnack | inPublishAck | inSuback | inUnsuback | byBoth},
	MalformedPacket:                     {"Malformed Packet", inConnack | byBoth},
	ProtocolError:                       {"Protocol Error", inConnack | byBoth},
	ImplementationSpecificError:         {"Implementation specific error", inConnack | inPublishAck | inSuback | inUnsuback | byBoth},
	UnsupportedProtocolVersion:          {"Unsupported Protocol Version", inConnack},
	ClientIdentifierNotValid:            {"Client Identifier not valid", inConnack},
	BadUserNameOrPassword:               {"Bad User Name or Password", inConnack},
	NotAuthorized:                       {"Not authorized", inConnack | inPublishAck | inSuback | inUnsuback | byServer},
	ServerUnavailable:                   {"Server unavailable", inConnack},
	ServerBusy:                          {"Server busy", inConnack | byServer},
	Banned:                              {"Banned", inConnack},
	ServerShuttingDown:                  {"Server shutting down", byServer},
	BadAuthenticationMethod:             {"Bad authentication method", inConnack | byServer},
	KeepAliveTimeout:                    {"Keep Alive timeout", byServer},
	SessionTakenOver:                    {"Session taken over", byServer},
	TopicFilterInvalid:                  {"Topic Filter invalid", inSuback | inUnsuback | byServer},
	TopicNameInvalid:                    {"Topic Name invalid", inConnack | inPublishAck | byBoth},
	PacketIdentifierInUse:               {"Packet Identifier in use", inPublishAck | inSuback | inUnsuback},
	PacketIdentifierNotFound:            {"Packet Identifier not found", inReleaseAck},
	ReceiveMaximumExceeded:              {"Receive Maximum exceeded", byBoth},
	TopicAliasInvalid:                   {"Topic Alias invalid", byBoth},
	PacketTooLarge:                      {"Packet too large", inConnack | byBoth},
	MessageRateTooHigh:                  {"Message rate too high", byBoth},
	QuotaExceeded:                       {"Quota exceeded", inConnack | inPublishAck | inSuback | byBoth},
	AdministrativeAction:                {"Administrative action", byBoth},
	PayloadFormatInvalid:                {"Payload format invalid", inConnack | inPublishAck | byBoth},
	RetainNotSupported:                  {"Retain not supported", inConnack | byServer},
	QoSNotSupported:                     {"QoS not supported", inConnack | byServer},
	UseAnotherServer:                    {"Use another server", inConnack | byServer},
	ServerMoved:                         {"Server moved", inConnack | byServer},
	SharedSubscriptionsNotSupported:     {"Shared Subscriptions not supported", inSuback | byServer},
	ConnectionRateExceeded:              {"Connection rate exceeded", inConnack | byServer},
	MaximumConnectTime:                  {"Maximum connect time", byServer},
	SubscriptionIdentifiersNotSupported: {"Subscription Identifiers not supported", inSuback | byServer},
	WildcardSubscriptionsNotSupported:   {"Wildcard Subscriptions not supported", inSuback | byServer},
}

// String gives the standard's name of the code, or its number in hexadecimal if
// the standard has no such code.
func (r ReasonCode) String() string {
	if int(r) < len(reasonTable) && reasonTable[r].name != "" {
		return reasonTable[r].name
	}
	return "0x" + strconv.FormatUint(uint64(r), 16)
}

// Failed tells whether the code is an error (2.4: 0x80 or greater).
func (r ReasonCode) Failed() bool { return r >= 0x80 }

// allowedIn tells whether a packet of one of the given types may carry the code.
func (r ReasonCode) allowedIn(packets packetSet) bool {
	return int(r) < len(reasonTable) && reasonTable[r].in&packets != 0
}

// ConnackV3 translates the code into a return code of an MQTT 3.1 or 3.1.1
// CONNACK (MQTT 3.1.1, 3.2.2.3). Those know five refusals; ok is false for what
// is no fault of the server and none of them says: it is answered by closing the
// connection [MQTT311-3.1.4-1], [MQTT311-3.2.2-6].
func (r ReasonCode) ConnackV3() (code byte, ok bool) {
	switch r {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	case MalformedPacket, ProtocolError, TopicNameInvalid, PacketTooLarge, PayloadFormatInvalid, RetainNotSupported, QoSNotSupported:
		return 0, false
	}
	return 3, true // server unavailable
}

// ForConnack gives the code as a CONNACK may carry it (3.2.2.2): itself, or the
// one that says the same of a connection that has not begun [MQTT-3.2.2-8].
func (r ReasonCode) ForConnack() ReasonCode {
	switch {
	case r.allowedIn(inConnack):
		return r
	case r == ServerShuttingDown || r == MaximumConnectTime:
		return ServerUnavailable
	}
	return UnspecifiedError
}

// ForDisconnect gives the code as a DISCONNECT of a server may carry it
// (3.14.2.1): itself, or the one that says the same of a connection that ends
// [MQTT-3.14.2-1].
func (r ReasonCode) ForDisconnect() ReasonCode {
	switch {
	case r.allowedIn(byServer):
		return r
	case r == BadUserNameOrPassword || r == Banned:
		return NotAuthorized
	case r == ServerUnavailable:
		return ServerBusy
	}
	return UnspecifiedError
}

// SubackV3 translates the code into a return code of an MQTT 3.1.1 SUBACK: the
// granted QoS, or 0x80 for every failure [MQTT311-3.9.3-2].
func (r ReasonCode) SubackV3() byte {
	if r <= GrantedQoS2 {
		return byte(r)
	}
	return 0x80
}

// connackReasons translates the return codes of an MQTT 3.1.1 CONNACK.
var connackReasons = [...]ReasonCode{
	0: Success,
	1: UnsupportedProtocolVersion,
	2: ClientIdentifierNotValid,
	3: ServerUnavailable,
	4: BadUserNameOrPassword,
	5: NotAuthorized,
}
