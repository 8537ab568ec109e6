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
