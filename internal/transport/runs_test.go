package transport

import (
	"bytes"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// Runs of packets reach the core as one event, wherever they lie, and what comes of them reaches clients as the packets
// that they are.
func TestRunsAreOneEvent(t *testing.T) {
	b := newBed(t, Limits{}, nil)
	sub, pub := b.subscriber(t), b.dial(t)
	var acks, publishes []byte
	for id := range uint16(100) {
		acks = mqtt.AppendAck(acks, mqtt.V311, mqtt.PUBREC, 1+id, mqtt.Success, nil)
		publishes = mqtt.AppendPublish(publishes, mqtt.V311, &mqtt.Publish{
			Topic: []byte("some/topic"), Payload: []byte{byte(id)}, QoS: 1, PacketID: 1 + id,
		})
	}
	write(t, pub, bytes.Join([][]byte{mqtt.AppendPingreq(nil), acks, publishes, mqtt.AppendPingreq(nil)}, nil))
	want := bytes.Join([][]byte{mqtt.AppendPingresp(nil), acks, mqtt.AppendPingresp(nil)}, nil)
	if got := expect(t, pub, len(want)); !bytes.Equal(got, want) {
		t.Errorf("the core's answers are % x, want % x", got, want)
	}
	if got := expect(t, sub, len(publishes)); len(got) != len(publishes) {
		t.Errorf("%d bytes of %d came", len(got), len(publishes))
	}
	b.hubs.mu.Lock()
	defer b.hubs.mu.Unlock()
	runs := map[abi.EventKind]uint32{}
	for conn, kinds := range b.hubs.events {
		for i, kind := range kinds {
			if kind == abi.EventAcks || kind == abi.EventPublishes {
				runs[kind] += b.hubs.args[conn][i]
			}
		}
	}
	// TCP may cut the stream anywhere, but leaves runs in this.
	if n := runs[abi.EventAcks]; n < 90 || n > 100 {
		t.Errorf("%d acknowledgements of 100 came in runs", n)
	}
	if n := runs[abi.EventPublishes]; n < 90 || n > 100 {
		t.Errorf("%d messages of 100 came in runs", n)
	}
}
