package mqtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt/mqtttest"
)

// wire builds bytes, see mqtttest.Wire.
func wire(t testing.TB, notation string) []byte {
	t.Helper()
	b, err := mqtttest.Wire(notation)
	if err != nil {
		t.Fatalf("%s: %v", notation, err)
	}
	return b
}

// sender says which side a packet comes from.
type sender bool

const (
	fromClient sender = false
	fromServer sender = true
)

// anyPacket holds a packet of any type; the tests treat all types alike with it.
type anyPacket struct {
	typ         PacketType
	connect     Connect
	connack     Connack
	publish     Publish
	ack         Ack
	subscribe   Subscribe
	suback      Suback
	unsubscribe Unsubscribe
	unsuback    Unsuback
	disconnect  Disconnect
	auth        Auth
}

func (p *anyPacket) parse(frame []byte, v Version, from sender) *Fault {
	p.typ = TypeOf(frame)
	switch p.typ {
	case CONNECT:
		return ParseConnect(frame, &p.connect)
	case CONNACK:
		return ParseConnack(frame, v, &p.connack)
	case PUBLISH:
		if from == fromServer {
			return ParseServerPublish(frame, v, &p.publish)
		}
		return ParsePublish(frame, v, &p.publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return ParseAck(frame, v, &p.ack)
	case SUBSCRIBE:
		return ParseSubscribe(frame, v, &p.subscribe)
	case SUBACK:
		return ParseSuback(frame, v, &p.suback)
	case UNSUBSCRIBE:
		return ParseUnsubscribe(frame, v, &p.unsubscribe)
	case UNSUBACK:
		return ParseUnsuback(frame, v, &p.unsuback)
	case PINGREQ:
		return ParsePingreq(frame, v)
	case PINGRESP:
		return ParsePingresp(frame, v)
	case DISCONNECT:
		if from == fromServer {
			return ParseServerDisconnect(frame, v, &p.disconnect)
		}
		return ParseDisconnect(frame, v, &p.disconnect)
	case AUTH:
		if from == fromServer {
			return ParseServerAuth(frame, v, &p.auth)
		}
		return ParseAuth(frame, v, &p.auth)
	}
	return faultPacketType
}

// scratch keeps the lists that AppendSubscribe and AppendUnsubscribe take.
type scratch struct {
	filters []Filter
	topics  [][]byte
}

func (p *anyPacket) append(dst []byte, v Version, s *scratch) []byte {
	switch p.typ {
	case CONNECT:
		return AppendConnect(dst, &p.connect)
	case CONNACK:
		return AppendConnack(dst, v, &p.connack)
	case PUBLISH:
		return AppendPublish(dst, v, &p.publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return AppendAck(dst, v, p.ack.Type, p.ack.PacketID, p.ack.Reason, &p.ack.Props)
	case SUBSCRIBE:
		s.filters = s.filters[:0]
		var f Filter
		for rest := p.subscribe.Filters; NextFilter(&rest, &f); {
			s.filters = append(s.filters, f)
		}
		return AppendSubscribe(dst, v, p.subscribe.PacketID, &p.subscribe.Props, s.filters)
	case SUBACK:
		return AppendSuback(dst, v, p.suback.PacketID, &p.suback.Props, p.suback.Codes)
	case UNSUBSCRIBE:
		s.topics = s.topics[:0]
		for rest := p.unsubscribe.Filters; ; {
			topic, ok := NextTopicFilter(&rest)
			if !ok {
				break
			}
			s.topics = append(s.topics, topic)
		}
		return AppendUnsubscribe(dst, v, p.unsubscribe.PacketID, &p.unsubscribe.Props, s.topics)
	case UNSUBACK:
		return AppendUnsuback(dst, v, p.unsuback.PacketID, &p.unsuback.Props, p.unsuback.Codes)
	case PINGREQ:
		return AppendPingreq(dst)
	case PINGRESP:
		return AppendPingresp(dst)
	case DISCONNECT:
		return AppendDisconnect(dst, v, p.disconnect.Reason, &p.disconnect.Props)
	case AUTH:
		return AppendAuth(dst, p.auth.Reason, &p.auth.Props)
	}
	return dst
}

// String shows all that a packet says, so that two packets are equal if and only
// if their texts are.
func (p *anyPacket) String() string {
	switch p.typ {
	case CONNECT:
		return p.connect.dump()
	case CONNACK:
		return fmt.Sprintf("CONNACK present=%t %v%s", p.connack.SessionPresent, p.connack.Reason, p.connack.Props.dump())
	case PUBLISH:
		b := &p.publish
		return fmt.Sprintf("PUBLISH dup=%t q%d retain=%t id=%d %q%s %q",
			b.Dup, b.QoS, b.Retain, b.PacketID, b.Topic, b.Props.dump(), b.Payload)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return fmt.Sprintf("%v id=%d %v%s", p.ack.Type, p.ack.PacketID, p.ack.Reason, p.ack.Props.dump())
	case SUBSCRIBE:
		return p.subscribe.dump()
	case SUBACK:
		return fmt.Sprintf("SUBACK id=%d%s % x", p.suback.PacketID, p.suback.Props.dump(), p.suback.Codes)
	case UNSUBSCRIBE:
		return p.unsubscribe.dump()
	case UNSUBACK:
		return fmt.Sprintf("UNSUBACK id=%d%s % x", p.unsuback.PacketID, p.unsuback.Props.dump(), p.unsuback.Codes)
	case DISCONNECT:
		return fmt.Sprintf("DISCONNECT %v%s", p.disconnect.Reason, p.disconnect.Props.dump())
	case AUTH:
		return fmt.Sprintf("AUTH %v%s", p.auth.Reason, p.auth.Props.dump())
	}
	return p.typ.String()
}

func (c *Connect) dump() string {
	s := fmt.Sprintf("CONNECT v%d clean=%t keep=%d %q%s", c.Version, c.CleanStart, c.KeepAlive, c.ClientID, c.Props.dump())
	if c.HasWill {
		w := &c.Will
		s += fmt.Sprintf(" will(q%d retain=%t %q %q%s)", w.QoS, w.Retain, w.Topic, w.Payload, w.Props.dump())
	}
	if c.HasUsername {
		s += fmt.Sprintf(" user=%q", c.Username)
	}
	if c.HasPassword {
		s += fmt.Sprintf(" password=%q", c.Password)
	}
	return s
}

func (s *Subscribe) dump() string {
	text := fmt.Sprintf("SUBSCRIBE id=%d%s", s.PacketID, s.Props.dump())
	var f Filter
	n := 0
	for rest := s.Filters; NextFilter(&rest, &f); n++ {
		text += fmt.Sprintf(" %q(q%d", f.Topic, f.QoS)
		if f.NoLocal {
			text += " no-local"
		}
		if f.RetainAsPublished {
			text += " as-published"
		}
		text += fmt.Sprintf(" rh%d)", f.RetainHandling)
	}
	if n != s.Count {
		text += fmt.Sprintf(" but Count=%d", s.Count)
	}
	return text
}

func (u *Unsubscribe) dump() string {
	text := fmt.Sprintf("UNSUBSCRIBE id=%d%s", u.PacketID, u.Props.dump())
	n := 0
	for rest := u.Filters; ; n++ {
		filter, ok := NextTopicFilter(&rest)
		if !ok {
			break
		}
		text += fmt.Sprintf(" %q", filter)
	}
	if n != u.Count {
		text += fmt.Sprintf(" but Count=%d", u.Count)
	}
	return text
}

func (p *Properties) dump() string {
	text := ""
	for set := p.Has; set != 0; {
		var id PropertyID
		id, set = set.next()
		text += fmt.Sprintf(" %02x=%s", byte(id), p.dumpOne(id))
	}
	return text
}

func (p *Properties) dumpOne(id PropertyID) string {
	switch kindOf(byte(id)) {
	case kindPair:
		text := ""
		for raw := p.User; ; {
			key, value, ok := NextUser(&raw)
			if !ok {
				return text
			}
			text += fmt.Sprintf("(%q %q)", key, value)
		}
	case kindVarint:
		return fmt.Sprint(p.SubscriptionIDs)
	case kindText, kindTopic, kindBinary:
		return fmt.Sprintf("%q", *p.bytes(id))
	}
	return fmt.Sprint(p.number(id))
}

func TestVariableByteIntegerSizes(t *testing.T) { // 1.5.5, table 1-1
	for _, test := range []struct {
		value uint32
		wire  string
	}{
		{0, "00"}, {127, "7F"}, {128, "80 01"}, {16_383, "FF 7F"}, {16_384, "80 80 01"},
		{2_097_151, "FF FF 7F"}, {2_097_152, "80 80 80 01"}, {268_435_455, "FF FF FF 7F"},
	} {
		want := wire(t, test.wire)
		if got := appendVarint(nil, test.value); !bytes.Equal(got, want) {
			t.Errorf("appendVarint(%d) = % x, want % x", test.value, got, want)
		}
		if got := varintSize(int(test.value)); got != len(want) {
			t.Errorf("varintSize(%d) = %d, want %d", test.value, got, len(want))
		}
		got, n, f := varint(append(want, 0xAA))
		if got != test.value || n != len(want) || f != nil {
			t.Errorf("varint(% x) = %d, %d, %v", want, got, n, f)
		}
	}
}

func TestVariableByteIntegerRefusals(t *testing.T) {
	for _, test := range []struct {
		wire string
		want *Fault
	}{
		{"", faultTruncated},
		{"80", faultTruncated},
		{"FF FF FF", faultTruncated},
		{"80 00", faultVarintMinimal}, // [MQTT-1.5.5-1]
		{"80 80 80 00", faultVarintMinimal},
		{"FF FF FF FF", faultVarintLong},
		{"80 80 80 80 01", faultVarintLong},
	} {
		if _, _, f := varint(wire(t, test.wire)); f != test.want {
			t.Errorf("varint(%s): %v, want %v", test.wire, f, test.want)
		}
	}
}

func TestFrameSize(t *testing.T) {
	for _, test := range []struct {
		wire string
		size int
		ok   bool
		want *Fault
	}{
		{"", 0, false, nil},
		{"C0", 0, false, nil},
		{"C0 00", 2, true, nil},
		{"30 7F", 129, true, nil},
		{"30 80", 0, false, nil},
		{"30 80 01", 131, true, nil},
		{"30 FF FF FF", 0, false, nil},
		{"30 FF FF FF 7F", MaxPacketSize, true, nil},
		{"30 80 80 80 80", 0, false, faultVarintLong},
		{"30 80 80 80 80 00", 0, false, faultVarintLong},
	} {
		size, ok, f := FrameSize(wire(t, test.wire))
		if size != test.size || ok != test.ok || f != test.want {
			t.Errorf("FrameSize(%s) = %d, %t, %v", test.wire, size, ok, f)
		}
	}
}

func TestScanText(t *testing.T) {
	oracle := func(b []byte) textScan {
		s := string(b)
		return textScan{strings.Contains(s, "\x00"), strings.ContainsAny(s, "#+"), strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0}
	}
	// Every byte value at every position of strings around the word size.
	for length := 1; length <= 18; length++ {
		for at := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte("a"), length)
				b[at] = byte(c)
				if got, want := scanText(b), oracle(b); got != want {
					t.Fatalf("scanText(%q) = %+v, want %+v", b, got, want)
				}
			}
		}
	}
	// Carries between neighbouring bytes of a word.
	for x := range 1 << 16 {
		b := append(binary.BigEndian.AppendUint16([]byte("abc"), uint16(x)), "def"...)
		if got, want := scanText(b), oracle(b); got != want {
			t.Fatalf("scanText(%q) = %+v, want %+v", b, got, want)
		}
	}
}
