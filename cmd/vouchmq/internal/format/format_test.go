package format

import (
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

func TestFormat(t *testing.T) {
	m := &pubsub.Message{
		Topic: "a/b", Payload: []byte("on\x01"), QoS: 2, Retain: true, PacketID: 7,
		Properties: pubsub.Properties{
			{Name: "content-type", Value: "text/plain"},
			{Name: "user-property", Key: "k", Value: "v"}, {Name: "user-property", Key: "k", Value: "w"},
		},
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for format, want := range map[string]string{
		"%t %p":         "a/b on\x01",
		"%x|%X":         "6f6e01|6F6E01",
		"%q %r %d":      "2 1 0",
		"%l %m":         "3 7",
		"%I %U":         "2026-01-02T03:04:05+0000 1767323045.000000006",
		`%C\t%P\n`:      "text/plain\tk:v k:w\n",
		"100%% of %R[]": "100% of []",
		`\\`:            `\`,
		"%j": `{"tst":"2026-01-02T03:04:05+0000","topic":"a/b","qos":2,"retain":1,"payloadlen":3,"mid":7,` +
			`"properties":{"content-type":"text/plain","user-property k":"w"},"payload":"on\u0001"}`,
	} {
		f, err := Parse(format)
		if err != nil {
			t.Errorf("%q: %v", format, err)
			continue
		}
		if got := string(f.Append(nil, m, now)); got != want {
			t.Errorf("%q gave %q, want %q", format, got, want)
		}
	}
}

func TestFormatRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, format := range []string{"", "%", "%z", `\`, `\z`, "%t %"} {
		if _, err := Parse(format); err == nil {
			t.Errorf("%q was accepted", format)
		}
	}
}
