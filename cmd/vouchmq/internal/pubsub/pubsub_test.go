package pubsub

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/testkit"
)

func TestParseProperty(t *testing.T) {
	for line, want := range map[string]struct {
		packet string
		p      Property
	}{
		"publish content-type text/plain":     {"publish", Property{Name: "content-type", Value: "text/plain"}},
		"connect user-property colour red":    {"connect", Property{Name: "user-property", Key: "colour", Value: "red"}},
		"will will-delay-interval 4294967295": {"will", Property{Name: "will-delay-interval", Value: "4294967295"}},
		"connect receive-maximum 65535":       {"connect", Property{Name: "receive-maximum", Value: "65535"}},
	} {
		packet, p, err := ParseProperty(strings.Fields(line))
		if err != nil || packet != want.packet || p != want.p {
			t.Errorf("%s: %s %+v %v", line, packet, p, err)
		}
	}
	for _, line := range []string{
		"", "publish", "publish content-type", "post content-type x", "publish will-delay-interval 1",
		"connect receive-maximum 65536", "publish message-expiry-interval -1", "publish payload-format-indicator 256",
		"connect user-property a", "publish message-expiry-interval 1.5",
	} {
		if _, _, err := ParseProperty(strings.Fields(line)); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
}

func TestEveryAllowedPropertyHasAKind(t *testing.T) {
	for packet, names := range allowed {
		for _, name := range names {
			if _, ok := kinds[name]; !ok {
				t.Errorf("%s: %s", packet, name)
			}
		}
	}
}

func TestPropertiesOfPacketsForPaho(t *testing.T) {
	ps := Properties{
		{Name: "content-type", Value: "text/plain"}, {Name: "message-expiry-interval", Value: "60"},
		{Name: "correlation-data", Value: "id"}, {Name: "payload-format-indicator", Value: "1"},
		{Name: "user-property", Key: "k", Value: "1"}, {Name: "user-property", Key: "k", Value: "2"},
	}
	p := ps.publish()
	if p.ContentType != "text/plain" || *p.MessageExpiry != 60 || string(p.CorrelationData) != "id" || *p.PayloadFormat != 1 {
		t.Errorf("%+v", p)
	}
	if got := p.User.GetAll("k"); !slices.Equal(got, []string{"1", "2"}) {
		t.Error(got)
	}
	if p.TopicAlias != nil || (Properties{}).publish().MessageExpiry != nil {
		t.Error("a property that was not given is there")
	}
	back := received(p)
	slices.SortFunc(back, func(a, b Property) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	want := slices.Clone(ps)
	slices.SortFunc(want, func(a, b Property) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	if !slices.Equal(back, want) {
		t.Errorf("came back as %+v", back)
	}
	if !(Properties{}).connect().RequestProblemInfo || (Properties{{Name: "request-problem-information", Value: "0"}}).connect().RequestProblemInfo {
		t.Error("request-problem-information is 1 unless it is given")
	}
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]Version{"5": V5, "mqttv5": V5, "311": V311, "mqttv311": V311, "31": V31, "mqttv31": V31} {
		if v, err := ParseVersion(text); err != nil || v != want {
			t.Error(text, v, err)
		}
	}
	if _, err := ParseVersion("4"); err == nil {
		t.Error("4 is no version")
	}
}

func TestEndingKeepsTheFirstReason(t *testing.T) {
	e := newEnding()
	first := errors.New("first")
	e.set(first)
	e.set(ErrLost)
	<-e.known
	if e.get() != first {
		t.Error(e.get())
	}
}

// What waits for an answer ends with the connection, over which none can come, and tells why it ended.
func TestNothingIsAwaitedFromAConnectionThatEnded(t *testing.T) {
	for _, v := range versions {
		near, far := net.Pipe()
		go acceptAndLeave(far, v)
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		c, err := connect(ctx, near, Options{Version: v, ClientID: "left", CleanStart: true}.withDefaults())
		if err != nil {
			t.Fatal(v, err)
		}
		if err := c.Publish(ctx, &Message{Topic: "t", QoS: 1}); !errors.Is(err, ErrLost) {
			t.Error(v, err)
		}
	}
}

// acceptAndLeave is a broker that lets its client in, and goes at the first message.
func acceptAndLeave(conn net.Conn, v Version) {
	defer conn.Close()
	connack := []byte{0x20, 2, 0, 0}
	if v == V5 {
		connack = []byte{0x20, 3, 0, 0, 0}
	}
	in := bufio.NewReader(conn)
	if readPacket(in) == nil {
		if _, err := conn.Write(connack); err == nil {
			_ = readPacket(in)
		}
	}
}

// readPacket reads a packet of at most 127 bytes behind its fixed header.
func readPacket(in *bufio.Reader) error {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	_, err := in.Discard(int(head[1]))
	return err
}
