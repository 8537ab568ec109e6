package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/gateway"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// talker is a client of MQTT that sees every packet.
type talker struct {
	*net.TCPConn
	t       testing.TB
	version mqtt.Version
	buf     []byte
}

// talk connects a client and subscribes it to its own topic.
func talk(t testing.TB, addr string, request *mqtt.Connect) (*talker, *mqtt.Connack) {
	t.Helper()
	c := &talker{TCPConn: connect(t, addr), t: t, version: request.Version}
	c.send(mqtt.AppendConnect(nil, request))
	var ack mqtt.Connack
	if fault := mqtt.ParseConnack(c.next(), c.version, &ack); fault != nil {
		t.Fatal(fault.Err())
	}
	return c, &ack
}

func (c *talker) send(packet []byte) {
	c.t.Helper()
	if _, err := c.Write(packet); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next packet, nil at the end of the stream.
func (c *talker) next() []byte {
	c.t.Helper()
	for {
		if size, ok, _ := mqtt.FrameSize(c.buf); ok && len(c.buf) >= size {
			packet := c.buf[:size:size]
			c.buf = c.buf[size:]
			return packet
		}
		more := make([]byte, 4096)
		n, err := c.Read(more)
		if c.buf = append(c.buf, more[:n]...); err == io.EOF {
			return nil
		} else if err != nil {
			c.t.Fatalf("%v after % x", err, c.buf)
		}
	}
}

// expect returns the next packet, which must be of a type.
func (c *talker) expect(kind mqtt.PacketType) []byte {
	c.t.Helper()
	packet := c.next()
	if got := mqtt.TypeOf(packet); got != kind {
		c.t.Fatalf("%v, want %v: % x", got, kind, packet)
	}
	return packet
}

func (c *talker) subscribe(topic string) {
	c.t.Helper()
	c.send(mqtt.AppendSubscribe(nil, c.version, 7, nil, []mqtt.Filter{{Topic: []byte(topic), QoS: 1}}))
	c.expect(mqtt.SUBACK)
}

// works sends a message to itself, and sees nothing else.
func (c *talker) works(topic string) {
	c.t.Helper()
	c.send(mqtt.AppendPublish(nil, c.version, &mqtt.Publish{Topic: []byte(topic), QoS: 1, PacketID: 9, Payload: []byte("x")}))
	seen := map[mqtt.PacketType]bool{}
	for range 2 {
		packet := c.next()
		kind := mqtt.TypeOf(packet)
		if seen[kind] = true; kind != mqtt.PUBLISH {
			continue
		}
		var p mqtt.Publish
		if fault := mqtt.ParseServerPublish(packet, c.version, &p); fault != nil || string(p.Topic) != topic {
			c.t.Errorf("% x: %v", packet, fault.Err())
		}
		c.send(mqtt.AppendAck(nil, c.version, mqtt.PUBACK, p.PacketID, mqtt.Success, nil))
	}
	if !seen[mqtt.PUBLISH] || !seen[mqtt.PUBACK] {
		c.t.Errorf("seen %v", seen)
	}
}

// device is a simulated TEE of gateways.
func device(t testing.TB) (*sim.Key, policy.Identity) {
	key := Must(sim.NewKey())(t)
	return key, policy.Identity{
		Name: "gateway", Modules: []attest.Digest{{7}}, Simulated: true,
		AnyOf: []policy.Requirement{{Platform: attest.Sim, Want: map[string][]string{"key": {key.Digest().String()}}}},
	}
}

// everybody may do everything; identities are known.
func everybody(t testing.TB, topic string, identities ...policy.Identity) *policy.Policy {
	who := []policy.Who{{Listener: server.AttestedListener}}
	for _, id := range identities {
		who = append(who, policy.Who{Identity: id.Name})
	}
	return Must(policy.New(identities, []policy.Rule{{Who: who, Publish: []string{"#", topic}, Subscribe: []string{"#"}}}))(t)
}

// attesting dials by a bundle that is for any configuration, with evidence of a device.
func attesting(t testing.TB, b *client.Bundle, key *sim.Key) func(context.Context) (net.Conn, *client.Verdict, error) {
	o := client.Options{
		Attester: sim.NewAttester(key, attest.Digest{7}), Identity: attest.Identity{Module: attest.Digest{7}},
		HandshakeTimeout: Patience, EvidenceTimeout: Patience,
	}
	return func(ctx context.Context) (net.Conn, *client.Verdict, error) {
		conn, verdict, err := client.Dial(ctx, b, o)
		if err != nil {
			return nil, verdict, err
		}
		return conn, verdict, nil
	}
}

// anyConfig is a bundle that is good for any configuration of the broker.
func anyConfig(t testing.TB, b *client.Bundle) *client.Bundle {
	identity := b.Policy.Identities()[0]
	identity.Configs = nil
	open := *b
	open.Policy = Must(policy.New([]policy.Identity{identity}, nil))(t)
	return &open
}

// reload puts another policy in force.
func (b *broker) reload(t testing.TB, p *policy.Policy) {
	t.Helper()
	config := b.Config
	config.Policy = p
	if err := b.Reload(context.Background(), config); err != nil {
		t.Fatal(err)
	}
}

const attestedAgain = "gateway and broker have attested again"

// TestStaysAttested: connections behind the gateway attest again as often as the broker demands, and their clients see nothing of
// that. What becomes of others shows TestOverdue.
func TestStaysAttested(t *testing.T) {
	key, identity := device(t)
	for _, v := range versions {
		t.Run(versionName(v), func(t *testing.T) {
			t.Parallel()
			b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
				c.Policy = everybody(t, "#", identity)
				c.Attestation = server.Attestation{Reattest: time.Second, Grace: Patience / 2}
			})
			g := run(t, gateway.Config{Dial: attesting(t, b.bundle, key)})
			c, ack := talk(t, g.addr, &mqtt.Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: []byte("c")})
			if has := ack.Props.Has; has.Has(mqtt.PropAuthenticationMethod) || has.Has(mqtt.PropUserProperty) {
				t.Errorf("the client sees properties %x of re-attestation", has)
			}
			c.subscribe("plant/1")
			for round := range 3 {
				Await(t, "a round", func() bool { return strings.Count(g.log.String(), attestedAgain) > round })
				c.works("plant/1")
			}
			c.send(mqtt.AppendDisconnect(nil, v, mqtt.NormalDisconnection, nil))
			if rest := c.next(); rest != nil {
				t.Errorf("% x after the client's DISCONNECT", rest)
			}
			if n := strings.Count(g.log.String(), "client is connected to the broker"); n != 1 {
				t.Errorf("%d connections to the broker", n)
			}
		})
	}
}

// TestOverdue shows that the broker means it: a client for which there cannot be rounds is told by the broker.
func TestOverdue(t *testing.T) {
	t.Parallel()
	key, identity := device(t)
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
		c.Policy = everybody(t, "#", identity)
		c.Attestation = server.Attestation{Reattest: 4 * time.Second, Grace: time.Second} // time enough to connect
	})
	g := run(t, gateway.Config{Dial: attesting(t, b.bundle, key)})
	connect := &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")}
	connect.Props.Has = connect.Props.Has.With(mqtt.PropMaximumPacketSize) // too small for evidence
	connect.Props.MaximumPacketSize = 1000
	c, ack := talk(t, g.addr, connect)
	if ack.Reason != mqtt.Success {
		t.Fatal(ack.Reason)
	}
	c.expectDisconnect(mqtt.NotAuthorized)
}

func (c *talker) expectDisconnect(want mqtt.ReasonCode) {
	c.t.Helper()
	if c.version < mqtt.V5 {
		if rest := c.next(); rest != nil {
			c.t.Errorf("% x, want the end", rest)
		}
		return
	}
	var d mqtt.Disconnect
	if fault := mqtt.ParseServerDisconnect(c.expect(mqtt.DISCONNECT), c.version, &d); fault != nil || d.Reason != want {
		c.t.Errorf("%v, %v; want %v", d.Reason, fault.Err(), want)
	}
	if rest := c.next(); rest != nil {
		c.t.Errorf("% x after DISCONNECT", rest)
	}
}

// TestOwnMethod: enhanced authentication of the client goes through as it is, and AUTH without it is an error.
func TestOwnMethod(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	own := &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")}
	own.Props.Has = own.Props.Has.With(mqtt.PropAuthenticationMethod)
	own.Props.AuthenticationMethod = []byte("of-its-own")
	if _, ack := talk(t, g.addr, own); ack.Reason != mqtt.BadAuthenticationMethod {
		t.Error(ack.Reason)
	}
	c, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("d")})
	p := mqtt.Properties{AuthenticationMethod: []byte(client.ReattestMethod)}
	p.Has = p.Has.With(mqtt.PropAuthenticationMethod)
	c.send(mqtt.AppendAuth(nil, mqtt.ReAuthenticate, &p))
	c.expectDisconnect(mqtt.ProtocolError)
}

// TestNewConfiguration: when the broker comes to attest another configuration, the gateway notices and all its connections attest
// again. They would take turns for half a minute and longer otherwise.
func TestNewConfiguration(t *testing.T) {
	t.Parallel()
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
		c.Attestation = server.Attestation{Reattest: time.Hour, Grace: time.Minute}
	})
	g := run(t, gateway.Config{Dial: to(anyConfig(t, b.bundle)), Watch: 600 * time.Millisecond})
	var clients []*talker
	for i := range 15 {
		c, _ := talk(t, g.addr, &mqtt.Connect{Version: versions[i%3], CleanStart: true, ClientID: fmt.Append(nil, "c", i)})
		c.subscribe(fmt.Sprint("plant/", i))
		clients = append(clients, c)
	}
	before := len(g.log.String()) // now, for a round may be over before the reload is
	b.reload(t, everybody(t, "another/#"))
	for i, c := range clients {
		again := fmt.Sprintf("%s\" client=%s", attestedAgain, c.LocalAddr())
		Await(t, "a round of each", func() bool { return strings.Contains(g.log.String()[before:], again) })
		c.works(fmt.Sprint("plant/", i))
	}
}

// TestBeforeEvidenceExpires: the broker demands no round for an hour, and its evidence expires before. The gateway does not wait for that.
func TestBeforeEvidenceExpires(t *testing.T) {
	t.Parallel()
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
		c.Attester = c.Attester.(*sim.Attester).WithFaults(sim.Faults{Expiry: time.Now().Add(32 * time.Second)})
		c.Attestation = server.Attestation{Reattest: time.Hour, Grace: time.Minute}
	})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	c, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")})
	c.subscribe("plant/1")
	Await(t, "a round", func() bool { return strings.Contains(g.log.String(), attestedAgain) })
	c.works("plant/1")
}

// TestTurnsBad: a broker that comes to be what the bundle does not allow is left, and clients are told.
func TestTurnsBad(t *testing.T) {
	t.Parallel()
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
		c.Attestation = server.Attestation{Reattest: time.Hour, Grace: time.Minute}
	})
	g := run(t, gateway.Config{Dial: to(b.bundle), Watch: 50 * time.Millisecond}) // that bundle names the configuration
	c, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")})
	old, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("d")})
	Await(t, "a round", func() bool { return strings.Contains(g.log.String(), attestedAgain) })
	b.reload(t, everybody(t, "another/#"))
	c.expectDisconnect(mqtt.NotAuthorized)
	old.expectDisconnect(mqtt.NotAuthorized)
	Await(t, "the log to say so", func() bool {
		return strings.Contains(g.log.String(), "broker REFUSED") && strings.Contains(g.log.String(), "on a connection that stood")
	})
}

// TestRenewedBundle: connections that stand are judged by a renewed bundle, at once.
func TestRenewedBundle(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	renewed := make(chan struct{})
	var fresh atomic.Pointer[client.Bundle]
	fresh.Store(b.bundle)
	g := run(t, gateway.Config{Dial: to(b.bundle), Renewed: renewed, Reappraise: func(conn *atls.Conn) *client.Verdict {
		return fresh.Load().Reappraise(conn, client.Options{})
	}})
	c, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("c")})
	c.subscribe("plant/1")
	renewed <- struct{}{}
	renewed <- struct{}{} // the first has been seen to
	c.works("plant/1")
	identity := b.bundle.Policy.Identities()[0]
	identity.Modules = []attest.Digest{{1}}
	stricter := *b.bundle
	stricter.Policy = Must(policy.New([]policy.Identity{identity}, nil))(t)
	fresh.Store(&stricter)
	renewed <- struct{}{}
	c.expectDisconnect(mqtt.NotAuthorized)
}

// TestKeepAliveOfTheBroker: a client of 3.1.1 cannot be told that the broker wants to hear from it, and stays.
func TestKeepAliveOfTheBroker(t *testing.T) {
	t.Parallel()
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) { c.Limits.Core.MaxKeepAlive = 4 })
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	c, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("c")})
	silent, _ := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("d")})
	c.subscribe("plant/1")
	silent.expectDisconnect(mqtt.KeepAliveTimeout) // which shows that so much time has passed
	c.works("plant/1")
	c.send(mqtt.AppendPingreq(nil))
	c.expect(mqtt.PINGRESP)
}

// TestTooLarge: what the broker would not take ends the connection here.
func TestTooLarge(t *testing.T) {
	b := startChanged(t, server.DevelopmentOptions{}, func(c *server.Config) {
		c.Limits.Core.MaxPacketSize, c.Limits.Transport.MaxPacketSize = 1000, 1000
	})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	for _, v := range versions {
		c, _ := talk(t, g.addr, &mqtt.Connect{Version: v, CleanStart: true, ClientID: []byte("c")})
		c.send(mqtt.AppendPublish(nil, v, &mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 100_000)}))
		c.expectDisconnect(mqtt.PacketTooLarge)
	}
}

// TestSessions: a session of MQTT 3.1.1 that is to outlive its connection does, and one that is not does not.
func TestSessions(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	for _, step := range []struct {
		clean, present bool
		topic          string
	}{{false, false, "plant/1"}, {false, true, ""}, {true, false, ""}, {false, false, ""}} {
		c, ack := talk(t, g.addr, &mqtt.Connect{Version: mqtt.V311, CleanStart: step.clean, ClientID: []byte("c")})
		if ack.SessionPresent != step.present {
			t.Errorf("%+v: session present %v", step, ack.SessionPresent)
		}
		if step.topic != "" {
			c.subscribe(step.topic)
		}
		if step.present {
			c.works("plant/1")
		}
		c.send(mqtt.AppendDisconnect(nil, mqtt.V311, 0, nil))
		c.next()
	}
}
