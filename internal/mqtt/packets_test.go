package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

// goodPackets are packets as other implementations write them, what they say,
// and that writing them again gives the same bytes. The properties stand in the
// order of their identifiers, which is the order of the builders. The fields of CONNECT stand in the order of
// [MQTT-3.1.3-1] and [MQTT311-3.1.3-1]; a packet without properties has a property length of 0 [MQTT-2.2.2-1].
var goodPackets = []struct {
	name    string
	version Version
	from    sender
	wire    string
	says    string
}{
	{"CONNECT 3.1", V31, fromClient, `10: "MQIsdp" 03 02 003C "c1"`,
		`CONNECT v3 clean=true keep=60 "c1"`},
	{"CONNECT 3.1 with 23 characters", V31, fromClient, `10: "MQIsdp" 03 00 0000 "é*23"`,
		`CONNECT v3 clean=false keep=0 "` + strings.Repeat("é", 23) + `"`},
	{"CONNECT 3.1.1", V311, fromClient, `10: "MQTT" 04 02 003C "c1"`,
		`CONNECT v4 clean=true keep=60 "c1"`},
	{"CONNECT 3.1.1 empty client identifier", V311, fromClient, `10: "MQTT" 04 02 0000 ""`,
		`CONNECT v4 clean=true keep=0 ""`},
	{"CONNECT 3.1.1 with all", V311, fromClient, `10: "MQTT" 04 EE FFFF "c1" "w/t" "gone" "u" "p"`,
		`CONNECT v4 clean=true keep=65535 "c1" will(q1 retain=true "w/t" "gone") user="u" password="p"`},
	{"CONNECT 3.1.1 empty user name, no password", V311, fromClient, `10: "MQTT" 04 80 0000 "c1" ""`,
		`CONNECT v4 clean=false keep=0 "c1" user=""`},
	{"CONNECT 5", V5, fromClient, `10: "MQTT" 05 02 003C [ ] "c1"`,
		`CONNECT v5 clean=true keep=60 "c1"`},
	{"CONNECT 5 password alone", V5, fromClient, `10: "MQTT" 05 40 003C [ ] "c1" "p"`,
		`CONNECT v5 clean=false keep=60 "c1" password="p"`},
	{"CONNECT 5 with all", V5, fromClient,
		`10: "MQTT" 05 F6 003C [ 11 0000000A 15 "scram" 16 "data" 17 00 19 01 21 0014 22 000A 26 "k" "v" 27 00001000 ] "c1"
		[ 01 01 02 00000005 03 "text" 08 "r/t" 09 "cd" 18 00000007 26 "a" "b" 26 "a" "c" ] "w" "gone" "u" "p"`,
		`CONNECT v5 clean=true keep=60 "c1" 11=10 15="scram" 16="data" 17=0 19=1 21=20 22=10 26=("k" "v") 27=4096` +
			` will(q2 retain=true "w" "gone" 01=1 02=5 03="text" 08="r/t" 09="cd" 18=7 26=("a" "b")("a" "c")) user="u" password="p"`},

	{"CONNACK 3.1", V31, fromServer, `20: 00 00`, `CONNACK present=false Success`},
	{"CONNACK 3.1.1", V311, fromServer, `20: 01 00`, `CONNACK present=true Success`},
	{"CONNACK 3.1.1 refused", V311, fromServer, `20: 00 05`, `CONNACK present=false Not authorized`},
	{"CONNACK 5", V5, fromServer, `20: 01 00 [ ]`, `CONNACK present=true Success`},
	{"CONNACK 5 with all", V5, fromServer, `20: 00 00 [ 11 00000E10 12 "made" 13 0020 15 "m" 16 "d" 1A "info" 1C "other"
		1F "why" 21 0001 22 0002 24 01 25 00 26 "k" "v" 27 00000100 28 00 29 01 2A 00 ]`,
		`CONNACK present=false Success 11=3600 12="made" 13=32 15="m" 16="d" 1a="info" 1c="other" 1f="why" 21=1 22=2` +
			` 24=1 25=0 26=("k" "v") 27=256 28=0 29=1 2a=0`},
	{"CONNACK 5 refused", V5, fromServer, `20: 00 8C [ 1F "no" ]`, `CONNACK present=false Bad authentication method 1f="no"`},

	{"PUBLISH 3.1.1 QoS 0", V311, fromClient, `30: "a/b" 'hello'`, `PUBLISH dup=false q0 retain=false id=0 "a/b" "hello"`},
	{"PUBLISH 3.1.1 QoS 1 DUP", V311, fromClient, `3A: "a" 0007`, `PUBLISH dup=true q1 retain=false id=7 "a" ""`},
	{"PUBLISH 3.1.1 QoS 2 retained", V311, fromClient, `35: "a" FFFF '0'`, `PUBLISH dup=false q2 retain=true id=65535 "a" "0"`},
	{"PUBLISH 5 no properties", V5, fromClient, `30: "a/b" [ ] 'hello'`, `PUBLISH dup=false q0 retain=false id=0 "a/b" "hello"`},
	{"PUBLISH 5 alias alone", V5, fromClient, `32: "" 0001 [ 23 0001 ] 'x'`, `PUBLISH dup=false q1 retain=false id=1 "" 23=1 "x"`},
	{"PUBLISH 5 with all", V5, fromClient,
		`30: "a" [ 01 00 02 00000001 03 "t" 08 "r" 09 "c" 23 FFFF 26 "k" "1" 26 "k" "2" ] 'x'`,
		`PUBLISH dup=false q0 retain=false id=0 "a" 01=0 02=1 03="t" 08="r" 09="c" 23=65535 26=("k" "1")("k" "2") "x"`},
	{"PUBLISH 5 of a server", V5, fromServer, `30: "a" [ 0B 01 0B FFFFFF7F 0B 8001 ]`,
		`PUBLISH dup=false q0 retain=false id=0 "a" 0b=[1 268435455 128] ""`},
	{"PUBLISH 5 properties of two-byte length", V5, fromClient, `30: "a" [ 03 "x*200" ] 'p'`,
		`PUBLISH dup=false q0 retain=false id=0 "a" 03="` + strings.Repeat("x", 200) + `" "p"`},
	{"PUBLISH UTF-8 topic", V311, fromClient, `30: "größe/雪/𝄞"`, `PUBLISH dup=false q0 retain=false id=0 "größe/雪/𝄞" ""`},

	{"PUBACK 3.1.1", V311, fromClient, `40: 0102`, `PUBACK id=258 Success`},
	{"PUBACK 5 short", V5, fromClient, `40: 0102`, `PUBACK id=258 Success`},
	{"PUBACK 5 reason", V5, fromServer, `40: 0102 10`, `PUBACK id=258 No matching subscribers`},
	{"PUBREC 5 reason and properties", V5, fromServer, `50: 0102 97 [ 1F "full" 26 "k" "v" ]`,
		`PUBREC id=258 Quota exceeded 1f="full" 26=("k" "v")`},
	{"PUBREC 5 success and properties", V5, fromServer, `50: 0102 00 [ 1F "fine" ]`, `PUBREC id=258 Success 1f="fine"`},
	{"PUBREL 3.1.1", V311, fromClient, `62: 0001`, `PUBREL id=1 Success`},
	{"PUBREL 5", V5, fromClient, `62: 0001 92`, `PUBREL id=1 Packet Identifier not found`},
	{"PUBCOMP 3.1.1", V311, fromServer, `70: 0001`, `PUBCOMP id=1 Success`},
	{"PUBCOMP 5", V5, fromServer, `70: 0001 92`, `PUBCOMP id=1 Packet Identifier not found`},

	{"SUBSCRIBE 3.1.1", V311, fromClient, `82: 0001 "a/+" 00 "#" 02`, `SUBSCRIBE id=1 "a/+"(q0 rh0) "#"(q2 rh0)`},
	{"SUBSCRIBE 5", V5, fromClient, `82: 0001 [ 0B 8001 26 "k" "v" ] "a/+" 0D "+/b/#" 22`,
		`SUBSCRIBE id=1 0b=[128] 26=("k" "v") "a/+"(q1 no-local as-published rh0) "+/b/#"(q2 rh2)`},
	{"SUBSCRIBE 5 shared", V5, fromClient, `82: 0001 [ ] "$share/g/a/#" 01`, `SUBSCRIBE id=1 "$share/g/a/#"(q1 rh0)`},
	{"SUBSCRIBE 5 bad shares, left to ParseShared", V5, fromClient, `82: 0001 [ ] "$share//a" 00 "$share/#/a#" 01`, `SUBSCRIBE id=1 "$share//a"(q0 rh0) "$share/#/a#"(q1 rh0)`},
	{"SUBSCRIBE 3.1.1 bad share", V311, fromClient, `82: 0001 "$share/g" 01`, `SUBSCRIBE id=1 "$share/g"(q1 rh0)`},
	{"SUBACK 3.1.1", V311, fromServer, `90: 0001 00 02 80`, `SUBACK id=1 00 02 80`},
	{"SUBACK 5", V5, fromServer, `90: 0001 [ 1F "r" ] 01 8F A2`, `SUBACK id=1 1f="r" 01 8f a2`},
	{"UNSUBSCRIBE 3.1.1", V311, fromClient, `A2: 0001 "a/+" "b"`, `UNSUBSCRIBE id=1 "a/+" "b"`},
	{"UNSUBSCRIBE 5", V5, fromClient, `A2: 0001 [ 26 "k" "v" ] "a/+"`, `UNSUBSCRIBE id=1 26=("k" "v") "a/+"`},
	{"UNSUBACK 3.1.1", V311, fromServer, `B0: 0001`, `UNSUBACK id=1 `},
	{"UNSUBACK 5", V5, fromServer, `B0: 0001 [ ] 00 11 87`, `UNSUBACK id=1 00 11 87`},

	{"PINGREQ", V31, fromClient, `C0:`, `PINGREQ`},
	{"PINGREQ 5", V5, fromClient, `C0:`, `PINGREQ`},
	{"PINGRESP", V311, fromServer, `D0:`, `PINGRESP`},
	{"DISCONNECT 3.1.1", V311, fromClient, `E0:`, `DISCONNECT Success`},
	{"DISCONNECT 5", V5, fromClient, `E0:`, `DISCONNECT Success`},
	{"DISCONNECT 5 with will", V5, fromClient, `E0: 04 [ 11 00000000 1F "bye" ]`, `DISCONNECT Disconnect with Will Message 11=0 1f="bye"`},
	{"DISCONNECT 5 of a server", V5, fromServer, `E0: 9D [ 1C "b.example:8883" ]`, `DISCONNECT Server moved 1c="b.example:8883"`},
	{"AUTH of a server, short", V5, fromServer, `F0:`, `AUTH Success`},
	{"AUTH", V5, fromClient, `F0: 18 [ 15 "scram" 16 "data" ]`, `AUTH Continue authentication 15="scram" 16="data"`},
	{"AUTH again", V5, fromClient, `F0: 19 [ 15 "scram" 1F "r" 26 "k" "v" ]`, `AUTH Re-authenticate 15="scram" 1f="r" 26=("k" "v")`},
}

func TestPackets(t *testing.T) {
	for _, test := range goodPackets {
		t.Run(test.name, func(t *testing.T) {
			frame := wire(t, test.wire)
			var p anyPacket
			if f := p.parse(frame, test.version, test.from); f != nil {
				t.Fatalf("% x: %v", frame, f)
			}
			if p.String() != test.says {
				t.Errorf("says\n%s, want\n%s", p.String(), test.says)
			}
			if got := p.append(nil, test.version, &scratch{}); !bytes.Equal(got, frame) {
				t.Errorf("written again\n% x, want\n% x", got, frame)
			}
		})
	}
}

// TestPacketsCutAnywhere cuts and lengthens every good packet: no parser may
// accept or overrun a packet of another size.
func TestPacketsCutAnywhere(t *testing.T) {
	for _, test := range goodPackets {
		frame := wire(t, test.wire)
		for n := range frame {
			var p anyPacket
			if f := p.parse(frame[:n:n], test.version, test.from); f == nil {
				t.Errorf("%s accepted with %d of %d bytes", test.name, n, len(frame))
			}
		}
		var p anyPacket
		if f := p.parse(append(frame, 0), test.version, test.from); f != faultFrame {
			t.Errorf("%s with a byte more: %v", test.name, f)
		}
	}
}

// TestBodiesCutAnywhere cuts the body and corrects the remaining length. What is
// then still a packet is one of the shorter forms that the standard allows.
func TestBodiesCutAnywhere(t *testing.T) {
	for _, test := range goodPackets {
		frame := wire(t, test.wire)
		at, _ := bodyOf(frame, test.version)
		for n := range len(frame) - at {
			cut := append(appendVarint(frame[:1:1], uint32(n)), frame[at:at+n]...)
			var p anyPacket
			if p.parse(cut, test.version, test.from) != nil {
				continue
			}
			again := p.append(nil, test.version, &scratch{})
			var q anyPacket
			if f := q.parse(again, test.version, test.from); f != nil || q.String() != p.String() {
				t.Errorf("%s cut to % x says %s, and written again %s (%v)", test.name, cut, &p, &q, f)
			}
		}
	}
}

// goodForms are packets that parse but that the builders write in another form.
var goodForms = []struct {
	name    string
	version Version
	from    sender
	wire    string
	says    string
}{
	{"CONNECT 3.1 flags without user name and password", V31, fromClient, `10: "MQIsdp" 03 C2 003C "c1"`,
		`CONNECT v3 clean=true keep=60 "c1"`},
	{"CONNECT 3.1 flags without password", V31, fromClient, `10: "MQIsdp" 03 C2 003C "c1" "u"`,
		`CONNECT v3 clean=true keep=60 "c1" user="u"`},
	{"CONNECT 3.1 unused flags", V31, fromClient, `1F: "MQIsdp" 03 3B 003C "c1"`, `CONNECT v3 clean=true keep=60 "c1"`},
	{"CONNECT 5 properties in another order", V5, fromClient, `10: "MQTT" 05 00 0000 [ 26 "a" "1" 21 0001 26 "b" "2" 11 00000001 ] "c"`,
		`CONNECT v5 clean=false keep=0 "c" 11=1 21=1 26=("a" "1")("b" "2")`},
	{"CONNACK 3.1 reserved byte", V31, fromServer, `20: FF 00`, `CONNACK present=false Success`},
	{"PUBLISH 3.1.1 long remaining length", V311, fromClient, `30 83 80 00 00 01 61`, `PUBLISH dup=false q0 retain=false id=0 "a" ""`},
	{"PUBLISH 3.1 DUP on QoS 0", V31, fromClient, `38: "a"`, `PUBLISH dup=true q0 retain=false id=0 "a" ""`},
	{"PUBACK 5 reason without properties", V5, fromClient, `40: 0001 80`, `PUBACK id=1 Unspecified error`},
	{"PUBREL 5 empty properties", V5, fromClient, `62: 0001 92 [ ]`, `PUBREL id=1 Packet Identifier not found`},
	{"PUBACK 5 success written out", V5, fromClient, `40: 0001 00 [ ]`, `PUBACK id=1 Success`},
	{"PUBREL 3.1 DUP", V31, fromClient, `6A: 0001`, `PUBREL id=1 Success`},
	{"SUBSCRIBE 3.1 DUP", V31, fromClient, `8A: 0001 "a" 00`, `SUBSCRIBE id=1 "a"(q0 rh0)`},
	{"UNSUBSCRIBE 3.1 DUP", V31, fromClient, `AA: 0001 "a"`, `UNSUBSCRIBE id=1 "a"`},
	{"DISCONNECT 5 reason without properties", V5, fromClient, `E0: 04`, `DISCONNECT Disconnect with Will Message`},
	{"DISCONNECT 5 normal written out", V5, fromClient, `E0: 00 [ ]`, `DISCONNECT Success`},
}

func TestOtherForms(t *testing.T) {
	for _, test := range goodForms {
		t.Run(test.name, func(t *testing.T) {
			var p anyPacket
			if f := p.parse(wire(t, test.wire), test.version, test.from); f != nil {
				t.Fatal(f)
			}
			if p.String() != test.says {
				t.Errorf("says\n%s, want\n%s", p.String(), test.says)
			}
		})
	}
}

// TestEarlierPacketLeavesNothing parses every good packet into a structure that
// has held every other one.
func TestEarlierPacketLeavesNothing(t *testing.T) {
	var used anyPacket
	for _, earlier := range goodPackets {
		for _, test := range goodPackets {
			used.parse(wire(t, earlier.wire), earlier.version, earlier.from)
			if f := used.parse(wire(t, test.wire), test.version, test.from); f != nil || used.String() != test.says {
				t.Fatalf("%s after %s says\n%s (%v), want\n%s", test.name, earlier.name, &used, f, test.says)
			}
		}
	}
}

func TestPublishOffsets(t *testing.T) {
	frame := wire(t, `32: "a/b" 0001 [ 03 "x*200" ] 'hello'`)
	var p Publish
	if f := ParsePublish(frame, V5, &p); f != nil {
		t.Fatal(f)
	}
	at := func(start int, part []byte) string { return string(frame[start : start+len(part)]) }
	if at(p.TopicAt, p.Topic) != "a/b" || at(p.PayloadAt, p.Payload) != "hello" || p.PayloadAt+5 != len(frame) {
		t.Errorf("topic at %d, payload at %d of % x", p.TopicAt, p.PayloadAt, frame)
	}
	if at(p.PropsAt, p.RawProps) != string(p.RawProps) || len(p.RawProps) != 203 || p.PropsAt+203 != p.PayloadAt {
		t.Errorf("properties at %d", p.PropsAt)
	}
}

func TestSlicesAreCutToTheirLength(t *testing.T) {
	frame := wire(t, `30: "a/b" [ 03 "text" 26 "k" "v" ] 'hello'`)
	var p Publish
	if f := ParsePublish(append(frame, "next packet"...)[:len(frame)], V5, &p); f != nil {
		t.Fatal(f)
	}
	for name, b := range map[string][]byte{
		"topic": p.Topic, "payload": p.Payload, "raw": p.RawProps, "content type": p.Props.ContentType, "user": p.Props.User,
	} {
		if cap(b) != len(b) {
			t.Errorf("%s has room for %d more bytes of others", name, cap(b)-len(b))
		}
	}
}

func TestPublishHead(t *testing.T) {
	p := Publish{QoS: 1, PacketID: 0x0102, Topic: []byte("a/b"), Payload: []byte("ignored")}
	head, idAt := AppendPublishHead([]byte("before"), V5, &p, 300)
	if want := wire(t, "32 B402 000361 2F62 0102 00"); !bytes.Equal(head[6:], want) {
		t.Errorf("head % x, want % x", head[6:], want)
	}
	if idAt != 8 || !bytes.Equal(head[6+idAt:][:2], []byte{1, 2}) {
		t.Errorf("packet identifier at %d", idAt)
	}
	p.QoS = 0
	if _, idAt = AppendPublishHead(nil, V5, &p, 0); idAt != -1 {
		t.Errorf("packet identifier of QoS 0 at %d", idAt)
	}
}

// TestForwardedProperties does what a server does with a PUBLISH: the properties
// of the message go on, those of the connection are replaced.
func TestForwardedProperties(t *testing.T) {
	frame := wire(t, `30: "a" [ 26 "k" "1" 23 0005 02 0000000A 26 "k" "2" 01 01 ] 'x'`)
	var in Publish
	if f := ParsePublish(frame, V5, &in); f != nil {
		t.Fatal(f)
	}
	out := in
	out.Props.Has &= ForwardProperties
	out.Props.Has = out.Props.Has.With(PropSubscriptionIdentifier)
	out.Props.SubscriptionIDs = []uint32{3, 9}
	out.Props.MessageExpiryInterval -= 4
	want := wire(t, `30: "a" [ 01 01 02 00000006 0B 03 0B 09 26 "k" "1" 26 "k" "2" ] 'x'`)
	if got := AppendPublish(nil, V5, &out); !bytes.Equal(got, want) {
		t.Errorf("forwarded\n% x, want\n% x", got, want)
	}
}

func TestBuildersRefuseWhatDoesNotFit(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxStringLength+1)
	before := []byte("before")
	props := Properties{Has: 1 << PropReasonString, ReasonString: long}
	refused := map[string][]byte{
		"CONNECT client identifier": AppendConnect(before, &Connect{Version: V5, ClientID: long}),
		"CONNECT user name":         AppendConnect(before, &Connect{Version: V5, HasUsername: true, Username: long}),
		"CONNECT password":          AppendConnect(before, &Connect{Version: V311, HasPassword: true, Password: long}),
		"CONNECT will":              AppendConnect(before, &Connect{Version: V5, HasWill: true, Will: Will{Payload: long}}),
		"CONNACK":                   AppendConnack(before, V5, &Connack{Props: props}),
		"PUBLISH":                   AppendPublish(before, V311, &Publish{Topic: long}),
		"PUBLISH properties":        AppendPublish(before, V5, &Publish{Props: props}),
		"PUBACK":                    AppendAck(before, V5, PUBACK, 1, Success, &props),
		"SUBSCRIBE":                 AppendSubscribe(before, V311, 1, nil, []Filter{{Topic: long}}),
		"SUBSCRIBE identifier": AppendSubscribe(before, V5, 1, &Properties{Has: 1 << PropSubscriptionIdentifier,
			SubscriptionIDs: []uint32{MaxRemainingLength + 1}}, nil),
		"SUBACK":      AppendSuback(before, V5, 1, &props, nil),
		"UNSUBSCRIBE": AppendUnsubscribe(before, V311, 1, nil, [][]byte{long}),
		"UNSUBACK":    AppendUnsuback(before, V5, 1, &props, nil),
		"DISCONNECT":  AppendDisconnect(before, V5, Success, &props),
		"AUTH":        AppendAuth(before, Success, &props),
		"properties":  AppendProperties(before, &props),
	}
	for name, got := range refused {
		if string(got) != "before" {
			t.Errorf("%s: %d bytes written", name, len(got))
		}
	}
}

// [MQTT-4.7.3-3], [MQTT311-4.7.3-3]: the length of a string has 16 bits, so that no longer one can come.
func TestLongestString(t *testing.T) {
	long := bytes.Repeat([]byte("x"), MaxStringLength)
	in := Publish{Topic: long, Props: Properties{Has: 1 << PropCorrelationData, CorrelationData: long}}
	var out Publish
	f := ParsePublish(AppendPublish(nil, V5, &in), V5, &out)
	if f != nil || len(out.Topic) != MaxStringLength || len(out.Props.CorrelationData) != MaxStringLength {
		t.Errorf("%v, topic of %d bytes", f, len(out.Topic))
	}
}

func TestLongestPacket(t *testing.T) {
	p := Publish{Topic: []byte("t")} // topic and its length take 3 bytes
	head, _ := AppendPublishHead(nil, V311, &p, MaxRemainingLength-3)
	if size, ok, f := FrameSize(head); size != MaxPacketSize || !ok || f != nil {
		t.Errorf("size %d, %t, %v", size, ok, f)
	}
	if head, _ = AppendPublishHead(nil, V311, &p, MaxRemainingLength-2); len(head) != 0 {
		t.Errorf("a packet too long has the head % x", head)
	}
}

func TestBuildersWithoutProperties(t *testing.T) {
	for name, test := range map[string]struct {
		got  []byte
		want string
	}{
		"PUBACK":      {AppendAck(nil, V5, PUBACK, 1, NoMatchingSubscribers, nil), "40: 0001 10"},
		"SUBSCRIBE":   {AppendSubscribe(nil, V5, 1, nil, []Filter{{Topic: []byte("a"), QoS: 1}}), `82: 0001 [ ] "a" 01`},
		"SUBACK":      {AppendSuback(nil, V5, 1, nil, []byte{1}), "90: 0001 [ ] 01"},
		"UNSUBSCRIBE": {AppendUnsubscribe(nil, V5, 1, nil, [][]byte{[]byte("a")}), `A2: 0001 [ ] "a"`},
		"UNSUBACK":    {AppendUnsuback(nil, V5, 1, nil, []byte{0}), "B0: 0001 [ ] 00"},
		"DISCONNECT":  {AppendDisconnect(nil, V5, ServerBusy, nil), "E0: 89"},
		"AUTH":        {AppendAuth(nil, Success, nil), "F0:"},
		"properties":  {AppendProperties(nil, nil), "[ ]"},
	} {
		if want := wire(t, test.want); !bytes.Equal(test.got, want) {
			t.Errorf("%s: % x, want % x", name, test.got, want)
		}
	}
}

func TestBuildersBeforeMQTT5(t *testing.T) {
	props := Properties{Has: 1 << PropReasonString, ReasonString: []byte("no")}
	for name, test := range map[string]struct {
		got  []byte
		want string
	}{
		"CONNACK":                             {AppendConnack(nil, V311, &Connack{Reason: Banned, Props: props}), "20: 00 05"},
		"CONNACK 3.1 without session present": {AppendConnack(nil, V31, &Connack{SessionPresent: true}), "20: 00 00"},
		"PUBACK":                              {AppendAck(nil, V311, PUBACK, 9, QuotaExceeded, &props), "40: 0009"},
		"PUBREL":                              {AppendAck(nil, V31, PUBREL, 9, PacketIdentifierNotFound, nil), "62: 0009"},
		"SUBSCRIBE":                           {AppendSubscribe(nil, V311, 1, &props, []Filter{{Topic: []byte("a"), QoS: 2, NoLocal: true, RetainHandling: 1}}), `82: 0001 "a" 02`},
		"SUBACK":                              {AppendSuback(nil, V311, 1, &props, []byte{2, byte(NotAuthorized), byte(TopicFilterInvalid)}), "90: 0001 02 80 80"},
		"UNSUBACK":                            {AppendUnsuback(nil, V311, 1, &props, []byte{0, 0x11}), "B0: 0001"},
		"DISCONNECT":                          {AppendDisconnect(nil, V311, ServerShuttingDown, &props), "E0:"},
	} {
		if want := wire(t, test.want); !bytes.Equal(test.got, want) {
			t.Errorf("%s: % x, want % x", name, test.got, want)
		}
	}
}

func TestNextUserPassesOverOthers(t *testing.T) {
	raw := wire(t, `26 "a" "1" 01 01 21 0001 02 00000001 0B 8001 03 "t" 08 "r" 09 "c" 26 "b" "" 26 "" "3" 01 01`)
	got := ""
	for {
		key, value, ok := NextUser(&raw)
		if !ok {
			break
		}
		got += string(key) + "=" + string(value) + " "
	}
	if got != "a=1 b= =3 " || len(raw) != 0 {
		t.Errorf("user properties %q, % x left", got, raw)
	}
}

func TestNextUserOnDamagedRun(t *testing.T) {
	for _, notation := range []string{`26 0005 6B`, `26 "k"`, `26`, `FF`, `00`, `03 0009 61`, `0B FFFFFFFF01 26 "k" "v"`,
		`0B`, `02 000000`, `01`, `26 "k" 0001`, `3F`, `26 "k"  00`} {
		raw := wire(t, notation)
		if _, _, ok := NextUser(&raw); ok {
			t.Errorf("%s gave a user property", notation)
		}
	}
}

func TestReasonsOfConnackAndDisconnect(t *testing.T) {
	for r := range 256 {
		code := ReasonCode(r)
		if c := code.ForConnack(); !c.allowedIn(inConnack) || code.allowedIn(inConnack) && c != code || code.Failed() && !c.Failed() {
			t.Errorf("%v is %v in CONNACK [MQTT-3.2.2-8]", code, c)
		}
		if d := code.ForDisconnect(); !d.allowedIn(byServer) || code.allowedIn(byServer) && d != code || code.Failed() && !d.Failed() {
			t.Errorf("%v is %v in DISCONNECT [MQTT-3.14.2-1]", code, d)
		}
	}
	if ServerShuttingDown.ForConnack() != ServerUnavailable || BadUserNameOrPassword.ForDisconnect() != NotAuthorized ||
		Banned.ForDisconnect() != NotAuthorized || ServerUnavailable.ForDisconnect() != ServerBusy {
		t.Error("a code has not become the one that says the same")
	}
}

func TestValidText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "plain": true, "gr\u00fcn": true, "a\x00b": false, "a\xffb": false, "\xed\xa0\x80": false,
		strings.Repeat("x", 0xFFFF): true, strings.Repeat("x", 0x10000): false,
	} {
		if ValidText([]byte(text)) != want {
			t.Errorf("%.20q: not %v", text, want)
		}
	}
}
