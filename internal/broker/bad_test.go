package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/mqtt/mqtttest"
)

// TestBadPackets sends each packet of the list to a broker and checks what its sender sees: the reason code of the
// standard, or a connection that is closed without a word.
func TestBadPackets(t *testing.T) {
	list, err := mqtttest.ReadBad("testdata/bad/packets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		t.Run(fmt.Sprintf("line %d v%d %s", b.Line, b.Version, b.Why), func(t *testing.T) {
			if answer, ok := b.Behind(); ok {
				sendBehindConnect(t, &b, answer)
			}
			if answer, ok := b.First(); ok {
				sendFirst(t, &b, answer)
			}
		})
	}
}

// sendBehindConnect sends a bad packet behind a good CONNECT and in front of a PUBLISH. The sender's will is published,
// and the PUBLISH is not.
func sendBehindConnect(t *testing.T, b *mqtttest.Bad, answer string) {
	bed, version := newBadBed(t), mqtt.Version(b.Version)
	watcher := bed.connect(t, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("watcher")}, "connack success")
	watcher.Packets(mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("#")}}))
	bed.run(t)
	bed.expect(t, watcher, mqtt.V311, "suback 1 granted0")
	will := mqtt.Will{Topic: []byte("will"), Payload: []byte("gone")}
	sender := bed.connect(t, &mqtt.Connect{Version: version, CleanStart: true, ClientID: []byte("sender"), HasWill: true, Will: will}, "connack success")
	bed.send(sender, b.Packet, mqtt.AppendPublish(nil, version, &mqtt.Publish{Topic: []byte("after")}))
	bed.run(t)
	bed.expect(t, sender, version, answer, "closed")
	bed.expect(t, watcher, mqtt.V311, "publish will payload=gone")
}

// sendFirst sends a bad packet as the first of a connection, with a good CONNECT behind it, which is not looked at.
func sendFirst(t *testing.T, b *mqtttest.Bad, answer string) {
	bed, version := newBadBed(t), mqtt.Version(b.Version)
	c := bed.Open(&abi.Peer{Listener: "plain"})
	bed.send(c, b.Packet, mqtt.AppendConnect(nil, &mqtt.Connect{Version: version, CleanStart: true, ClientID: []byte("c")}))
	bed.run(t)
	bed.expect(t, c, version, answer, "closed")
}

// TestPacketsCutOff sends good packets that end too early, cut at every byte. Those that are good packets still are
// taken as such; for the others the sender gets the reason that the parser gives, and nobody gets a message.
func TestPacketsCutOff(t *testing.T) {
	for version, list := range map[mqtt.Version][]string{
		mqtt.V311: {`10: "MQTT" 04 EE 003C "c" "w" "m" "u" "p"`, `3A: "a/b" 0001 'x'`, `40: 0001`, `62: 0001`, `82: 0001 "a" 00 "b" 01`, `A2: 0001 "a" "b"`},
		mqtt.V5: {
			`10: "MQTT" 05 EE 003C [ 11 00000001 21 0005 26 "k" "v" ] "c" [ 18 00000001 03 "t" ] "w" "m" "u" "p"`,
			`3A: "a/b" 0001 [ 01 01 02 00000009 03 "t" 08 "r" 09 "c" 23 0001 26 "k" "v" ] 'x'`, `40: 0001 00 [ 1F "r" 26 "k" "v" ]`,
			`62: 0001 92 [ 1F "r" ]`, `82: 0001 [ 0B 8001 26 "k" "v" ] "a" 00 "b" 01`, `A2: 0001 [ 26 "k" "v" ] "a" "b"`,
			`E0: 04 [ 11 00000000 1F "r" ]`,
		},
	} {
		for _, notation := range list {
			whole, err := mqtttest.Wire(notation)
			if err != nil || len(whole) > 129 {
				t.Fatalf("%s: %d bytes, %v", notation, len(whole), err)
			}
			for n := 2; n < len(whole); n++ {
				cut := slices.Clone(whole[:n])
				cut[1] = byte(n - 2)
				checkCutOff(t, version, cut)
			}
		}
	}
}

func checkCutOff(t *testing.T, version mqtt.Version, cut []byte) {
	t.Helper()
	bed := newBadBed(t)
	if mqtt.TypeOf(cut) == mqtt.CONNECT {
		c := bed.Open(&abi.Peer{Listener: "plain"})
		bed.send(c, cut)
		bed.run(t)
		items, err := c.Received()
		refused := len(items) > 0 && (items[0].Mark == "closed" || version == mqtt.V5 && items[0].Packet[3] == byte(mqtt.MalformedPacket))
		if err != nil || !c.Closed || !refused {
			t.Errorf("v%d % x: %v, %v", version, cut, items, err)
		}
		return
	}
	c := bed.connect(t, &mqtt.Connect{Version: version, CleanStart: true, ClientID: []byte("c")}, "connack success")
	fault := parseFromClient(cut, version)
	bed.send(c, cut)
	bed.run(t)
	switch {
	case fault == nil: // shorter, and good
	case version == mqtt.V5:
		bed.expect(t, c, version, "disconnect "+strings.ReplaceAll(strings.ToLower(fault.Reason.String()), " ", "-"), "closed")
	default:
		bed.expect(t, c, version, "closed")
	}
}

// parseFromClient gives the fault of a packet of a client that is connected.
func parseFromClient(frame []byte, v mqtt.Version) *mqtt.Fault {
	switch mqtt.TypeOf(frame) {
	case mqtt.PUBLISH:
		return mqtt.ParsePublish(frame, v, new(mqtt.Publish))
	case mqtt.SUBSCRIBE:
		return mqtt.ParseSubscribe(frame, v, new(mqtt.Subscribe))
	case mqtt.UNSUBSCRIBE:
		return mqtt.ParseUnsubscribe(frame, v, new(mqtt.Unsubscribe))
	case mqtt.DISCONNECT:
		return mqtt.ParseDisconnect(frame, v, new(mqtt.Disconnect))
	}
	return mqtt.ParseAck(frame, v, new(mqtt.Ack))
}

// badBed is a broker for one bad packet.
type badBed struct{ *brokertest.Rig }

func newBadBed(t *testing.T) badBed {
	t.Helper()
	bed := badBed{brokertest.New(New())}
	bed.Configure(&abi.Config{Limits: brokertest.ScriptLimits, Rules: []abi.Rule{
		{Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"}},
	}})
	bed.run(t)
	return bed
}

func (bed badBed) run(t *testing.T) {
	t.Helper()
	if err := bed.Run(); err != nil {
		t.Fatal(err)
	}
}

func (bed badBed) connect(t *testing.T, req *mqtt.Connect, want string) *brokertest.Conn {
	t.Helper()
	c := bed.Open(&abi.Peer{Listener: "plain"})
	c.Packets(mqtt.AppendConnect(nil, req))
	bed.run(t)
	bed.expect(t, c, req.Version, want)
	return c
}

// send does what a pump does: whole packets are handed on, what can be no packet is told of.
func (bed badBed) send(c *brokertest.Conn, packets ...[]byte) {
	for _, p := range packets {
		size, ok, fault := mqtt.FrameSize(p)
		if fault != nil {
			c.Event(abi.EventBadPacket, uint32(fault.Reason), nil)
			return
		}
		if !ok || size > len(p) {
			return
		}
		c.Packets(p)
	}
}

// expect compares what a client has received; what is empty does not count. Of a CONNACK and a DISCONNECT the properties
// do not matter.
func (bed badBed) expect(t *testing.T, c *brokertest.Conn, v mqtt.Version, want ...string) {
	t.Helper()
	items, err := c.Received()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range items {
		text := item.Mark
		if text == "" {
			if text, err = brokertest.Describe(item.Packet, v); err != nil {
				t.Fatal(err)
			}
		}
		if words := strings.Fields(text); words[0] == "connack" || words[0] == "disconnect" {
			text = words[0] + " " + words[1]
		}
		got = append(got, text)
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s == "" })
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
