package bench

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// message makes a message of protocol buffers: numbers as they are, bytes with their length.
func message(parts ...any) (b []byte) {
	for i := 0; i < len(parts); i += 2 {
		number := uint64(parts[i].(int)) << 3
		switch v := parts[i+1].(type) {
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, number), uint64(v))
		case []byte:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, number|2), uint64(len(v))), v...)
		case string:
			b = append(b, message(parts[i], []byte(v))...)
		}
	}
	return b
}

// packed are numbers one behind the other.
func packed(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// aProfile has four samples of main.work, in three of which it was called by main.check, once inlined; and one of the runtime.
func aProfile() []byte {
	location := func(id int, functions ...int) []byte {
		b := message(locationID, id)
		for _, f := range functions {
			b = append(b, message(locationLine, message(lineFunction, f))...)
		}
		return b
	}
	return message(
		profileString, "", profileString, "main.work", profileString, "main.check", profileString, "runtime.gc",
		profileFunction, message(functionID, 1, functionName, 1), profileFunction, message(functionID, 2, functionName, 2), profileFunction, message(functionID, 300, functionName, 3),
		profileLocation, location(10, 1), profileLocation, location(20, 2), profileLocation, location(300, 300), profileLocation, location(30, 1, 2),
		profileSample, message(sampleLocations, packed(10, 20), sampleValues, packed(2, 20_000_000)),
		profileSample, message(sampleLocations, 30, sampleValues, 1, sampleValues, 10_000_000),
		profileSample, message(sampleLocations, packed(10), sampleValues, packed(1, 10_000_000)),
		profileSample, message(sampleLocations, packed(300), sampleValues, packed(1, 10_000_000)),
	)
}

func TestCountWithin(t *testing.T) {
	for name, want := range map[string]profileCount{"main.check": {3, 5}, "main.work": {4, 5}, "main.chec": {0, 5}, "runtime.gc": {1, 5}} {
		if got, err := countWithin(aProfile(), []string{name}); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, bad := range []string{"\xff", "\x12\x05a", "\x12", "\x0d1234"} {
		if _, err := countWithin([]byte(bad), nil); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

//go:noinline
func spin(until time.Time) (n int) {
	for time.Now().Before(until) {
		n += strings.Count("signature", "s")
	}
	return n
}

func TestProfiled(t *testing.T) {
	var sum profileCount
	for deadline := time.Now().Add(time.Minute); sum.all < 10 && time.Now().Before(deadline); {
		c, err := profiled([]string{"github.com/vouchmq/vouchmq/bench.spin"}, func() error {
			spin(time.Now().Add(100 * time.Millisecond))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		sum.add(c)
	}
	if sum.share() < 0.5 {
		t.Errorf("of %d samples %d are in what ran all the time", sum.all, sum.within)
	}
}
