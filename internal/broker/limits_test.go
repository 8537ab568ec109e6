package broker

import (
	"fmt"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestLimitsAreToldOnce meets limits again and again: each is counted every time, and told once for each connection; or
// once for each step where there is no connection.
func TestLimitsAreToldOnce(t *testing.T) {
	rig := brokertest.New(New())
	limits := brokertest.ScriptLimits
	limits.MaxTopicBytes, limits.MaxQueued = 12, 1
	rig.Configure(&abi.Config{Limits: limits, Rules: []abi.Rule{{
		Who: []abi.Condition{{Anonymous: true}}, Publish: []string{"#"}, Subscribe: []string{"#"},
	}}})
	p, s := fuzzClient(rig, "p", mqtt.V311), fuzzClient(rig, "s", mqtt.V311)
	s.Lose()
	run := func() {
		t.Helper()
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
	}
	run()
	expect := func(want ...abi.LimitMet) {
		t.Helper()
		run()
		var got []abi.LimitMet
		for _, n := range rig.Notes {
			if n.Kind == abi.NoteLimit {
				var l abi.LimitMet
				if err := abi.ReadLimitMet([]byte(n.Text), &l); err != nil {
					t.Fatal(err)
				}
				got = append(got, l)
			}
		}
		rig.Notes = nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("told of %v instead of %v", got, want)
		}
	}
	tooLong := mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte("1234567890123")}, {Topic: []byte("12345678901234")}})
	message := mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("t/x"), QoS: 1, PacketID: 1})
	p.Packets(tooLong)
	expect(abi.LimitMet{Limit: abi.LimitTopic, ClientID: "p"})
	p.Packets(tooLong)
	expect()
	p.Packets(message, message, message, message)
	expect(abi.LimitMet{Limit: abi.LimitQueue, ClientID: "s"})
	p.Packets(message, message)
	expect(abi.LimitMet{Limit: abi.LimitQueue, ClientID: "s"})
	rig.Event(abi.EventStats, 0, 0, nil)
	run()
	if met := rig.Stats.LimitsMet; met[abi.LimitTopic] != 4 || met[abi.LimitQueue] < 5 {
		t.Errorf("counted %v", met)
	}
}
