package broker

import (
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestForgottenRoutesAreNotTrusted has all routes forgotten, and another topic take the place of one that a client may
// publish to: it still may not publish to that.
func TestForgottenRoutesAreNotTrusted(t *testing.T) {
	core := New()
	rig := brokertest.New(core)
	rig.Configure(&abi.Config{Limits: brokertest.ScriptLimits, Rules: []abi.Rule{
		{Who: []abi.Condition{{Identity: "one"}}, Publish: []string{"one/#"}},
		{Who: []abi.Condition{{Identity: "two"}}, Publish: []string{"two/#"}},
	}})
	publish := func(c *brokertest.Conn, topic string) {
		t.Helper()
		c.Packets(mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic)}))
		if err := rig.Run(); err != nil {
			t.Fatal(err)
		}
	}
	var clients []*brokertest.Conn
	for _, name := range []string{"one", "two"} {
		c := rig.Open(&abi.Peer{Listener: "x", Identities: []string{name}})
		c.Packets(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte(name)}))
		clients = append(clients, c)
	}
	for _, topic := range []string{"one/t", "one/t", "one/x", "one/t"} { // x drives t out of the few that the connection remembers
		publish(clients[0], topic)
	}
	core.forgetRoutes()
	for range 2 { // the second time it is remembered
		publish(clients[1], "two/t")
	}
	if core.routes.count != 2 {
		t.Fatalf("%d routes, want the one that was used again and the passing one", core.routes.count)
	}
	publish(clients[0], "two/t")
	if core.stats.Denied != 1 {
		t.Errorf("%d publishes were denied, want 1", core.stats.Denied)
	}
}
