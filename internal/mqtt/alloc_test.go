package mqtt

import "testing"

// TestNoAllocation parses and writes every good packet with structures that have
// been used before.
func TestNoAllocation(t *testing.T) {
	for _, test := range goodPackets {
		frame := wire(t, test.wire)
		var p anyPacket
		var s scratch
		dst := make([]byte, 0, 2*len(frame))
		again := func() {
			p.parse(frame, test.version, test.from)
			p.append(dst, test.version, &s)
		}
		again()
		if n := testing.AllocsPerRun(20, again); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func TestRefusalsDoNotAllocate(t *testing.T) {
	for _, test := range refusals {
		frame := wire(t, test.wire)
		var p anyPacket
		again := func() { p.parse(frame, test.versions[0], test.from) }
		again()
		if n := testing.AllocsPerRun(20, again); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func TestTopicsDoNotAllocate(t *testing.T) {
	filter, topic := []byte("$share/g/a/+/c/#"), []byte("a/b/c/d")
	n := testing.AllocsPerRun(20, func() {
		_, inner, _, _ := ParseShared(filter)
		ValidTopicFilter(filter)
		ValidTopicName(topic)
		Match(inner, topic)
		Covers(inner, topic)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchmarkPublish(b *testing.B, v Version, notation string) {
	frame := wire(b, notation)
	var p Publish
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if f := ParsePublish(frame, v, &p); f != nil {
			b.Fatal(f)
		}
	}
}

func BenchmarkParsePublishV311(b *testing.B) {
	benchmarkPublish(b, V311, `32: "plant/7/line/3/temperature" 0001 "x*64"`)
}

func BenchmarkParsePublishV5(b *testing.B) {
	benchmarkPublish(b, V5, `30: "plant/7/line/3/temperature" [ ] "x*64"`)
}

func BenchmarkParsePublishV5Properties(b *testing.B) {
	benchmarkPublish(b, V5, `30: "plant/7/line/3/temperature" [ 01 01 02 0000003C 03 "application/json" 26 "unit" "celsius" ] "x*64"`)
}

func BenchmarkAppendPublishHead(b *testing.B) {
	p := Publish{QoS: 1, Topic: []byte("plant/7/line/3/temperature")}
	dst := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		AppendPublishHead(dst, V5, &p, 64)
	}
}

func BenchmarkFrameSize(b *testing.B) {
	short, long := wire(b, "30 64"), wire(b, "30 80 80 01")
	for b.Loop() {
		FrameSize(short)
		FrameSize(long)
	}
}

func BenchmarkMatch(b *testing.B) {
	filter, topic := []byte("plant/+/line/+/temperature"), []byte("plant/7/line/3/temperature")
	for b.Loop() {
		Match(filter, topic)
	}
}
