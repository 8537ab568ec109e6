package broker

import (
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestWillsLeaveNothing lets clients go whose wills wait, and lets each will end in another way: nothing of the will and of who left it stays.
func TestWillsLeaveNothing(t *testing.T) {
	core := New()
	rig := brokertest.New(core)
	rules := []abi.Rule{
		{Who: []abi.Condition{{Listener: "a"}}, Publish: []string{"%c"}},
		{Who: []abi.Condition{{Listener: "a", User: "ann"}}, Publish: []string{"will/%c"}},
	}
	configure := func(n int) { rig.Configure(&abi.Config{Limits: brokertest.ScriptLimits, Rules: rules[:n]}) }
	come := func(id, user string, with mqtt.Connect) *brokertest.Conn {
		c := rig.Open(&abi.Peer{Listener: "a", User: user})
		with.Version, with.ClientID = mqtt.V5, []byte(id)
		with.Props.Has = with.Props.Has.With(mqtt.PropSessionExpiryInterval)
		with.Props.SessionExpiryInterval = 20
		c.Packets(mqtt.AppendConnect(nil, &with))
		return c
	}
	leaveWill := func(id string) {
		c := come(id, "ann", mqtt.Connect{HasWill: true, Will: mqtt.Will{Topic: []byte("will/" + id), Props: mqtt.Properties{
			Has: mqtt.PropertySet(0).With(mqtt.PropWillDelayInterval), WillDelayInterval: 10,
		}}})
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
		c.Lose()
	}
	run := func(d time.Duration) {
		t.Helper()
		if err := rig.Advance(d); err != nil {
			t.Fatal(err)
		}
	}
	configure(2)
	for _, id := range []string{"published", "back", "taken", "new"} {
		leaveWill(id)
	}
	run(0)
	if live := core.messages.live; live != 4 {
		t.Fatalf("%d wills wait", live)
	}
	come("back", "ann", mqtt.Connect{}).Lose()
	come("taken", "eve", mqtt.Connect{}).Lose()
	come("new", "ann", mqtt.Connect{CleanStart: true}).Lose()
	run(11 * time.Second)
	leaveWill("denied")
	configure(1)
	run(40 * time.Second)
	core.forgetRoutes()
	run(time.Second)
	if core.stats.Denied != 1 || core.messages.live+core.sessions.live+core.permits.live != 0 || core.store.live != 0 {
		t.Errorf("%d denials, %d messages, %d sessions, %d permits, and %d bytes are left",
			core.stats.Denied, core.messages.live, core.sessions.live, core.permits.live, core.store.live)
	}
}

// TestNoWillDuringReview lets a client whose queue overflows be ended in a step that ends amid the review of new rules: its will must not go to
// the last client, which may not read it any more.
func TestNoWillDuringReview(t *testing.T) {
	const fillers = 50
	core := New()
	rig := brokertest.New(core)
	limits, rules := brokertest.ScriptLimits, []abi.Rule{{Who: []abi.Condition{{Listener: "a"}}, Publish: []string{"#"}, Subscribe: []string{"#"}}}
	limits.MaxQueued, limits.MaxInflight, limits.StepWork = 1, 1, 100
	configure := func() {
		rig.Configure(&abi.Config{Limits: limits, Options: abi.Options{Overflow: abi.EndConnection}, Rules: rules})
	}
	come := func(id, filter string, with mqtt.Connect) *brokertest.Conn {
		c := rig.Open(&abi.Peer{Listener: "a"})
		with.Version, with.ClientID, with.CleanStart = mqtt.V311, []byte(id), true
		c.Packets(mqtt.AppendConnect(nil, &with), mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte(filter), QoS: 1}}))
		return c
	}
	run := func() {
		t.Helper()
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
	}
	configure()
	victim := come("victim", "q", mqtt.Connect{HasWill: true, Will: mqtt.Will{Topic: []byte("will")}})
	for i := range fillers {
		come(string(rune('A'+i)), "f", mqtt.Connect{})
	}
	last := come("last", "will", mqtt.Connect{})
	run()
	before := len(last.Stream)
	for range 3 {
		last.Packets(mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("q"), QoS: 1, PacketID: 1}))
	}
	rules[0].Subscribe = []string{"f", "q"}
	configure()
	run()
	acks := mqtt.AppendAck(nil, mqtt.V311, mqtt.PUBACK, 1, 0, nil)
	if got := len(last.Stream) - before; !victim.Gone() || got != 3*len(acks) || core.stats.Denied != 1 || rig.Stops == 0 {
		t.Errorf("the last client got %d bytes; %d denials, %d steps that came part of the way, the first client is gone: %v",
			got, core.stats.Denied, rig.Stops, victim.Gone())
	}
}
