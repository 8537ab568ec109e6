package server_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/mqtt/mqtttest"
	"github.com/vouchmq/vouchmq/internal/server"
)

// TestBadPacketsOverTCP sends the bad packets of the core's list over real sockets. The answer must come before the end
// of the connection, and the end must come: [MQTT-4.13.1-1], [MQTT-4.13.2-1], [MQTT-3.14.4-2], [MQTT-3.2.2-7],
// [MQTT311-4.8.0-1], [MQTT311-3.2.2-5].
func TestBadPacketsOverTCP(t *testing.T) {
	list, err := mqtttest.ReadBad("../broker/testdata/bad/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, usual(), func(o *server.DevelopmentOptions) { o.Limits.Core.TopicAliasMaximum = 10 })
	for _, b := range list {
		t.Run(fmt.Sprintf("line %d v%d %s", b.Line, b.Version, b.Why), func(t *testing.T) {
			good := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.Version(b.Version), CleanStart: true, ClientID: []byte("c")})
			if answer, ok := b.Behind(); ok {
				answers(t, r, &b, strings.TrimSpace("connack success "+answer), good, b.Packet, good)
			}
			if answer, ok := b.First(); ok {
				answers(t, r, &b, answer, b.Packet, good)
			}
		})
	}
	works(t, r, "plain")
}

// answers sends packets in one write, and compares all that comes until the other side closes.
func answers(t *testing.T, r *rig, b *mqtttest.Bad, want string, packets ...[]byte) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr(server.PlainListener).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var all []byte
	for _, p := range packets {
		all = append(all, p...)
	}
	write(t, conn, all)
	if got := describeAll(t, end(t, conn), mqtt.Version(b.Version)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// describeAll says what packets a server has sent, without their properties.
func describeAll(t *testing.T, stream []byte, v mqtt.Version) string {
	t.Helper()
	var words []string
	for len(stream) > 0 {
		size, ok, fault := mqtt.FrameSize(stream)
		if fault != nil || !ok || size > len(stream) {
			t.Fatalf("% x is not a packet", stream)
		}
		text, err := brokertest.Describe(stream[:size], v)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, strings.Fields(text)[:2]...)
		stream = stream[size:]
	}
	return strings.Join(words, " ")
}
