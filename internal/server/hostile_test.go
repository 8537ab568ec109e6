package server_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	paho5 "github.com/eclipse/paho.golang/paho"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// overWebSocket speaks MQTT in WebSocket frames.
func (r *keptRig) overWebSocket() net.Conn {
	r.t.Helper()
	transport := new(http.Transport)
	c, _, err := websocket.Dial(context.Background(), "ws://"+r.Addr("web").String()+"/mqtt", &websocket.DialOptions{
		Subprotocols: []string{"mqtt"}, HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	transport.CloseIdleConnections()
	c.SetReadLimit(-1)
	return websocket.NetConn(context.Background(), c, websocket.MessageBinary)
}

func TestLoginOverWebSocket(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords, map[string]string{"users": hashed(t, "alice", "a") + verifier(t, "alice", "a")})
	for version, enter := range enter {
		got, c := enter(t, r.overWebSocket(), entrant{"c", "alice", "a"})
		if got != 0 {
			t.Fatalf("%s: code 0x%02x", version, got)
		}
		in := new(inbox)
		c.subscribe(t, "users/alice/#", 1, in)
		c.publish(t, "users/alice/x", version, 1, false)
		Await(t, "the message", func() bool { return in.has("users/alice/x=" + version + " q1 rfalse") })
		c.close()
		if got, _ := enter(t, r.overWebSocket(), entrant{"c", "alice", "wrong"}); got != codeVersion[version](bad) {
			t.Errorf("%s: code 0x%02x for a wrong password", version, got)
		}
	}
	c, ack := scramClient(t, r.overWebSocket(), &scramAuther{user: "alice", password: "a"}, scramMethod)
	if ack.ReasonCode != 0 {
		t.Fatalf("SCRAM: code 0x%02x", ack.ReasonCode)
	}
	c.close()
}

// Who says nothing, half of something, or one byte after the other, before he is in, disturbs nobody: half-open TLS,
// WebSocket, PROXY and CONNECT, and answers that nobody reads. Each is ended when its time is up.
func TestHalfOpenLogins(t *testing.T) {
	const config = withPasswords + "limits: { handshake_timeout: 4s, connect_timeout: 4s, max_connections: 200 }\n"
	r := startLogins(t, usual(), config, map[string]string{"users": hashed(t, "alice", "a")})
	connect := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("slow"),
		HasUsername: true, Username: []byte("alice"), HasPassword: true, Password: []byte("a")})
	starts := map[string][]byte{
		"plain": connect[:len(connect)-1], "tls": {0x16, 3, 1, 2, 0, 1}, "secure": {0x16, 3, 1}, "web": []byte("GET /mqtt HTTP/1.1\r\nHost: x\r\nX-Slow: "),
		"proxied": []byte("PROXY TCP4 203.0.113.7"),
	}
	var open []net.Conn
	for listener, start := range starts {
		for i := range 20 {
			conn, err := net.Dial("tcp", r.Addr(listener).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if i%2 == 0 {
				write(t, conn, start)
			}
			open = append(open, conn)
		}
	}
	stop := make(chan struct{})
	defer close(stop)
	go trickle(r.Addr("plain").String(), connect, stop)
	for range 10 {
		r.tries("plain", entrant{"c", "alice", "a"}, letIn)
		r.tries("tls", entrant{"c", "alice", "a"}, letIn)
	}
	for _, conn := range open {
		end(t, conn)
	}
	Await(t, "the ends", func() bool { return r.serverConnections() == 0 })
	r.tries("plain", entrant{"c", "alice", "a"}, letIn)
	if n := stats(t, r.rig).Engine.Restarts; n != 0 {
		t.Errorf("the core was restarted %d times", n)
	}
}

// trickle writes a packet one byte after the other, so slowly that the time to connect is up before.
func trickle(address string, packet []byte, stop chan struct{}) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	for _, b := range packet {
		select {
		case <-stop:
			return
		case <-time.After(400 * time.Millisecond):
		}
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
	}
}

// A client that sends much behind its CONNECT, without waiting, gets it judged after the login: all of it if it is let
// in, nothing if it is not.
func TestPipelinedBehindTheLogin(t *testing.T) {
	for _, kind := range engines() {
		t.Run(string(kind), func(t *testing.T) {
			r := startLogins(t, kind, withPasswords, map[string]string{"users": hashed(t, "alice", "a")})
			_, watcher := enter5(t, r.dial("plain"), entrant{"watcher", "alice", "a"})
			if watcher == nil {
				t.Fatal("not let in")
			}
			defer watcher.close()
			in := new(inbox)
			watcher.subscribe(t, "users/alice/#", 1, in)
			for _, password := range []string{"wrong", "a"} {
				stream := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("quick"),
					HasUsername: true, Username: []byte("alice"), HasPassword: true, Password: []byte(password)})
				for i := range 100 {
					stream = mqtt.AppendPublish(stream, mqtt.V5, &mqtt.Publish{Topic: fmt.Appendf(nil, "users/alice/%s/%d", password, i), Payload: []byte("x")})
				}
				conn := r.dial("plain")
				write(t, conn, append(stream, 0xE0, 0))
				got := end(t, conn)
				_ = conn.Close()
				if want := map[string]byte{"wrong": 0x86, "a": 0}[password]; len(got) < 4 || got[0] != 0x20 || got[3] != want {
					t.Errorf("%s: answer % x", password, got)
				}
			}
			Await(t, "the last message", func() bool { return in.has("users/alice/a/99=x q0 rfalse") })
			in.mu.Lock()
			defer in.mu.Unlock()
			if len(in.list) != 100 || strings.Contains(strings.Join(in.list, " "), "wrong") {
				t.Errorf("%d messages: %v", len(in.list), in.list)
			}
		})
	}
}

// Somebody who asks for much and never reads, from before the login on, holds up nobody.
func TestClientThatNeverReads(t *testing.T) {
	r := startLogins(t, server.Native, withPasswords+"limits: { soft_backlog: 4096, hard_backlog: 65536, stall_timeout: 200ms }\n",
		map[string]string{"users": hashed(t, "alice", "a")})
	deaf := r.dial("plain")
	defer deaf.Close()
	stream := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("deaf"),
		HasUsername: true, Username: []byte("alice"), HasPassword: true, Password: []byte("a")})
	subscribe := mqtt.AppendSubscribe(nil, mqtt.V5, 1, nil, []mqtt.Filter{{Topic: []byte("users/alice/#")}})
	write(t, deaf, append(stream, subscribe...))
	_, c := enter5(t, r.dial("plain"), entrant{"c", "alice", "a"})
	if c == nil {
		t.Fatal("not let in")
	}
	defer c.close()
	payload := string(bytes.Repeat([]byte("x"), 8192))
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for i := 0; stats(t, r.rig).Transport.Stalled == 0; i++ {
		if _, err := c.(*client5).Publish(ctx, &paho5.Publish{Topic: "users/alice/x", Payload: []byte(payload), QoS: 1}); err != nil {
			t.Fatalf("after %d messages: %v", i, err)
		}
	}
	r.tries("tls", entrant{"other", "alice", "a"}, letIn)
}
