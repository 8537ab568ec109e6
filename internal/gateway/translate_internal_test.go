package gateway

import (
	"bytes"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestTranslateUp: what a client of 3.1.1 says is the same in MQTT 5.
func TestTranslateUp(t *testing.T) {
	filters := []mqtt.Filter{{Topic: []byte("a/#"), QoS: 1}, {Topic: []byte("$share/g/b"), QoS: 2}}
	topics := [][]byte{[]byte("a/#"), []byte("b")}
	publish := mqtt.Publish{Topic: []byte("t"), QoS: 2, Dup: true, Retain: true, PacketID: 3, Payload: []byte("p")}
	for name, of := range map[string]func(mqtt.Version) []byte{
		"PUBLISH":     func(v mqtt.Version) []byte { return mqtt.AppendPublish(nil, v, &publish) },
		"PUBREL":      func(v mqtt.Version) []byte { return mqtt.AppendAck(nil, v, mqtt.PUBREL, 4, mqtt.Success, nil) },
		"SUBSCRIBE":   func(v mqtt.Version) []byte { return mqtt.AppendSubscribe(nil, v, 5, nil, filters) },
		"UNSUBSCRIBE": func(v mqtt.Version) []byte { return mqtt.AppendUnsubscribe(nil, v, 6, nil, topics) },
		"PINGREQ":     func(mqtt.Version) []byte { return mqtt.AppendPingreq(nil) },
		"DISCONNECT":  func(v mqtt.Version) []byte { return mqtt.AppendDisconnect(nil, v, 0, nil) },
	} {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
			tr := translator{version: v}
			if got, err := tr.up(of(v)); err != nil || !bytes.Equal(got, of(mqtt.V5)) {
				t.Errorf("%s of version %d: % x, %v", name, v, got, err)
			}
		}
	}
}

// TestTranslateDown: what MQTT 3.1.1 has no words for is left out, or ends the connection.
func TestTranslateDown(t *testing.T) {
	props := mqtt.Properties{ReasonString: []byte("because")}
	props.Has = props.Has.With(mqtt.PropReasonString)
	publish := mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 3, Payload: []byte("p")}
	plain := mqtt.AppendPublish(nil, mqtt.V311, &publish)
	publish.Props.Has, publish.Props.ContentType = publish.Props.Has.With(mqtt.PropContentType), []byte("text/plain")
	ack := func(kind mqtt.PacketType, reason mqtt.ReasonCode) []byte {
		return mqtt.AppendAck(nil, mqtt.V5, kind, 3, reason, &props)
	}
	for name, test := range map[string]struct {
		packet, want []byte
		over         bool
	}{
		"PUBLISH":            {mqtt.AppendPublish(nil, mqtt.V5, &publish), plain, false},
		"PUBACK":             {ack(mqtt.PUBACK, mqtt.NoMatchingSubscribers), []byte{0x40, 2, 0, 3}, false},
		"PUBACK, may not":    {ack(mqtt.PUBACK, mqtt.NotAuthorized), []byte{0x40, 2, 0, 3}, false},
		"PUBACK, no room":    {ack(mqtt.PUBACK, mqtt.QuotaExceeded), nil, true},
		"PUBREC, no room":    {ack(mqtt.PUBREC, mqtt.QuotaExceeded), nil, true},
		"PUBCOMP of nothing": {ack(mqtt.PUBCOMP, mqtt.PacketIdentifierNotFound), []byte{0x70, 2, 0, 3}, false},
		"SUBACK":             {mqtt.AppendSuback(nil, mqtt.V5, 3, &props, []byte{2, 0x87}), []byte{0x90, 4, 0, 3, 2, 0x80}, false},
		"UNSUBACK":           {mqtt.AppendUnsuback(nil, mqtt.V5, 3, &props, []byte{0x11}), []byte{0xB0, 2, 0, 3}, false},
		"PINGRESP":           {mqtt.AppendPingresp(nil), []byte{0xD0, 0}, false},
		"DISCONNECT":         {mqtt.AppendDisconnect(nil, mqtt.V5, mqtt.SessionTakenOver, &props), nil, true},
	} {
		tr := translator{version: mqtt.V311}
		got, err := tr.down(test.packet)
		if (err != nil) != test.over || !test.over && !bytes.Equal(got, test.want) {
			t.Errorf("%s: % x, %v; want % x", name, got, err, test.want)
		}
	}
}

// FuzzTranslate: what a client says is refused, or goes on as a packet that a broker of MQTT 5 can read; and the other way round.
func FuzzTranslate(f *testing.F) {
	f.Add(mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("t"), QoS: 1, PacketID: 3}), true, true)
	f.Add(mqtt.AppendSubscribe(nil, mqtt.V31, 5, nil, []mqtt.Filter{{Topic: []byte("a/#"), QoS: 1}}), true, false)
	f.Add(mqtt.AppendSuback(nil, mqtt.V5, 5, nil, []byte{0x87}), false, true)
	f.Add([]byte{0x38, 3, 0, 1, 't'}, true, false) // DUP at QoS 0
	f.Fuzz(func(t *testing.T, packet []byte, up, newer bool) {
		if size, ok, _ := mqtt.FrameSize(packet); !ok || size != len(packet) {
			return
		}
		tr := translator{version: mqtt.V31}
		if newer {
			tr.version = mqtt.V311
		}
		translate, back := tr.up, translator{version: mqtt.V5}
		if !up {
			translate = tr.down
			back.version = tr.version
		}
		got, err := translate(packet)
		if err != nil {
			return
		}
		if size, ok, _ := mqtt.FrameSize(got); !ok || size != len(got) || mqtt.TypeOf(got) != mqtt.TypeOf(packet) {
			t.Fatalf("% x becomes % x", packet, got)
		}
		if _, err := back.up(got); up && err != nil {
			t.Errorf("% x becomes % x: %v", packet, got, err)
		}
	})
}
