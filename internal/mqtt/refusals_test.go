package mqtt

import (
	"fmt"
	"testing"
)

var (
	all      = []Version{V31, V311, V5}
	before5  = []Version{V31, V311}
	only311  = []Version{V311}
	only5    = []Version{V5}
	since311 = []Version{V311, V5}
)

// refusals name the statement or section that each packet breaks.
var refusals = []struct {
	name     string
	versions []Version
	from     sender
	wire     string
	want     *Fault
}{
	// Fixed header and data representation.
	{"2.1.2 type 0", all, fromClient, `00:`, faultPacketType},
	{"MQTT-1.5.5-1 remaining length not minimal", only5, fromClient, `C0 80 00`, faultVarintMinimal},
	{"1.5.5 remaining length of five bytes", all, fromClient, `C0 80 80 80 80 00`, faultVarintLong},
	{"MQTT-2.1.3-1 flags of PINGREQ", since311, fromClient, `C1:`, flagFaults[PINGREQ]},
	{"MQTT-2.1.3-1 flags of PUBACK", since311, fromClient, `42: 0001`, flagFaults[PUBACK]},
	{"MQTT-2.1.3-1 flags of CONNACK", since311, fromServer, `21: 00 00 00`, flagFaults[CONNACK]},
	{"MQTT-3.6.1-1 flags of PUBREL", all, fromClient, `60: 0001`, flagFaults[PUBREL]},
	{"MQTT-3.6.1-1 DUP of PUBREL", since311, fromClient, `6A: 0001`, flagFaults[PUBREL]},
	{"MQTT-3.8.1-1 flags of SUBSCRIBE", all, fromClient, `80: 0001 "a" 00`, flagFaults[SUBSCRIBE]},
	{"MQTT-3.10.1-1 flags of UNSUBSCRIBE", all, fromClient, `A4: 0001 "a"`, flagFaults[UNSUBSCRIBE]},
	{"MQTT-3.14.1-1 flags of DISCONNECT", since311, fromClient, `E1:`, flagFaults[DISCONNECT]},
	{"MQTT-3.15.1-1 flags of AUTH", only5, fromClient, `F1: 18 [ 15 "m" ]`, flagFaults[AUTH]},
	{"MQTT-1.5.4-1 overlong encoding", before5, fromClient, `30: 0002 C080`, faultUTF8},
	{"MQTT-1.5.4-1 surrogate", before5, fromClient, `30: 0003 EDA080`, faultUTF8},
	{"MQTT-1.5.4-1 beyond U+10FFFF", before5, fromClient, `30: 0004 F4908080`, faultUTF8},
	{"MQTT-1.5.4-1 sequence cut short", only5, fromClient, `30: 0002 61C3 [ ]`, faultUTF8},
	{"MQTT-1.5.4-2 U+0000", before5, fromClient, `30: 0003 610062`, faultNUL},
	{"1.5.4 string longer than the packet", before5, fromClient, `30: 0005 6162`, faultTruncated},
	{"1.5.2 integer cut short", all, fromClient, `40: 00`, faultTruncated},
	{"3.12 PINGREQ with a body", all, fromClient, `C0: 00`, faultTrailing},
	{"3.13 PINGRESP with a body", all, fromServer, `D0: 00`, faultTrailing},

	// CONNECT. The version of the packet counts, not that of the row.
	{"3.1.2.1 no protocol name", only5, fromClient, `10:`, faultTruncated},
	{"MQTT-3.1.2-1 protocol name", only5, fromClient, `10: "MQtt" 05 02 003C [ ] "c"`, faultProtocolName},
	{"MQTT-3.1.2-1 name of 3.1 with the level of 3.1.1", only311, fromClient, `10: "MQIsdp" 04 02 003C "c"`, faultProtocolVersion},
	{"MQTT-3.1.2-2 protocol version", only5, fromClient, `10: "MQTT" 06 02 003C [ ] "c"`, faultProtocolVersion},
	{"MQTT-3.1.2-2 name of 3.1.1 with the level of 3.1", only311, fromClient, `10: "MQTT" 03 02 003C "c"`, faultProtocolVersion},
	{"MQTT-3.1.2-2 level of a bridge", only311, fromClient, `10: "MQTT" 84 02 003C "c"`, faultProtocolVersion},
	{"MQTT-2.1.3-1 flags of CONNECT", only311, fromClient, `11: "MQTT" 04 02 003C "c"`, flagFaults[CONNECT]},
	{"MQTT-1.5.5-1 length of CONNECT not minimal", only5, fromClient, `10 8E 00 "MQTT" 05 02 003C 00 "c"`, faultVarintMinimal},
	{"MQTT-3.1.2-3 reserved flag", since311, fromClient, `10: "MQTT" 04 03 003C "c"`, faultConnectReserved},
	{"MQTT-3.1.2-11 will QoS without will", only5, fromClient, `10: "MQTT" 05 08 003C [ ] "c"`, faultWillQoSUnset},
	{"MQTT-3.1.2-12 will QoS 3", only5, fromClient, `10: "MQTT" 05 1C 003C [ ] "c" [ ] "w" ""`, faultWillQoS},
	{"MQTT-3.1.2-12 will QoS 3 in 3.1", only311, fromClient, `10: "MQIsdp" 03 1C 003C "c" "w" ""`, faultWillQoS},
	{"MQTT-3.1.2-13 will retain without will", only311, fromClient, `10: "MQTT" 04 20 003C "c"`, faultWillRetainUnset},
	{"MQTT311-3.1.2-22 password alone", only311, fromClient, `10: "MQTT" 04 42 003C "c" "p"`, faultPasswordAlone},
	{"MQTT-3.1.3-3 no client identifier", only311, fromClient, `10: "MQTT" 04 02 003C`, faultTruncated},
	{"MQTT-3.1.3-4 client identifier not UTF-8", only311, fromClient, `10: "MQTT" 04 02 003C 0001 FF`, faultUTF8},
	{"MQTT311-3.1.3-8 empty client identifier", only311, fromClient, `10: "MQTT" 04 00 003C ""`, faultClientIDEmpty},
	{"MQTT 3.1 empty client identifier", only311, fromClient, `10: "MQIsdp" 03 02 003C ""`, faultClientIDV31},
	{"MQTT 3.1 client identifier of 24 characters", only311, fromClient, `10: "MQIsdp" 03 02 003C "x*24"`, faultClientIDV31},
	{"MQTT-3.1.2-9 will flag without will", only311, fromClient, `10: "MQTT" 04 06 003C "c"`, faultTruncated},
	{"MQTT-3.1.3-11 will topic not UTF-8", only311, fromClient, `10: "MQTT" 04 06 003C "c" 0001 FF ""`, faultUTF8},
	{"MQTT-4.7.3-1 will topic empty", only311, fromClient, `10: "MQTT" 04 06 003C "c" "" ""`, faultTopicEmpty},
	{"MQTT-4.7.0-1 will topic with wildcard", only311, fromClient, `10: "MQTT" 04 06 003C "c" "a/#" ""`, faultTopicWildcard},
	{"MQTT-3.1.2-17 user name missing", only311, fromClient, `10: "MQTT" 04 82 003C "c"`, faultTruncated},
	{"MQTT-3.1.3-12 user name not UTF-8", only311, fromClient, `10: "MQTT" 04 82 003C "c" 0001 80`, faultUTF8},
	{"MQTT-3.1.2-19 password missing", only311, fromClient, `10: "MQTT" 04 C2 003C "c" "u"`, faultTruncated},
	{"MQTT-3.1.2-16 user name without its flag", only311, fromClient, `10: "MQTT" 04 02 003C "c" "u"`, faultTrailing},
	{"MQTT-3.1.2-18 password without its flag", only5, fromClient, `10: "MQTT" 05 82 003C [ ] "c" "u" "p"`, faultTrailing},
	{"MQTT-2.2.2-1 no property length", only5, fromClient, `10: "MQTT" 05 02 003C`, faultTruncated},

	// Properties, shown with CONNECT, CONNACK and PUBLISH.
	{"2.2.2.1 property length beyond the packet", only5, fromClient, `30: "a" 05 01 00`, faultTruncated},
	{"2.2.2.1 property cut short", only5, fromClient, `30: "a" 04 02 000000 00`, faultPropertyLength},
	{"MQTT-1.5.5-1 property length not minimal", only5, fromClient, `30: "a" 80 00`, faultVarintMinimal},
	{"2.2.2.2 unknown property", only5, fromClient, `30: "a" [ 04 00 ]`, faultPropertyUnknown},
	{"2.2.2.2 property 0", only5, fromClient, `30: "a" [ 00 ]`, faultPropertyUnknown},
	{"2.2.2.2 property beyond the table", only5, fromClient, `30: "a" [ FF 01 ]`, faultPropertyUnknown},
	{"2.2.2.2 property of another packet", only5, fromClient, `30: "a" [ 21 0001 ]`, faultPropertyUnknown},
	{"2.2.2.2 will delay in PUBLISH", only5, fromClient, `30: "a" [ 18 00000001 ]`, faultPropertyUnknown},
	{"2.2.2.2 topic alias in a will", only5, fromClient, `10: "MQTT" 05 06 003C [ ] "c" [ 23 0001 ] "w" ""`, faultPropertyUnknown},
	{"3.3.2.3.2 payload format twice", only5, fromClient, `30: "a" [ 01 01 01 01 ]`, faultPropertyTwice},
	{"3.3.2.3.2 payload format 2", only5, fromClient, `30: "a" [ 01 02 ]`, faultPropertyValue},
	{"3.3.2.3.3 message expiry twice", only5, fromClient, `30: "a" [ 02 00000001 02 00000001 ]`, faultPropertyTwice},
	{"3.3.2.3.4 topic alias twice", only5, fromClient, `30: "a" [ 23 0001 23 0001 ]`, faultPropertyTwice},
	{"MQTT-3.3.2-8 topic alias 0", only5, fromClient, `30: "a" [ 23 0000 ]`, faultTopicAliasZero},
	{"MQTT-3.3.2-13 response topic not UTF-8", only5, fromClient, `30: "a" [ 08 0001 FF ]`, faultUTF8},
	{"MQTT-3.3.2-14 response topic with wildcard", only5, fromClient, `30: "a" [ 08 "r/+" ]`, faultResponseWildcard},
	{"MQTT-4.7.3-1 response topic empty", only5, fromClient, `30: "a" [ 08 "" ]`, faultResponseEmpty},
	{"3.3.2.3.6 correlation data twice", only5, fromClient, `30: "a" [ 09 "1" 09 "2" ]`, faultPropertyTwice},
	{"MQTT-3.3.2-19 content type not UTF-8", only5, fromClient, `30: "a" [ 03 0001 FF ]`, faultUTF8},
	{"MQTT-1.5.7-1 user property name not UTF-8", only5, fromClient, `30: "a" [ 26 0001 FF "v" ]`, faultUTF8},
	{"MQTT-1.5.7-1 user property value with U+0000", only5, fromClient, `30: "a" [ 26 "k" 0001 00 ]`, faultNUL},
	{"3.1.2.11.2 session expiry twice", only5, fromClient, `10: "MQTT" 05 02 003C [ 11 00000001 11 00000001 ] "c"`, faultPropertyTwice},
	{"3.1.2.11.3 receive maximum 0", only5, fromClient, `10: "MQTT" 05 02 003C [ 21 0000 ] "c"`, faultPropertyValue},
	{"3.1.2.11.4 maximum packet size 0", only5, fromClient, `10: "MQTT" 05 02 003C [ 27 00000000 ] "c"`, faultPropertyValue},
	{"3.1.2.11.6 request response information 2", only5, fromClient, `10: "MQTT" 05 02 003C [ 19 02 ] "c"`, faultPropertyValue},
	{"3.1.2.11.7 request problem information 2", only5, fromClient, `10: "MQTT" 05 02 003C [ 17 02 ] "c"`, faultPropertyValue},
	{"3.1.2.11.9 authentication method twice", only5, fromClient, `10: "MQTT" 05 02 003C [ 15 "m" 15 "m" ] "c"`, faultPropertyTwice},
	{"3.1.2.11.10 authentication data without method", only5, fromClient, `10: "MQTT" 05 02 003C [ 16 "d" ] "c"`, faultAuthData},
	{"3.2.2.3.4 maximum QoS 2", only5, fromServer, `20: 00 00 [ 24 02 ]`, faultPropertyValue},
	{"3.2.2.3.5 retain available 2", only5, fromServer, `20: 00 00 [ 25 02 ]`, faultPropertyValue},

	// CONNACK.
	{"MQTT-3.2.2-1 acknowledge flags in 3.1.1", only311, fromServer, `20: 02 00`, faultConnackFlags},
	{"MQTT-3.2.2-1 acknowledge flags in 5", only5, fromServer, `20: 80 00 [ ]`, faultConnackFlags},
	{"MQTT-3.2.2-6 session present in a refusal", only5, fromServer, `20: 01 87 [ ]`, faultConnackSession},
	{"MQTT-3.2.2-6 session present in a refusal of 3.1.1", only311, fromServer, `20: 01 05`, faultConnackSession},
	{"MQTT-3.2.2-8 reason of another packet", only5, fromServer, `20: 00 8E [ ]`, faultReasonUnlisted},
	{"MQTT 3.1.1 3.2.2.3 return code 6", before5, fromServer, `20: 00 06`, faultConnackReturnCode},
	{"3.2.2 CONNACK of one byte", all, fromServer, `20: 00`, faultTruncated},

	// PUBLISH.
	{"MQTT-3.3.1-4 QoS 3", all, fromClient, `36: "a" 0001 00`, faultQoS},
	{"MQTT-3.3.1-2 DUP on QoS 0", since311, fromClient, `38: "a" 00`, faultDup},
	{"MQTT-3.3.2-1 no topic", all, fromClient, `30:`, faultTruncated},
	{"MQTT-3.3.2-2 wildcard +", all, fromClient, `30: "a/+/b" 00`, faultTopicWildcard},
	{"MQTT-3.3.2-2 wildcard # in a long topic", all, fromClient, `30: "abcdefgh/#" 00`, faultTopicWildcard},
	{"MQTT-4.7.3-1 topic empty", before5, fromClient, `30: "" 00`, faultTopicEmpty},
	{"MQTT-4.7.3-1 nothing but an empty topic", before5, fromClient, `30: ""`, faultTopicEmpty},
	{"3.3.2.1 neither topic nor alias", only5, fromClient, `30: "" [ ]`, faultNoTopic},
	{"MQTT-2.2.1-3 packet identifier 0", all, fromClient, `32: "a" 0000 00`, faultPacketID},
	{"2.2.1 packet identifier missing", all, fromClient, `32: "a"`, faultTruncated},
	{"2.2.1 packet identifier cut short", all, fromClient, `34: "a" 00`, faultTruncated},
	{"MQTT-2.2.2-1 no property length in PUBLISH", only5, fromClient, `30: "a"`, faultTruncated},
	{"MQTT-3.3.4-6 subscription identifier", only5, fromClient, `30: "a" [ 0B 01 ]`, faultClientSubID},
	{"3.3.2.3.8 subscription identifier 0", only5, fromServer, `30: "a" [ 0B 00 ]`, faultPropertyValue},

	// PUBACK, PUBREC, PUBREL, PUBCOMP.
	{"MQTT-2.2.1-5 packet identifier 0", all, fromClient, `40: 0000`, faultPacketID},
	{"3.4.2 reason before MQTT 5", before5, fromClient, `40: 0001 00`, faultTrailing},
	{"MQTT-3.4.2-1 reason of another packet", only5, fromClient, `40: 0001 92`, faultReasonUnlisted},
	{"MQTT-3.5.2-1 reason of another packet", only5, fromClient, `50: 0001 01`, faultReasonUnlisted},
	{"MQTT-3.6.2-1 reason of another packet", only5, fromClient, `62: 0001 80`, faultReasonUnlisted},
	{"MQTT-3.7.2-1 reason after the last", only5, fromClient, `70: 0001 A3`, faultReasonUnlisted},
	{"MQTT-3.7.2-1 reason unknown", only5, fromClient, `70: 0001 FF`, faultReasonUnlisted},
	{"3.4.2.2 property of another packet", only5, fromClient, `40: 0001 00 [ 11 00000001 ]`, faultPropertyUnknown},
	{"3.4.2.2.2 reason string twice", only5, fromClient, `40: 0001 00 [ 1F "a" 1F "b" ]`, faultPropertyTwice},
	{"3.4.2 bytes after the properties", only5, fromClient, `40: 0001 00 [ ] 00`, faultTrailing},

	// SUBSCRIBE and SUBACK.
	{"MQTT-3.8.3-2 no filter", before5, fromClient, `82: 0001`, faultSubscribeEmpty},
	{"MQTT-3.8.3-2 no filter in 5", only5, fromClient, `82: 0001 [ ]`, faultSubscribeEmpty},
	{"MQTT-2.2.1-3 SUBSCRIBE packet identifier 0", before5, fromClient, `82: 0000 "a" 00`, faultPacketID},
	{"3.8.3 options missing", before5, fromClient, `82: 0001 "a"`, faultTruncated},
	{"MQTT-3.8.3-1 filter not UTF-8", before5, fromClient, `82: 0001 0001 FF 00`, faultUTF8},
	{"MQTT-4.7.3-1 filter empty", before5, fromClient, `82: 0001 "" 00`, faultFilterEmpty},
	{"MQTT-4.7.3-2 filter with U+0000", before5, fromClient, `82: 0001 0002 6100 00`, faultNUL},
	{"MQTT-4.7.1-1 # not last", before5, fromClient, `82: 0001 "a/#/b" 00`, faultFilterHash},
	{"MQTT-4.7.1-1 # not alone", before5, fromClient, `82: 0001 "a#" 00`, faultFilterHash},
	{"MQTT-4.7.1-2 + not alone", before5, fromClient, `82: 0001 "a/b+" 00`, faultFilterPlus},
	{"the second filter is looked at too", before5, fromClient, `82: 0001 "a" 00 "b+" 00`, faultFilterPlus},
	{"MQTT311-3.8.3-4 QoS 3", before5, fromClient, `82: 0001 "a" 03`, faultOptionsReservedV3},
	{"MQTT311-3.8.3-4 options of MQTT 5", before5, fromClient, `82: 0001 "a" 04`, faultOptionsReservedV3},
	{"MQTT-3.8.3-5 reserved options", only5, fromClient, `82: 0001 [ ] "a" 40`, faultOptionsReserved},
	{"3.8.3.1 maximum QoS 3", only5, fromClient, `82: 0001 [ ] "a" 03`, faultOptionsQoS},
	{"3.8.3.1 retain handling 3", only5, fromClient, `82: 0001 [ ] "a" 30`, faultRetainHandling},
	{"MQTT-3.8.3-1 shared filter not UTF-8", before5, fromClient, `82: 0001 0008 2473686172652FFF 00`, faultUTF8},
	{"MQTT-4.7.3-2 shared filter with U+0000", before5, fromClient, `82: 0001 0008 2473686172652F00 00`, faultNUL},
	{"MQTT-3.8.3-4 no local on a share", only5, fromClient, `82: 0001 [ ] "$share/g/a" 04`, faultNoLocalShared},
	{"3.8.2.1.2 subscription identifier 0", only5, fromClient, `82: 0001 [ 0B 00 ] "a" 00`, faultPropertyValue},
	{"3.8.2.1.2 subscription identifier twice", only5, fromClient, `82: 0001 [ 0B 01 0B 02 ] "a" 00`, faultSubIDTwice},
	{"MQTT-3.9.3-2 reserved code", all, fromServer, `90: 0001 00 03`, faultSubackCode},
	{"MQTT-3.9.3-2 code of MQTT 5 in 3.1.1", before5, fromServer, `90: 0001 87`, faultSubackCode},
	{"3.9.3 no code", before5, fromServer, `90: 0001`, faultSubackEmpty},
	{"MQTT-2.2.1-6 SUBACK packet identifier 0", before5, fromServer, `90: 0000 00`, faultPacketID},

	// UNSUBSCRIBE and UNSUBACK.
	{"MQTT-3.10.3-2 no filter", before5, fromClient, `A2: 0001`, faultUnsubscribeEmpty},
	{"MQTT-3.10.3-1 filter not UTF-8", before5, fromClient, `A2: 0001 0001 FF`, faultUTF8},
	{"MQTT-4.7.1-2 + not alone in UNSUBSCRIBE", before5, fromClient, `A2: 0001 "+a"`, faultFilterPlus},
	{"2.2.2.2 subscription identifier in UNSUBSCRIBE", only5, fromClient, `A2: 0001 [ 0B 01 ] "a"`, faultPropertyUnknown},
	{"MQTT-3.11.3-2 reason of another packet", only5, fromServer, `B0: 0001 [ ] 01`, faultReasonUnlisted},
	{"3.11.3 no code", only5, fromServer, `B0: 0001 [ ]`, faultSubackEmpty},
	{"3.11 codes before MQTT 5", before5, fromServer, `B0: 0001 00`, faultTrailing},

	// DISCONNECT and AUTH.
	{"3.14 body before MQTT 5", before5, fromClient, `E0: 00`, faultTrailing},
	{"MQTT-3.14.2-1 reason unknown", only5, fromClient, `E0: 05`, faultReasonUnlisted},
	{"MQTT-3.14.2-1 reason of a server", only5, fromClient, `E0: 8E`, faultReasonUnlisted},
	{"MQTT-3.14.2-1 reason of a client", only5, fromServer, `E0: 04`, faultReasonUnlisted},
	{"MQTT-3.14.2-2 session expiry of a server", only5, fromServer, `E0: 00 [ 11 00000001 ]`, faultServerExpiry},
	{"3.14.2.2.5 server reference of a client", only5, fromClient, `E0: 00 [ 1C "x" ]`, faultClientReference},
	{"3.15 AUTH before MQTT 5", before5, fromClient, `F0: 18 [ 15 "m" ]`, faultNotInV3},
	{"3.15.2.2.2 no authentication method", only5, fromClient, `F0: 18 [ ]`, faultAuthMethod},
	{"3.15.2.2.2 reason alone", only5, fromClient, `F0: 18`, faultAuthMethod},
	{"3.15.2.1 success of a client", only5, fromClient, `F0: 00 [ 15 "m" ]`, faultAuthSender},
	{"3.15.2.1 empty AUTH of a client", only5, fromClient, `F0:`, faultAuthSender},
	{"3.15.2.1 re-authenticate of a server", only5, fromServer, `F0: 19 [ 15 "m" ]`, faultAuthSender},
	{"MQTT-3.15.2-1 reason of another packet", only5, fromClient, `F0: 80 [ 15 "m" ]`, faultReasonUnlisted},
}

func TestRefusals(t *testing.T) {
	for _, test := range refusals {
		for _, v := range test.versions {
			t.Run(fmt.Sprintf("v%d %s", v, test.name), func(t *testing.T) {
				frame := wire(t, test.wire)
				var p anyPacket
				if f := p.parse(frame, v, test.from); f != test.want {
					t.Errorf("% x: %v, want %v", frame, f, test.want)
				}
			})
		}
	}
}

// TestConnectRefusalVersion shows in which version a refusal can be answered.
func TestConnectRefusalVersion(t *testing.T) {
	for _, test := range []struct {
		wire string
		want Version
	}{
		{`10: "MQTT"`, 0},
		{`10: "HTTP" 05 02 003C`, 0},
		{`11: "MQTT" 04 02 003C "c"`, V311},
		{`10: "MQTT" 05 03 003C`, V5},
		{`10: "MQTT" 06 02 003C 00 "c"`, V5},
		{`10: "MQTT" 84 02 003C "c"`, V311},
		{`10: "MQTT" 00 02 003C "c"`, V311},
		{`10: "MQTT" 7F 02 003C 00 "c"`, V5},
		{`10: "MQTT" 80 02 003C "c"`, V311},
		{`10: "MQIsdp" 05 02 003C "c"`, V311},
		{`10: "MQIsdp" 03 02 003C ""`, V31},
	} {
		c := Connect{Version: 99}
		if f := ParseConnect(wire(t, test.wire), &c); f == nil || c.Version != test.want {
			t.Errorf("%s: %v, answer in version %d, want %d", test.wire, f, c.Version, test.want)
		}
	}
}

// TestPacketsOfAnotherType gives every parser every packet that is not its own.
func TestPacketsOfAnotherType(t *testing.T) {
	for typ := PacketType(0); typ <= AUTH; typ++ {
		frame := []byte{byte(typ)<<4 | fixedFlags[typ], 0}
		var p anyPacket
		for name, test := range map[string]struct {
			own   bool
			fault *Fault
		}{
			"CONNECT":     {typ == CONNECT, ParseConnect(frame, &p.connect)},
			"CONNACK":     {typ == CONNACK, ParseConnack(frame, V5, &p.connack)},
			"PUBLISH":     {typ == PUBLISH, ParsePublish(frame, V5, &p.publish)},
			"acks":        {typ >= PUBACK && typ <= PUBCOMP, ParseAck(frame, V5, &p.ack)},
			"SUBSCRIBE":   {typ == SUBSCRIBE, ParseSubscribe(frame, V5, &p.subscribe)},
			"SUBACK":      {typ == SUBACK, ParseSuback(frame, V5, &p.suback)},
			"UNSUBSCRIBE": {typ == UNSUBSCRIBE, ParseUnsubscribe(frame, V5, &p.unsubscribe)},
			"UNSUBACK":    {typ == UNSUBACK, ParseUnsuback(frame, V5, &p.unsuback)},
			"PINGREQ":     {typ == PINGREQ, ParsePingreq(frame, V5)},
			"PINGRESP":    {typ == PINGRESP, ParsePingresp(frame, V5)},
			"DISCONNECT":  {typ == DISCONNECT, ParseDisconnect(frame, V5, &p.disconnect)},
			"AUTH":        {typ == AUTH, ParseServerAuth(frame, V5, &p.auth)},
		} {
			if (test.fault == faultPacketType) == test.own {
				t.Errorf("%s given %v: %v", name, typ, test.fault)
			}
		}
	}
}

func TestFault(t *testing.T) {
	if err := (*Fault)(nil).Err(); err != nil {
		t.Errorf("no fault is the error %v", err)
	}
	if err := faultNUL.Err(); err == nil || err.Error() != "Malformed Packet: string contains U+0000 [MQTT-1.5.4-2]" {
		t.Errorf("error %v", err)
	}
	if got := faultTrailing.Error(); got != "Malformed Packet: bytes after the last field" {
		t.Errorf("error %s", got)
	}
}

func TestReasonCodes(t *testing.T) {
	for code, want := range map[ReasonCode]string{
		0: "Success", 0x93: "Receive Maximum exceeded", 3: "0x3",
		0xA2: "Wildcard Subscriptions not supported", 0xA3: "0xa3", 0xFF: "0xff", // the last one, and beyond
	} {
		if got := code.String(); got != want {
			t.Errorf("reason %d is %q, want %q", code, got, want)
		}
	}
	if Success.Failed() || !UnspecifiedError.Failed() || ReAuthenticate.Failed() {
		t.Error("failures are the codes from 0x80")
	}
}

func TestReturnCodesBeforeMQTT5(t *testing.T) {
	for code, reason := range connackReasons {
		if got, ok := reason.ConnackV3(); got != byte(code) || !ok {
			t.Errorf("%v is return code %d, want %d", reason, got, code)
		}
	}
	for reason, want := range map[ReasonCode]byte{ServerBusy: 3, QuotaExceeded: 3, Banned: 5, BadAuthenticationMethod: 5} {
		if got, ok := reason.ConnackV3(); got != want || !ok {
			t.Errorf("%v is return code %d, want %d", reason, got, want)
		}
	}
	for _, reason := range []ReasonCode{MalformedPacket, ProtocolError, TopicNameInvalid} { // [MQTT311-3.2.2-6]
		if _, ok := reason.ConnackV3(); ok || len(AppendConnack(nil, V311, &Connack{Reason: reason})) > 0 {
			t.Errorf("%v has a return code", reason)
		}
	}
	for reason, want := range map[ReasonCode]byte{GrantedQoS0: 0, GrantedQoS2: 2, NotAuthorized: 0x80, NoSubscriptionExisted: 0x80} {
		if got := reason.SubackV3(); got != want {
			t.Errorf("%v is SUBACK code %d, want %d", reason, got, want)
		}
	}
}
