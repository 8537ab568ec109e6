package bench

import (
	"bytes"
	"crypto/rand"
	mathrand "math/rand/v2"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestRunsAreTakenAsSinglePackets feeds random packets to takers as runs, in pieces, and one by one: both must say and keep
// the same.
func TestRunsAreTakenAsSinglePackets(t *testing.T) {
	seed := [32]byte{}
	rand.Read(seed[:])
	t.Logf("seed %x", seed)
	random := mathrand.New(mathrand.NewChaCha8(seed))
	for range 300 {
		var stream []byte
		for range 50 {
			stream = appendRandomRun(random, stream)
		}
		compareRuns(t, random, stream)
	}
}

// FuzzRuns is the same for any bytes.
func FuzzRuns(f *testing.F) {
	random := mathrand.New(mathrand.NewChaCha8([32]byte{}))
	for range 20 {
		f.Add(uint64(1), appendRandomRun(random, appendRandomRun(random, nil)))
	}
	f.Add(uint64(1), []byte{firstPublish1, 3, 0, 9, 0, firstPublish1, 3, 0, 9, 0})
	f.Fuzz(func(t *testing.T, seed uint64, stream []byte) {
		compareRuns(t, mathrand.New(mathrand.NewPCG(seed, seed)), stream)
	})
}

// compareRuns gives a stream to subscribers and to publishers.
func compareRuns(t *testing.T, random *mathrand.Rand, stream []byte) {
	t.Helper()
	runs, singles := newReceiver(nil), newReceiver(nil)
	compareTakers(t, random, stream, runs, singles)
	if runs.got != singles.got || runs.waiting != singles.waiting || runs.unreleased != singles.unreleased {
		t.Errorf("runs: got %d, %d wait; single packets: got %d, %d wait", runs.got, runs.waiting, singles.got, singles.waiting)
	}
	asRuns, oneByOne := newSendWindow("t", 2, 8, 40), newSendWindow("t", 2, 8, 40)
	if out := asRuns.fill(nil, 30); !bytes.Equal(out, oneByOne.fill(nil, 30)) {
		t.Error("windows of the same messages differ")
	}
	compareTakers(t, random, stream, asRuns, oneByOne)
	if asRuns.flying != oneByOne.flying || asRuns.inUse != oneByOne.inUse {
		t.Errorf("runs: %d in flight, single packets: %d", asRuns.flying, oneByOne.flying)
	}
}

// appendRandomRun appends a few packets of a kind, some of which do not belong there.
func appendRandomRun(random *mathrand.Rand, b []byte) []byte {
	kinds := []mqtt.PacketType{mqtt.PUBLISH, mqtt.PUBLISH, mqtt.PUBREL, mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBCOMP, mqtt.PINGRESP}
	kind, qos, size := kinds[random.IntN(len(kinds))], byte(random.IntN(3)), random.IntN(200)
	topic := []string{"t", "u", "t/u"}[random.IntN(3)]
	for id := range uint16(random.IntN(6)) {
		switch kind {
		case mqtt.PUBLISH:
			b = appendPublish(b, topic, qos, id+1, make([]byte, size))
		case mqtt.PINGRESP:
			b = mqtt.AppendPingresp(b)
		default:
			b = mqtt.AppendAck(b, version, kind, id+1, []mqtt.ReasonCode{mqtt.Success, mqtt.NoMatchingSubscribers}[random.IntN(8)/7], nil)
		}
	}
	return b
}

// compareTakers gives a stream to two takers, to the second without runs. What either refuses is left out for both.
func compareTakers(t *testing.T, random *mathrand.Rand, stream []byte, runs, singles taker) {
	t.Helper()
	for len(stream) > 0 {
		piece := stream[:min(len(stream), 1+random.IntN(600))]
		used, missing, got, err := takeEach(piece, runs, nil)
		usedToo, missingToo, want, errToo := takeEach(piece, single(singles.take), nil)
		if used != usedToo || missing != missingToo || !bytes.Equal(got, want) || (err == nil) != (errToo == nil) {
			t.Fatalf("%x: as runs %d bytes, %d missing, answers %x, %v; one by one %d, %d, %x, %v",
				piece, used, missing, got, err, usedToo, missingToo, want, errToo)
		}
		stream = stream[used:]
		if used == 0 || err != nil { // the first is refused, or larger than the piece
			size, ok, _ := mqtt.FrameSize(stream)
			if !ok || size > len(stream) {
				return
			}
			stream = stream[size:]
		}
	}
}
