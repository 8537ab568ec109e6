package broker

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestOrderOfTopics publishes to short and long topics with one receiver each, of either generation, in one order again and
// again and then in another: the short way and the long way write the same, and the order is learnt.
func TestOrderOfTopics(t *testing.T) {
	var topics []string
	for i := range 12 { // as long as fits into a line, and around it
		topics = append(topics, fmt.Sprintf("%02d/%s", i, bytes.Repeat([]byte{'t'}, quickName-6+i)))
	}
	back := slices.Clone(topics)
	slices.Reverse(back)
	short, long := New(), New()
	long.longWay = true
	want, _ := playTopics(t, long, topics, back)
	got, conn := playTopics(t, short, topics, back)
	if !bytes.Equal(got, want) || len(want) < 10_000 {
		t.Errorf("the short way wrote %d bytes, which are not the %d bytes of the long way", len(got), len(want))
	}
	p, r := short.connectionOf(conn), &short.routes
	if first, last := r.quickOf(uint32(r.quickOf(p.route).next)), r.quickOf(p.route); !p.inOrder ||
		string(r.nameOf(first)) != back[0] || string(r.nameOf(last)) != back[len(back)-1] {
		t.Errorf("%q comes behind %q", r.nameOf(first), r.nameOf(last))
	}
	if q := r.quickOf(p.route); q.only == 0 || q.effects != 0 {
		t.Error("the effect of a topic with one receiver is in a record: the test does not test")
	}
}

// playTopics publishes to topics in some orders, several times each, with payloads whose packets have lengths of one byte and of
// two, and returns what the receivers got, and who published. Half of the topics are one receiver's, half another's.
func playTopics(t *testing.T, core *Core, orders ...[]string) (got []byte, publisher abi.Conn) {
	rig := brokertest.New(core)
	rig.Configure(&abi.Config{Limits: benchLimits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
	}}})
	p := fuzzClient(rig, "p", mqtt.V311)
	receivers := []*brokertest.Conn{fuzzClient(rig, "old", mqtt.V311), fuzzClient(rig, "new", mqtt.V5)}
	for i, topic := range orders[0] {
		version := []mqtt.Version{mqtt.V311, mqtt.V5}[i%2]
		receivers[i%2].Packets(mqtt.AppendSubscribe(nil, version, uint16(1+i), nil, []mqtt.Filter{{Topic: []byte(topic)}}))
	}
	for _, order := range orders {
		for size := range 7 {
			for _, topic := range order {
				p.Packets(mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic), Payload: make([]byte, 50*size)}))
			}
			if err := rig.Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return slices.Concat(receivers[0].Stream, receivers[1].Stream), p.ID
}

// TestIsTopic compares topics of all lengths, in the line of a route and in its record, with those that differ in one byte or in
// their length.
func TestIsTopic(t *testing.T) {
	for size := 1; size <= 2*quickName; size++ {
		topic := bytes.Repeat([]byte{'t'}, size)
		r, q := &routes{}, &quick{}
		r.nameQuick(q, topic)
		if !r.isTopic(q, topic) {
			t.Errorf("a topic of %d bytes is not itself", size)
		}
		if r.isTopic(q, topic[:size-1]) || r.isTopic(q, append(topic, 't')) || r.isTopic(q, append(topic, 0)) {
			t.Errorf("a topic of %d bytes is a shorter or a longer one", size)
		}
		for i := range topic {
			other := bytes.Clone(topic)
			other[i]++
			if r.isTopic(q, other) || hashBytes(1, other) == hashBytes(1, topic) {
				t.Errorf("a topic of %d bytes is one that differs in byte %d", size, i)
			}
		}
	}
}
