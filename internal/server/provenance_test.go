package server_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// stamped gathers messages with their user properties, as "topic=payload name:value,...".
type stamped struct {
	mu   sync.Mutex
	list []string
}

func (s *stamped) add(p paho5.PublishReceived) (bool, error) {
	var user []string
	for _, u := range p.Packet.Properties.User {
		user = append(user, u.Key+":"+u.Value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, p.Packet.Topic+"="+string(p.Packet.Payload)+" "+strings.Join(user, ","))
	return true, nil
}

func (s *stamped) await(t testing.TB, message string) {
	t.Helper()
	Await(t, message, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.list {
			if m == message {
				return true
			}
		}
		return false
	})
}

// paho connects with Paho's library for MQTT 5. Messages go to in, which may be nil.
func paho(t testing.TB, conn net.Conn, connect *paho5.Connect, in *stamped) *paho5.Client {
	t.Helper()
	config := paho5.ClientConfig{ClientID: connect.ClientID, Conn: packets.NewThreadSafeConn(conn)}
	if in != nil {
		config.OnPublishReceived = append(config.OnPublishReceived, in.add)
	}
	c := paho5.NewClient(config)
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.Connect(ctx, connect); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho5.Disconnect{}) })
	return c
}

func sendStamped(t testing.TB, c *paho5.Client, topic, payload string, qos byte, user ...string) {
	t.Helper()
	p := &paho5.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: strings.HasSuffix(topic, "kept"), Properties: new(paho5.PublishProperties)}
	for ; len(user) > 1; user = user[2:] {
		p.Properties.User.Add(user[0], user[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if _, err := c.Publish(ctx, p); err != nil {
		t.Fatal(err)
	}
}

// Subscribers learn from the broker who has published, and from nobody else, whatever clients try.
func TestProvenance(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			r := startStanding(t, func(c *server.Config) {
				if c.Engine = kind; kind == server.Wasm {
					c.Module = moduletest.Broker(t)
				}
			})
			in, ctx := new(stamped), context.Background()
			subscriber := paho(t, dial["plain"](t, r.rig), &paho5.Connect{ClientID: "s", CleanStart: true, KeepAlive: 30}, in)
			if _, err := subscriber.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "in/#", QoS: 1}}}); err != nil {
				t.Fatal(err)
			}
			const stamp = "vouchmq-publisher-identity:device,vouchmq-publisher-platform:sim,vouchmq-publisher-module:"
			mark := stamp + deviceModule.String()
			device := paho(t, r.dial(r.readBundle(t), true), &paho5.Connect{ClientID: "d", CleanStart: true, KeepAlive: 30}, nil)
			for qos := range byte(3) {
				sendStamped(t, device, "in/1", string('0'+qos), qos)
				in.await(t, "in/1="+string('0'+qos)+" "+mark)
			}
			sendStamped(t, device, "in/1", "forged", 1, "vouchmq-publisher-identity", "boss", "own", "word")
			in.await(t, "in/1=forged own:word,"+mark)
			sendStamped(t, device, "in/kept", "kept", 1)

			for name, conn := range map[string]net.Conn{"plain": dial["plain"](t, r.rig), "bundle": r.dial(r.readBundle(t), false)} {
				nobody := paho(t, conn, &paho5.Connect{
					ClientID: name, CleanStart: true, KeepAlive: 30,
					WillMessage:    &paho5.WillMessage{Topic: "in/will", Payload: []byte(name)},
					WillProperties: &paho5.WillProperties{User: paho5.UserProperties{{Key: "VOUCHMQ-publisher-identity", Value: "device"}, {Key: "a", Value: "b"}}},
				}, nil)
				for qos := range byte(3) {
					sendStamped(t, nobody, "in/"+name, string('0'+qos), qos, "vouchmq-publisher-identity", "device", "Vouchmq-Publisher-Module", "x", "c", "d")
					in.await(t, "in/"+name+"="+string('0'+qos)+" c:d")
				}
				_ = nobody.Disconnect(&paho5.Disconnect{ReasonCode: 4}) // with will
				in.await(t, "in/will="+name+" a:b")
			}

			late := new(stamped)
			l := paho(t, dial["plain"](t, r.rig), &paho5.Connect{ClientID: "l", CleanStart: true, KeepAlive: 30}, late)
			if _, err := l.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: "in/kept"}}}); err != nil {
				t.Fatal(err)
			}
			late.await(t, "in/kept=kept "+mark)
		})
	}
}

// On a listener that asks for passwords the method of re-attestation does not let anybody around them.
func TestReattestationAndPasswords(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte(hashed(t, "alice", "right")), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startStanding(t, func(c *server.Config) {
		c.Authentication = &auth.Config{Sources: []auth.Source{{Passwords: &auth.Passwords{File: users}}}}
	})
	for password, want := range map[string]byte{"right": 0, "wrong": byte(mqtt.BadUserNameOrPassword)} {
		c := &raw{t, r.dial(r.readBundle(t), true)}
		c.send(&packets.Connect{
			ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: password, CleanStart: true,
			UsernameFlag: true, Username: "alice", PasswordFlag: true, Password: []byte(password),
			Properties: &packets.Properties{AuthMethod: "VOUCHMQ-ATTEST-1"},
		})
		ack, ok := c.receive().Content.(*packets.Connack)
		if !ok || ack.ReasonCode != want {
			t.Errorf("password %s: %v", password, ack)
		}
	}
	c := &raw{t, r.dial(r.readBundle(t), true)}
	if _, reason := c.connect("nobody", "VOUCHMQ-ATTEST-1", nil); reason != byte(mqtt.NotAuthorized) {
		t.Errorf("without a password: CONNACK 0x%02x", reason)
	}
}
