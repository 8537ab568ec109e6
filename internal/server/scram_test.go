package server_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	paho5 "github.com/eclipse/paho.golang/paho"
	"github.com/xdg-go/scram"

	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const scramMethod = "SCRAM-SHA-256"

// scramAuther is the client's side of SCRAM for paho. It may be used for one authentication after another.
type scramAuther struct {
	user, password string

	mu   sync.Mutex
	talk *scram.ClientConversation
	errs []error
}

// first begins a conversation and returns its first message.
func (a *scramAuther) first(t testing.TB) []byte {
	t.Helper()
	client, err := scram.SHA256.NewClient(a.user, a.password, "")
	if err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.talk = client.NewConversation()
	message, err := a.talk.Step("")
	if err != nil {
		t.Fatal(err)
	}
	return []byte(message)
}

// Authenticate implements paho.Auther.
func (a *scramAuther) Authenticate(in *paho5.Auth) *paho5.Auth {
	a.mu.Lock()
	defer a.mu.Unlock()
	if in.ReasonCode != 0x18 || in.Properties.AuthMethod != scramMethod {
		a.errs = append(a.errs, fmt.Errorf("AUTH 0x%02x with method %q", in.ReasonCode, in.Properties.AuthMethod))
	}
	message, err := a.talk.Step(string(in.Properties.AuthData))
	if err != nil {
		a.errs = append(a.errs, err)
	}
	return &paho5.Auth{ReasonCode: 0x18, Properties: &paho5.AuthProperties{AuthMethod: scramMethod, AuthData: []byte(message)}}
}

// Authenticated implements paho.Auther.
func (a *scramAuther) Authenticated() {}

// believes tells whether the broker has proved that it knows the password too.
func (a *scramAuther) believes(t testing.TB, final []byte) bool {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.errs) > 0 {
		t.Error(a.errs)
	}
	_, err := a.talk.Step(string(final))
	return err == nil && a.talk.Valid()
}

// scramClient connects with SCRAM and returns the CONNACK.
func scramClient(t testing.TB, conn net.Conn, a *scramAuther, method string) (*client5, *paho5.Connack) {
	t.Helper()
	c := newClient5(conn, paho5.ClientConfig{AuthHandler: a})
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	packet := &paho5.Connect{ClientID: "scram-" + a.user, CleanStart: true, KeepAlive: 30,
		Properties: &paho5.ConnectProperties{AuthMethod: method, AuthData: a.first(t)}}
	ack, err := c.Connect(ctx, packet)
	if ack == nil {
		t.Fatal(err)
	}
	return c, ack
}

// again authenticates anew.
func again(t testing.TB, c *client5, a *scramAuther) (*paho5.AuthResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return c.Client.Authenticate(ctx, &paho5.Auth{ReasonCode: 0x19,
		Properties: &paho5.AuthProperties{AuthMethod: scramMethod, AuthData: a.first(t)}})
}

// [MQTT-4.12.0-2] [MQTT-4.12.0-5]
func TestSCRAM(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			r := startLogins(t, kind, withPasswords, map[string]string{
				"users": verifier(t, "alice", "pencil") + hashed(t, "bob", "b") + verifier(t, "carol", "c"),
			})
			alice := &scramAuther{user: "alice", password: "pencil"}
			c, ack := scramClient(t, r.dial("tls"), alice, scramMethod)
			if ack.ReasonCode != 0 || ack.Properties.AuthMethod != scramMethod || !alice.believes(t, ack.Properties.AuthData) {
				t.Fatalf("CONNACK %+v %+v", ack, ack.Properties)
			}
			defer c.close()
			in := new(inbox)
			c.subscribe(t, "users/alice/#", 1, in)
			for range 2 {
				if response, err := again(t, c, alice); err != nil || !response.Success {
					t.Fatalf("response %+v, error %v", response, err)
				}
			}
			c.publish(t, "users/alice/x", "m", 1, false)
			Await(t, "the message", func() bool { return in.has("users/alice/x=m q1 rfalse") })

			for name, a := range map[string]*scramAuther{
				"wrong password": {user: "alice", password: "pen"}, "no verifier": {user: "bob", password: "b"}, "nobody": {user: "mallory", password: "x"},
			} {
				if _, ack := scramClient(t, r.dial("plain"), a, scramMethod); ack.ReasonCode != 0x86 {
					t.Errorf("%s: code 0x%02x", name, ack.ReasonCode)
				}
			}
			if _, ack := scramClient(t, r.dial("plain"), alice, "SCRAM-SHA-1"); ack.ReasonCode != 0x8C {
				t.Errorf("unknown method: code 0x%02x", ack.ReasonCode)
			}
		})
	}
}

// Who authenticates anew must know the password, and stay the same user.
func TestSCRAMAgainAsSomebodyElse(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords, map[string]string{"users": verifier(t, "alice", "pencil") + verifier(t, "carol", "c")})
	for name, other := range map[string]struct{ user, password string }{"wrong password": {"alice", "pen"}, "another user": {"carol", "c"}} {
		a := &scramAuther{user: "alice", password: "pencil"}
		c, ack := scramClient(t, r.dial("plain"), a, scramMethod)
		if ack.ReasonCode != 0 {
			t.Fatalf("%s: code 0x%02x", name, ack.ReasonCode)
		}
		a.mu.Lock()
		a.user, a.password = other.user, other.password
		a.mu.Unlock()
		if response, err := again(t, c, a); err == nil && (response.Success || response.ReasonCode != 0x87) {
			t.Errorf("%s: response %+v", name, response)
		}
		<-c.Done()
	}
	Await(t, "the log to say so", func() bool { return strings.Contains(r.log.String(), "user name is not that of SCRAM") })
}

// The method goes with the password file, and comes with it.
func TestSCRAMIsReloaded(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords, map[string]string{"users": verifier(t, "alice", "pencil")})
	r.edit("sources: [{ passwords: { file: users } }]", "sources: [{ certificate: {} }]")
	r.reload()
	alice := &scramAuther{user: "alice", password: "pencil"}
	if _, ack := scramClient(t, r.dial("plain"), alice, scramMethod); ack.ReasonCode != 0x8C {
		t.Errorf("without a password file: code 0x%02x", ack.ReasonCode)
	}
	r.edit("sources: [{ certificate: {} }]", "sources: [{ passwords: { file: users } }]")
	r.reload()
	c, ack := scramClient(t, r.dial("plain"), alice, scramMethod)
	if ack.ReasonCode != 0 {
		t.Fatalf("with it again: code 0x%02x", ack.ReasonCode)
	}
	c.close()
}
