package abi

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// packet returns a packet with a first byte, of which the bytes before and behind a packet id are given.
func packet(first byte, before string, id uint16, behind string) []byte {
	b := []byte{first, byte(len(before) + 2 + len(behind))}
	return append(binary.BigEndian.AppendUint16(append(b, before...), id), behind...)
}

// portions hands over packets and returns what the core would see of them.
func portions(t *testing.T, packets []byte, count, shortest int) (kinds []EventKind, args []uint32, all []byte) {
	t.Helper()
	var p Portion
	for len(packets) > 0 {
		before := len(packets)
		packets, count = NextPortion(packets, count, shortest, &p)
		if len(packets) >= before || count < 0 {
			t.Fatalf("%d of %d bytes are left, %d packets", len(packets), before, count)
		}
		kinds, args = append(kinds, p.Kind), append(args, p.Arg)
		if p.Kind == EventAcks {
			all = AppendAcks(all, p.Data, int(p.Arg))
			continue
		}
		all = append(all, p.Data...)
	}
	return kinds, args, all
}

func TestPortions(t *testing.T) {
	publish := func(id uint16) []byte { return packet(0x32, "\x00\x01t", id, "\x00payload") }
	ack := func(kind byte, id uint16) []byte { return packet(kind, "", id, "") }
	ping := []byte{0xC0, 0}
	row := func(from, to uint16, one func(uint16) []byte) (all [][]byte) {
		for id := from; id <= to && id >= from; id++ {
			all = append(all, one(id))
		}
		return all
	}
	pubacks := func(id uint16) []byte { return ack(0x40, id) }
	type step struct {
		kind EventKind
		arg  uint32
	}
	for name, c := range map[string]struct {
		packets [][]byte
		want    []step
	}{
		"acknowledgements":        {row(1, 9, pubacks), []step{{EventAcks, 9}}},
		"few of them":             {row(1, 3, pubacks), []step{{EventPackets, 3}}},
		"up to the last id":       {append(row(65530, 65535, pubacks), row(1, 4, pubacks)...), []step{{EventAcks, 6}, {EventAcks, 4}}},
		"of two kinds":            {append(row(1, 4, pubacks), row(5, 8, func(id uint16) []byte { return ack(0x50, id) })...), []step{{EventAcks, 4}, {EventAcks, 4}}},
		"with another between":    {append(append(row(1, 4, pubacks), ping), row(5, 8, pubacks)...), []step{{EventAcks, 4}, {EventPackets, 1}, {EventAcks, 4}}},
		"with wrong flags":        {row(1, 9, func(id uint16) []byte { return ack(0x41, id) }), []step{{EventPackets, 9}}},
		"with a reason":           {row(1, 9, func(id uint16) []byte { return packet(0x40, "", id, "\x10") }), []step{{EventPackets, 9}}},
		"from id 0":               {row(0, 9, pubacks), []step{{EventPackets, 1}, {EventAcks, 9}}},
		"publishes from id 0":     {row(0, 9, publish), []step{{EventPackets, 1}, {EventPublishes, 9}}},
		"id 0":                    {[][]byte{ack(0x40, 0), ack(0x40, 0), ack(0x40, 0), ack(0x40, 0)}, []step{{EventPackets, 4}}},
		"publishes":               {row(7, 16, publish), []step{{EventPublishes, 10}}},
		"publishes, a gap":        {append(row(7, 10, publish), row(12, 16, publish)...), []step{{EventPublishes, 4}, {EventPublishes, 5}}},
		"publishes behind others": {append([][]byte{ping, pubacks(1)}, row(12, 16, publish)...), []step{{EventPackets, 2}, {EventPublishes, 5}}},
		"of other topics":         {append(row(1, 4, publish), packet(0x32, "\x00\x01u", 5, "\x00payload")), []step{{EventPublishes, 4}, {EventPackets, 1}}},
		"of other sizes":          {append(row(1, 4, publish), packet(0x32, "\x00\x01t", 5, "\x00payloads")), []step{{EventPublishes, 4}, {EventPackets, 1}}},
		"repeated":                {row(1, 9, func(id uint16) []byte { return packet(0x3A, "\x00\x01t", id, "\x00payload") }), []step{{EventPackets, 9}}},
		"QoS 0 first":             {append([][]byte{{0x30, 3, 0, 1, 't'}}, row(1, 9, publish)...), []step{{EventPackets, 10}}},
		"topic beyond its end":    {row(1, 9, func(id uint16) []byte { return packet(0x32, "\xFF\xFFt", id, "") }), []step{{EventPackets, 9}}},
	} {
		packets := bytes.Join(c.packets, nil)
		kinds, args, all := portions(t, packets, len(c.packets), 4)
		var got []step
		for i := range kinds {
			got = append(got, step{kinds[i], args[i]})
		}
		if len(got) != len(c.want) || !bytes.Equal(all, packets) {
			t.Errorf("%s: %v, want %v; %x, want %x", name, got, c.want, all, packets)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", name, got, c.want)
			}
		}
	}
}

// FuzzPortions cuts arbitrary bytes into packets as a pump does and hands them over: what the core sees must be the
// same packets.
func FuzzPortions(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3, 0xC0, 0}, 2)
	f.Add([]byte{0x32, 5, 0, 1, 't', 0, 1, 0x32, 5, 0, 1, 't', 0, 2, 0x34, 0, 0x62, 1, 0}, 2)
	f.Add([]byte{0x32, 0x85, 0, 0, 1, 't', 0, 1, 0x32, 0x85, 0, 0, 1, 't', 0, 2}, 1)
	f.Fuzz(func(t *testing.T, b []byte, shortest int) {
		whole, count := 0, 0
		for whole < len(b) {
			size, header := packetSize(b[whole:])
			if len(b)-whole < 2 || size == header && b[whole+header-1] != 0 {
				break // not whole
			}
			whole += size
			count++
		}
		_, args, all := portions(t, b[:whole], count, max(shortest, 1))
		n := 0
		for _, arg := range args {
			n += int(arg)
		}
		if !bytes.Equal(all, b[:whole]) || n != count {
			t.Fatalf("%d packets %x became %d, %x", count, b[:whole], n, all)
		}
	})
}

func TestReadAcks(t *testing.T) {
	for _, c := range []struct {
		data string
		arg  uint32
		ok   bool
	}{{"\x40\x02\x00\x01", 65535, true}, {"\x40\x02\x00\x02", 65535, false}, {"\x40\x02\x00\x01", 0, false}, {"\x40\x02\x00", 1, false}, {"\x40\x02\x00\x01", 1<<32 - 1, false}} {
		if _, _, err := ReadAcks(&Effect{Data: []byte(c.data), Arg: c.arg}); (err == nil) != c.ok {
			t.Errorf("%d from %x: %v", c.arg, c.data, err)
		}
	}
}

// BenchmarkPortions measures what it costs to find the runs, for each packet.
func BenchmarkPortions(b *testing.B) {
	const count = 200
	var acks, publishes, mixed []byte
	for id := range uint16(count) {
		acks = append(acks, packet(0x40, "", id+1, "")...)
		publishes = append(publishes, packet(0x32, "\x00\x0Dbench/topic/1", id+1, string(make([]byte, 64)))...)
		mixed = append(mixed, packet(0x40, "", uint16(rand.Uint32()), "")...)
	}
	for name, packets := range map[string][]byte{"acknowledgements": acks, "publishes": publishes, "mixed": mixed} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var p Portion
			for b.Loop() {
				for rest, left := packets, count; len(rest) > 0; {
					rest, left = NextPortion(rest, left, ShortestRun, &p)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/packet")
		})
	}
}
