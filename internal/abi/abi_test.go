package abi

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"testing"
)

var sampleConfig = Config{
	Limits: Limits{
		MaxPacketSize: 1, MaxInflight: 2, ReceiveMaximum: 3, TopicAliasMaximum: 4, MaxQueued: 5, MaxQueuedBytes: 6,
		MaxRetained: 7, MaxRetainedBytes: 8, MaxSessions: 9, MaxSubscriptions: 10, MaxTopicLevels: 11, MaxKeepAlive: 12,
		MaxSessionExpiry: 13, MaxMemory: 14, ConnectTimeout: 15, StallTimeout: 16, StepWork: 17,
		MaxTopicBytes: 18, MaxAliasesOut: 19, MaxModuleMemory: 20,
	},
	Options: Options{
		Overflow: EndConnection, Shared: SharedHashTopic, CheckPayload: true, Failure80: true,
		Methods: []string{"SCRAM-SHA-256", "x"}, ResponsePrefix: "reply/%c", ServerReference: "b.example:8883",
	},
	Rules: []Rule{
		{Who: []Condition{{Identity: "sensor"}, {User: "alice", Listener: "tls"}}, Publish: []string{"a/%c/#"}},
		{Who: []Condition{{Anonymous: true}}, Publish: []string{"p"}, Subscribe: []string{"s/+", ""}, Provenance: true},
		{},
	},
}

var samplePeer = Peer{Listener: "tls", Identities: []string{"sensor", "line 4"}, User: "alice", Address: "[::1]:4711", Platform: "sim", Module: "sha384:00", Authenticate: true}

// numbered returns statistics in which every field has another value, so that a swap is seen.
func numbered() (s Stats) {
	for i, p := range s.fields() {
		*p = uint64(i + 1)
	}
	return s
}

func TestConfigRoundTrip(t *testing.T) {
	var got Config
	if err := ReadConfig(AppendConfig(nil, &sampleConfig), &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sampleConfig) {
		t.Errorf("got %+v, want %+v", got, sampleConfig)
	}
}

func TestPeerAndStatsRoundTrip(t *testing.T) {
	var peer Peer
	if err := ReadPeer(AppendPeer(nil, &samplePeer), &peer); err != nil || !reflect.DeepEqual(peer, samplePeer) {
		t.Errorf("peer: %+v, error %v", peer, err)
	}
	want := numbered()
	var stats Stats
	if err := ReadStats(AppendStats(nil, &want), &stats); err != nil || stats != want {
		t.Errorf("statistics: %+v, error %v", stats, err)
	}
}

// TestStatsFields fails when a field is added to Stats and forgotten in fields.
func TestStatsFields(t *testing.T) {
	if n := reflect.TypeFor[Stats]().NumField() - 1 + NumLimits; n != numStats {
		t.Errorf("Stats has %d fields, of which %d are encoded", n, numStats)
	}
	if n := reflect.TypeFor[Limits]().NumField(); n != numLimits {
		t.Errorf("Limits has %d fields, of which %d are encoded", n, numLimits)
	}
}

func TestShortOrLongDataIsRefused(t *testing.T) {
	stats := numbered()
	for name, c := range map[string]struct {
		data []byte
		read func([]byte) error
	}{
		"config": {AppendConfig(nil, &sampleConfig), func(b []byte) error { return ReadConfig(b, new(Config)) }},
		"peer":   {AppendPeer(nil, &samplePeer), func(b []byte) error { return ReadPeer(b, new(Peer)) }},
		"stats":  {AppendStats(nil, &stats), func(b []byte) error { return ReadStats(b, new(Stats)) }},
	} {
		for n := range c.data {
			if c.read(c.data[:n]) == nil {
				t.Errorf("%s: %d of %d bytes are accepted", name, n, len(c.data))
			}
		}
		err := c.read(append(c.data, 0))
		if fault := Fault(""); !errors.As(err, &fault) {
			t.Errorf("%s: one byte too many gives %v", name, err)
		}
	}
}

func TestEventsRoundTrip(t *testing.T) {
	batch := make([]byte, BatchHeaderSize)
	header := BatchHeader{Now: math.MaxInt64, Entropy: [EntropySize]byte{0: 1, 31: 2}}
	PutBatchHeader(batch, &header)
	batch = AppendEvent(batch, EventPackets, 0x01000007, 3, []byte("data"))
	room := make([]byte, EventHeaderSize+2)
	PutEvent(room, EventClosed, 9, 0, []byte("xy"))
	batch = append(batch, room...)

	var got BatchHeader
	if err := ReadBatchHeader(batch, &got); err != nil || got != header {
		t.Fatalf("header: %+v, error %v", got, err)
	}
	var e Event
	at, err := NextEvent(batch, BatchHeaderSize, &e)
	if err != nil || e.Kind != EventPackets || e.Conn != 0x01000007 || e.Arg != 3 || string(e.Data) != "data" ||
		string(batch[e.At:e.At+4]) != "data" || e.Conn.Slot() != 7 {
		t.Fatalf("first event: %+v, error %v", e, err)
	}
	at, err = NextEvent(batch, at, &e)
	if err != nil || e.Kind != EventClosed || string(e.Data) != "xy" || int(at) != len(batch) {
		t.Fatalf("second event: %+v, next at %d, error %v", e, at, err)
	}
	if _, err := NextEvent(batch, at, &e); err == nil {
		t.Error("an event behind the end is found")
	}
}

func TestDeliverRoundTrip(t *testing.T) {
	out := make([]byte, EffectsHeaderSize)
	out = AppendEffect(out, EffectSend, 0, 5, 0, []byte("hello"))
	out, at := BeginDeliver(out, 7, 1, 4, Ref{Space: 2, Offset: 30, Size: 400}, []byte("headpphead"))
	out = AppendTarget(out, 0x02000001, 65535)
	out = AppendTarget(out, 2, 1)
	if n := EndDeliver(out, at); n != 2 {
		t.Fatalf("%d targets, want 2", n)
	}
	SetRun(out, at, 3, 500)
	PutEffectsHeader(out, &EffectsHeader{Size: uint32(len(out)), Consumed: 77, More: true, Wake: -5})

	var header EffectsHeader
	if err := ReadEffectsHeader(out, &header); err != nil || header.Consumed != 77 || !header.More || header.Wake != -5 {
		t.Fatalf("header: %+v, error %v", header, err)
	}
	var e Effect
	next, err := NextEffect(out, EffectsHeaderSize, &e)
	if err != nil || e.Kind != EffectSend || e.Conn != 5 || string(e.Data) != "hello" || next != at {
		t.Fatalf("first effect: %+v, error %v", e, err)
	}
	if next, err = NextEffect(out, next, &e); err != nil || next != len(out) {
		t.Fatalf("second effect ends at %d of %d, error %v", next, len(out), err)
	}
	var d Deliver
	if err := ReadDeliver(&e, &d); err != nil {
		t.Fatal(err)
	}
	if d.Source != 7 || d.QoS != 1 || d.PacketIDAt != 4 || d.Payload != (Ref{2, 30, 400}) || string(d.Head) != "headpphead" ||
		d.Count != 3 || d.Stride != 500 || d.Span() != (Ref{2, 30, 1400}) ||
		d.NumTargets() != 2 || d.Target(0) != (Target{0x02000001, 65535}) || d.Target(1) != (Target{2, 1}) {
		t.Errorf("delivery: %+v", d)
	}
}

func TestFaultyEffectsAreRefused(t *testing.T) {
	deliver, at := BeginDeliver(make([]byte, EffectsHeaderSize), 0, 1, 9, Ref{}, []byte("0123456789"))
	deliver = AppendTarget(deliver, 1, 1)
	EndDeliver(deliver, at)
	var e Effect
	if _, err := NextEffect(deliver, at, &e); err != nil {
		t.Fatal(err)
	}
	if ReadDeliver(&e, new(Deliver)) == nil {
		t.Error("a packet id that reaches over the end of the head is accepted")
	}
	e.Arg = 2
	for field, fault := range map[int]string{deliverTargets: "number of targets", deliverCount: "count"} {
		right := binary.LittleEndian.Uint32(e.Data[field:])
		binary.LittleEndian.PutUint32(e.Data[field:], math.MaxUint32)
		if ReadDeliver(&e, new(Deliver)) == nil {
			t.Errorf("a wrong %s is accepted", fault)
		}
		binary.LittleEndian.PutUint32(e.Data[field:], right)
	}
	if err := ReadDeliver(&e, new(Deliver)); err != nil {
		t.Error(err)
	}
	if _, err := NextEffect(deliver[:len(deliver)-1], at, &e); err == nil {
		t.Error("an effect that is cut short is accepted")
	}
	if ReadEffectsHeader(deliver, new(EffectsHeader)) == nil || ReadBatchHeader(deliver[:BatchHeaderSize], new(BatchHeader)) == nil {
		t.Error("bytes without the version are accepted")
	}
}

func TestWritingMakesNoGarbage(t *testing.T) {
	room := make([]byte, 4096)
	n := testing.AllocsPerRun(100, func() {
		out, at := BeginDeliver(room[:EffectsHeaderSize], 7, 1, 4, Ref{}, room[:20])
		out = AppendTarget(out, 1, 1)
		EndDeliver(out, at)
		var e Effect
		var d Deliver
		_, _ = NextEffect(out, at, &e)
		_ = ReadDeliver(&e, &d)
		PutEvent(room, EventPackets, 1, 1, room[:20])
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecode reads arbitrary bytes as everything that this package reads.
func FuzzDecode(f *testing.F) {
	stats := numbered()
	events := AppendEvent(make([]byte, BatchHeaderSize), EventOpen, 1, 0, AppendPeer(nil, &samplePeer))
	PutBatchHeader(events, &BatchHeader{Now: 1})
	effects, at := BeginDeliver(make([]byte, EffectsHeaderSize), 7, 1, 2, Ref{1, 2, 3}, []byte("head"))
	EndDeliver(AppendTarget(effects, 1, 1), at)
	for _, seed := range [][]byte{AppendConfig(nil, &sampleConfig), AppendStats(nil, &stats), events, effects, nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = ReadStats(b, new(Stats))
		_ = ReadPeer(b, new(Peer))
		_ = ReadBatchHeader(b, new(BatchHeader))
		_ = ReadEffectsHeader(b, new(EffectsHeader))
		if c := new(Config); ReadConfig(b, c) == nil {
			again := new(Config)
			if err := ReadConfig(AppendConfig(nil, c), again); err != nil || !reflect.DeepEqual(c, again) {
				t.Errorf("a configuration that was read does not survive writing: %v", err)
			}
		}
		walkEvents(b)
		walkEffects(b)
	})
}

func walkEvents(b []byte) {
	var e Event
	var err error
	for at := uint32(BatchHeaderSize); err == nil; {
		at, err = NextEvent(b, at, &e)
	}
}

func walkEffects(b []byte) {
	var e Effect
	var err error
	for at := min(EffectsHeaderSize, len(b)); err == nil; {
		if at, err = NextEffect(b, at, &e); err != nil {
			return
		}
		var d Deliver
		if ReadDeliver(&e, &d) == nil {
			for i := range d.NumTargets() {
				d.Target(i)
			}
		}
	}
}
