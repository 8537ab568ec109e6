package mqtt

import (
	"bytes"
	"testing"
)

// FuzzParse feeds bytes to the parser of every packet type. What parses must be
// writable, and what is written must parse to the same and be written the same.
func FuzzParse(f *testing.F) {
	for _, test := range goodPackets {
		f.Add(wire(f, test.wire), byte(test.version), bool(test.from))
	}
	for _, test := range goodForms {
		f.Add(wire(f, test.wire), byte(test.version), bool(test.from))
	}
	for _, test := range refusals {
		f.Add(wire(f, test.wire), byte(test.versions[0]), bool(test.from))
	}
	f.Fuzz(func(t *testing.T, frame []byte, version byte, server bool) {
		v := V31 + Version(version)%3
		kept := bytes.Clone(frame)
		var p anyPacket
		fault := p.parse(frame, v, sender(server))
		if !bytes.Equal(frame, kept) {
			t.Fatal("the parser wrote into its input")
		}
		if fault != nil {
			if !fault.Reason.Failed() {
				t.Fatalf("refused with %v", fault)
			}
			return
		}
		checkAgain(t, &p, v, sender(server))
	})
}

func checkAgain(t *testing.T, p *anyPacket, v Version, from sender) {
	t.Helper()
	if p.typ == PUBLISH && v == V31 && p.publish.QoS == 0 {
		p.publish.Dup = false // MQTT 3.1 alone tolerates it
	}
	var s scratch
	written := p.append(nil, v, &s)
	var q anyPacket
	if f := q.parse(written, v, from); f != nil || q.String() != p.String() {
		t.Fatalf("%s was written as % x, which says %s (%v)", p, written, &q, f)
	}
	if again := q.append(nil, v, &s); !bytes.Equal(again, written) {
		t.Fatalf("%s is written as\n% x, then as\n% x", p, written, again)
	}
}

// FuzzFrameSize checks that the size depends on the fixed header alone and that
// every beginning of a stream either asks for more or gives the same answer.
func FuzzFrameSize(f *testing.F) {
	f.Add([]byte{0x30, 0x00})
	f.Add([]byte{0x30, 0x80, 0x80, 0x80, 0x01})
	f.Add([]byte{0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		size, ok, fault := FrameSize(b)
		if ok && (fault != nil || size < 2 || size > MaxPacketSize) {
			t.Fatalf("size %d, %v", size, fault)
		}
		for n := range min(len(b), 6) {
			s, o, f := FrameSize(b[:n])
			if o && (s != size || !ok) || f != nil && fault == nil {
				t.Fatalf("%d bytes: %d %t %v; %d bytes: %d %t %v", n, s, o, f, len(b), size, ok, fault)
			}
		}
	})
}

// FuzzTopics compares Match with regular expressions, and Covers with Match.
func FuzzTopics(f *testing.F) {
	f.Add("a/+/#", "a/b/c")
	f.Add("#", "$SYS/x")
	f.Add("+/#", "#")
	f.Add("$share/g/a", "a")
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if group, inner, shared, ok := ParseShared([]byte(filter)); shared && ok {
			if "$share/"+string(group)+"/"+string(inner) != filter {
				t.Fatalf("%q is not %q and %q", filter, group, inner)
			}
		}
		if !ValidTopicFilter([]byte(filter)) || !ValidTopicFilter([]byte(topic)) {
			return
		}
		if !Covers([]byte(filter), []byte(filter)) {
			t.Fatalf("%q does not cover itself", filter)
		}
		covers := Covers([]byte(filter), []byte(topic))
		if !ValidTopicName([]byte(topic)) {
			return
		}
		matches := Match([]byte(filter), []byte(topic))
		if matches != covers || matches != matcher(filter)(topic) {
			t.Fatalf("%q, %q: Match %t, Covers %t", filter, topic, matches, covers)
		}
	})
}

// FuzzNextUser walks over bytes that nobody has checked.
func FuzzNextUser(f *testing.F) {
	f.Add(AppendUser(nil, []byte("k"), []byte("v")))
	f.Add([]byte{0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x26})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := Properties{Has: 1 << PropUserProperty, User: raw}
		written := AppendProperties(nil, &p)
		if len(written) != PropertiesSize(&p) {
			t.Fatalf("%d bytes, announced %d", len(written), PropertiesSize(&p))
		}
	})
}
