package broker

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// authConfig lets everybody do everything whom the host lets in, by name and password or by the method "m".
func authConfig() *abi.Config {
	return &abi.Config{
		Limits: brokertest.ScriptLimits, Options: abi.Options{Methods: []string{"m"}, ResponsePrefix: "r/%c/%u"},
		Rules: []abi.Rule{{Who: []abi.Condition{{Listener: "plain"}}, Publish: []string{"#"}, Subscribe: []string{"#"}}},
	}
}

func connectWithMethod(id string) []byte {
	req := mqtt.Connect{Version: mqtt.V5, ClientID: []byte(id), CleanStart: true, HasPassword: true, Password: []byte("secret"), HasWill: true}
	req.Will = mqtt.Will{Topic: []byte("will"), Payload: bytes.Repeat([]byte("w"), 500)}
	req.Props.Has = req.Props.Has.With(mqtt.PropAuthenticationMethod)
	req.Props.AuthenticationMethod = []byte("m")
	return mqtt.AppendConnect(nil, &req)
}

func authWith(reason mqtt.ReasonCode) []byte {
	p := mqtt.Properties{AuthenticationMethod: []byte("m")}
	p.Has = p.Has.With(mqtt.PropAuthenticationMethod)
	return mqtt.AppendAuth(nil, reason, &p)
}

// TestNothingIsLeftOfAuthentication ends connections in every stage of authentication, by the client, by the core and by
// time, and looks whether anything still occupies memory.
func TestNothingIsLeftOfAuthentication(t *testing.T) {
	stages := map[string]func(*brokertest.Conn){
		"asked":      func(*brokertest.Conn) {},
		"challenged": func(c *brokertest.Conn) { c.Answer(0x18, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{})) },
		"asked again": func(c *brokertest.Conn) {
			c.Answer(0x18, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{}))
			c.Packets(authWith(0x18))
		},
		"accepted":     func(c *brokertest.Conn) { c.Answer(0, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{User: "u"})) },
		"refused":      func(c *brokertest.Conn) { c.Answer(0x87, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{})) },
		"answered ill": func(c *brokertest.Conn) { c.Answer(7, nil) },
		"anew": func(c *brokertest.Conn) {
			c.Answer(0, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{User: "u"}))
			c.Packets(authWith(0x19))
		},
		"protocol error": func(c *brokertest.Conn) { c.Hasty(mqtt.AppendPingreq(nil)) },
	}
	ends := map[string]func(*brokertest.Rig, *brokertest.Conn) error{
		"lost":     func(_ *brokertest.Rig, c *brokertest.Conn) error { c.Lose(); return nil },
		"time":     func(r *brokertest.Rig, c *brokertest.Conn) error { err := r.Advance(time.Minute); c.Lose(); return err },
		"shutdown": func(r *brokertest.Rig, _ *brokertest.Conn) error { r.Event(abi.EventShutdown, 0, 0, nil); return nil },
	}
	for stage, reach := range stages {
		for way, end := range ends {
			t.Run(stage+"/"+way, func(t *testing.T) {
				core := New()
				rig := brokertest.New(core)
				rig.Configure(authConfig())
				c := rig.Open(&abi.Peer{Listener: "plain", Authenticate: true})
				c.Packets(connectWithMethod("a"))
				run(t, rig)
				reach(c)
				run(t, rig)
				if err := end(rig, c); err != nil {
					t.Fatal(err)
				}
				run(t, rig)
				run(t, rig) // frees what the effects of the step before could refer to
				core.checkEmpty(t)
			})
		}
	}
}

func run(t *testing.T, rig *brokertest.Rig) {
	t.Helper()
	if err := rig.Run(); err != nil {
		t.Fatal(err)
	}
}

// checkEmpty looks whether a core without sessions and connections holds anything.
func (c *Core) checkEmpty(t *testing.T) {
	t.Helper()
	if c.routes.count > 0 {
		c.forgetRoutes()
	}
	if c.sessions.live+c.deliveries.live+c.messages.live+c.received.live+c.subscriptions.live+c.timers.all.live != 0 ||
		c.store.live != 0 || c.tree.nodes.live != 1 || c.stats.Connections != 0 || c.stats.Inflight != 0 || c.heldBytes != 0 {
		t.Errorf("left: %d sessions, %d deliveries, %d messages, %d received ids, %d subscriptions, %d timers, %d bytes, %d nodes, %d connections, %d in flight",
			c.sessions.live, c.deliveries.live, c.messages.live, c.received.live, c.subscriptions.live, c.timers.all.live,
			c.store.live, c.tree.nodes.live, c.stats.Connections, c.stats.Inflight)
	}
}

// TestPasswordIsForgotten looks for the password of a client that has been let in, or refused, in what the core keeps.
func TestPasswordIsForgotten(t *testing.T) {
	for _, reason := range []uint32{0, 0x87} {
		core := New()
		rig := brokertest.New(core)
		rig.Configure(authConfig())
		c := rig.Open(&abi.Peer{Listener: "plain", Authenticate: true})
		c.Packets(connectWithMethod("a"))
		run(t, rig)
		if !core.keeps("secret") {
			t.Fatal("the CONNECT is not kept: the test does not test")
		}
		c.Answer(reason, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{}))
		run(t, rig)
		if core.keeps("secret") {
			t.Errorf("after the answer %#x the password is still there", reason)
		}
	}
}

func (c *Core) keeps(text string) bool {
	for _, chunk := range c.store.chunks {
		if bytes.Contains(chunk, []byte(text)) {
			return true
		}
	}
	return false
}

// TestHostInWordsThatDoNotFit lets the host give texts and data that no packet can hold, or that are no text.
func TestHostInWordsThatDoNotFit(t *testing.T) {
	for name, answer := range map[string]abi.AuthAnswer{
		"long reason": {Reason: string(bytes.Repeat([]byte("x"), 0xFFFF))},
		"no text":     {Reason: "\xff"},
		"nul":         {Reason: "\x00"},
		"long data":   {Data: bytes.Repeat([]byte("x"), 0xFFFF), User: string(bytes.Repeat([]byte("u"), 0xFFFF))},
		"user":        {User: "\xff\x00"},
	} {
		for _, reason := range []uint32{0, 0x18, 0x87} {
			t.Run(fmt.Sprintf("%s/%#x", name, reason), func(t *testing.T) {
				rig := brokertest.New(New())
				rig.Configure(authConfig())
				c := rig.Open(&abi.Peer{Listener: "plain"})
				c.Packets(connectWithMethod("a"))
				run(t, rig)
				c.Answer(reason, abi.AppendAuthAnswer(nil, &answer))
				run(t, rig)
				if n := len(packetsOf(t, c)); n != 1 {
					t.Errorf("%d packets came", n)
				}
			})
		}
	}
}

// packetsOf returns the packets that came to a client of MQTT 5, which must obey the standard.
func packetsOf(t *testing.T, c *brokertest.Conn) (list []string) {
	t.Helper()
	items, err := c.Received()
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if item.Mark != "" {
			continue
		}
		text, err := brokertest.Describe(item.Packet, mqtt.V5)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	return list
}

// FuzzAuth lets a client and a host do anything with each other. Each two bytes of script are one thing to do.
func FuzzAuth(f *testing.F) {
	f.Add(true, []byte{0, 0, 3, 1, 1, 0, 2, 0, 1, 0, 3, 0})
	f.Add(false, []byte{0, 0, 2, 0, 1, 0, 3, 0, 4, 0, 2, 0, 3, 0})
	f.Add(true, []byte{0, 1, 3, 0x87})
	f.Add(true, []byte{7, 5, 0, 0, 5, 0, 3, 0})
	f.Fuzz(func(t *testing.T, gated bool, script []byte) {
		core := New()
		rig := brokertest.New(core)
		rig.Configure(authConfig())
		c := rig.Open(&abi.Peer{Listener: "plain", Authenticate: gated})
		for ; len(script) >= 2 && len(script) < 400; script = script[2:] {
			fuzzAuthStep(rig, c, script[0], script[1:])
			run(t, rig)
		}
		packetsOf(t, c)
		c.Lose()
		run(t, rig)
		if err := rig.Advance(time.Hour); err != nil {
			t.Fatal(err)
		}
		run(t, rig)
		core.checkEmpty(t)
	})
}

func fuzzAuthStep(rig *brokertest.Rig, c *brokertest.Conn, what byte, arg []byte) {
	send := func(packet []byte) {
		if arg[0]&0x80 != 0 { // the host does not wait for its turn
			c.Hasty(packet)
			return
		}
		c.Packets(packet)
	}
	switch what % 9 {
	case 0:
		send(connectWithMethod("a"))
	case 1:
		send(authWith(0x18))
	case 2:
		c.Answer(0x18, abi.AppendAuthAnswer(nil, &abi.AuthAnswer{Data: arg, Reason: "r"}))
	case 3:
		c.Answer(uint32(arg[0]), abi.AppendAuthAnswer(nil, &abi.AuthAnswer{User: "u"}))
	case 4:
		send(authWith(0x19))
	case 5:
		c.Answer(uint32(arg[0]), arg)
	case 6:
		send(mqtt.AppendPingreq(nil))
	case 7:
		send(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, ClientID: []byte("b"), CleanStart: arg[0]%2 == 0}))
	case 8:
		rig.Event(abi.EventAsk, 0, 1, append([]byte{byte(abi.DoForget)}, arg...))
	}
}
