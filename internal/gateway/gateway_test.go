package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/gateway"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// TestUnreachable: who is not served is told so in its own version, and the log says why once.
func TestUnreachable(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	b.bundle.Addresses = []string{Nobody(t)}
	g := run(t, gateway.Config{Dial: to(b.bundle), Explain: func(error) string { return "is it running" }})
	for range 2 {
		for _, v := range versions {
			c := connect(t, g.addr)
			c.Write(connectPacket(v, "c"))
			if got := connack(t, c, v); got != mqtt.ServerUnavailable {
				t.Errorf("%s: %v", versionName(v), got)
			}
			atEnd(t, c)
		}
	}
	Await(t, "the reason in the log", func() bool { return strings.Contains(g.log.String(), "broker cannot be reached") })
	if log := g.log.String(); strings.Count(log, "broker cannot be reached") != 1 || !strings.Contains(log, "is it running") {
		t.Error("the log must say once why, and what to do")
	}
}

// TestWrongModule: a broker that runs something else is refused. Nobody gets a byte of the client.
func TestWrongModule(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	wrong := *b.bundle
	identity := b.bundle.Policy.Identities()[0]
	identity.Modules = []attest.Digest{{1}}
	wrong.Policy = Must(policy.New([]policy.Identity{identity}, nil))(t)
	var mu sync.Mutex
	var sent bytes.Buffer
	g := run(t, gateway.Config{Dial: func(ctx context.Context) (net.Conn, *client.Verdict, error) {
		conn, verdict, err := client.Dial(ctx, &wrong, client.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			raw, err := new(net.Dialer).DialContext(ctx, network, address)
			return &counted{raw, &mu, &sent}, err
		}})
		if err == nil {
			t.Error("the wrong module was accepted")
			return conn, verdict, nil
		}
		return nil, verdict, err
	}})
	for v, want := range map[mqtt.Version]mqtt.ReasonCode{mqtt.V31: mqtt.ServerUnavailable, mqtt.V311: mqtt.ServerUnavailable, mqtt.V5: mqtt.NotAuthorized} {
		mu.Lock()
		sent.Reset()
		mu.Unlock()
		c := connect(t, g.addr)
		c.Write(append(connectPacket(v, "c"), make([]byte, 20_000)...)) // more than the gateway reads
		if got := connack(t, c, v); got != want {
			t.Errorf("%s: %v", versionName(v), got)
		}
		mu.Lock()
		// A hello, ChangeCipherSpec, Finished and close_notify: nothing as long as what the client said.
		if n := sent.Len(); n > 4000 {
			t.Errorf("%d bytes went to the broker", n)
		}
		mu.Unlock()
	}
	for _, want := range []string{"verdict=REFUSED", "is not one of the 1 accepted by identity"} {
		Await(t, want+" in the log", func() bool { return strings.Contains(g.log.String(), want) })
	}
}

type counted struct {
	net.Conn
	mu   *sync.Mutex
	sent *bytes.Buffer
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.sent.Write(b)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// TestAwayAndBack: the gateway outlives its broker. That comes back at another port, since its own may be somebody else's by then.
func TestAwayAndBack(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	var address atomic.Value
	address.Store("")
	g := run(t, gateway.Config{Dial: at(b.bundle, func() string { return address.Load().(string) })})
	c := connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c"))
	if got := connack(t, c, mqtt.V5); got != mqtt.Success {
		t.Fatal(got)
	}
	address.Store(Nobody(t))
	b.Shutdown(context.Background())
	if rest, err := io.ReadAll(c); err != nil || mqtt.TypeOf(rest) != mqtt.DISCONNECT {
		t.Errorf("the broker's farewell is % x, %v", rest, err)
	}
	c = connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c"))
	if got := connack(t, c, mqtt.V5); got != mqtt.ServerUnavailable {
		t.Fatal(got)
	}
	address.Store(startBroker(t, server.DevelopmentOptions{Dir: b.State.Dir}).Addr(server.AttestedListener).String())
	c = connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c"))
	if got := connack(t, c, mqtt.V5); got != mqtt.Success {
		t.Fatal(got)
	}
	Await(t, "two lines of the log", func() bool { return strings.Count(g.log.String(), "broker verified") >= 2 })
	if n := strings.Count(g.log.String(), "broker verified"); n != 2 {
		t.Errorf("the log tells %d times, not 2, that the broker was verified", n)
	}
}

// TestComeAndGo: 200 connections, some of them ended by force, leave nothing behind.
func TestComeAndGo(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	var clients sync.WaitGroup
	atOnce := make(chan struct{}, 20)
	for i := range 200 {
		atOnce <- struct{}{}
		clients.Go(func() {
			defer func() { <-atOnce }()
			c, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(Patience))
			v := versions[i%3]
			c.Write(connectPacket(v, fmt.Sprint("client-", i)))
			ack := make([]byte, 4)
			if _, err := io.ReadFull(c, ack); err != nil || ack[0] != 0x20 || ack[3] != 0 {
				t.Errorf("client %d: CONNACK % x, %v", i, ack, err)
			}
			if i%4 == 0 {
				c.(*net.TCPConn).SetLinger(0) // ends with RST
			}
		})
	}
	clients.Wait()
	Await(t, "the broker to have no connection", func() bool { return b.connections(t) == 0 })
	g.stop()
	g.ended(t) // all goroutines have ended, see TestMain, too
}

// TestSlowClient: one that sends a byte now and then is served as long as it keeps to the time for CONNECT, and holds
// up nobody.
func TestSlowClient(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	slow := connect(t, g.addr)
	packet := connectPacket(mqtt.V311, "slow")
	for i, one := range packet {
		slow.Write([]byte{one})
		time.Sleep(5 * time.Millisecond) // the pace of this client
		if i != 8 {
			continue
		}
		quick := connect(t, g.addr)
		quick.Write(connectPacket(mqtt.V5, "quick"))
		if got := connack(t, quick, mqtt.V5); got != mqtt.Success {
			t.Error(got)
		}
	}
	if got := connack(t, slow, mqtt.V311); got != mqtt.Success {
		t.Error(got)
	}
}

func TestTooSlowClient(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial, ConnectTimeout: 100 * time.Millisecond})
	c := connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c")[:5])
	atEnd(t, c)
	if len(came) != 0 {
		t.Error("the broker was dialled")
	}
}

// TestSilentBroker: somebody who accepts and says nothing does not hold a client for ever.
func TestSilentBroker(t *testing.T) {
	silent := listen(t)
	defer silent.Close()
	b := startBroker(t, server.DevelopmentOptions{})
	b.bundle.Addresses = []string{silent.Addr().String()} // nobody accepts: the system does
	g := run(t, gateway.Config{Dial: to(b.bundle), DialTimeout: 100 * time.Millisecond})
	c := connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c"))
	if got := connack(t, c, mqtt.V5); got != mqtt.ServerUnavailable {
		t.Error(got)
	}
}

// TestNotMQTT: what is none is closed, told from each other in the log, and reaches nobody.
func TestNotMQTT(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial})
	for first, want := range map[string]string{
		"GET / HTTP/1.1\r\n":               "HTTP or WebSocket",
		"\x16\x03\x01\x02\x00\x01":         "plain MQTT, and does the TLS itself",
		"\x30\x05\x00\x01abc":              "its first byte is 0x30",
		"\x10\xff\xff\xff\xff\xff":         "does not speak MQTT",
		"\x10\x0c\x00\x04HTTP\x04\x02\x00": "does not speak MQTT",
		"\x10\x01\x00":                     "does not speak MQTT",
	} {
		c := connect(t, g.addr)
		io.WriteString(c, first)
		atEnd(t, c)
		Await(t, want, func() bool { return strings.Contains(g.log.String(), want) })
	}
	if len(came) != 0 {
		t.Error("the broker was dialled")
	}
}

// TestUnknownVersion is the broker's to refuse.
func TestUnknownVersion(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	c := connect(t, g.addr)
	packet := connectPacket(mqtt.V5, "c")
	packet[8] = 6
	c.Write(packet)
	if got := connack(t, c, mqtt.V5); got != mqtt.UnsupportedProtocolVersion {
		t.Error(got)
	}
}

// TestBackPressure: what the broker does not take the client cannot send, and nothing is lost of it.
func TestBackPressure(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial})
	c := connect(t, g.addr)
	sent := connectPacket(mqtt.V5, "c")
	c.Write(sent)
	far := Receive(t, came)
	defer far.Close()
	far.SetReadBuffer(64 << 10)

	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	for range 10_000 { // 640 MB would be taken by a gateway that keeps them
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Write(chunk)
		sent = append(sent, chunk[:n]...)
		if err != nil {
			break
		}
	}
	if len(sent) > 100<<20 {
		t.Fatalf("%d bytes were taken", len(sent))
	}
	c.CloseWrite()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("sent %d bytes, %d came, %v", len(sent), len(got), err)
	}
}

// TestHalfClose: the end of one way leaves the other open, in both directions.
func TestHalfClose(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial})
	packet := connectPacket(mqtt.V5, "c")

	c := connect(t, g.addr)
	c.Write(packet)
	c.CloseWrite()
	far := Receive(t, came)
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, packet) {
		t.Errorf("% x, %v", got, err)
	}
	io.WriteString(far, "answer")
	far.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}

	c = connect(t, g.addr)
	c.Write(packet)
	far = Receive(t, came)
	far.CloseWrite()
	atEnd(t, c)
	io.WriteString(c, "after")
	c.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != string(packet)+"after" {
		t.Errorf("%q, %v", got, err)
	}
	far.Close()
}

// TestBrokerThatStays: one way ended long ago, and the other side does not react.
func TestBrokerThatStays(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial, Grace: 50 * time.Millisecond})
	c := connect(t, g.addr)
	c.Write(connectPacket(mqtt.V5, "c"))
	far := Receive(t, came)
	defer far.Close()
	c.CloseWrite()
	atEnd(t, c)
}

func TestLimit(t *testing.T) {
	dial, came := fake(t)
	g := run(t, gateway.Config{Dial: dial, MaxConnections: 2})
	over := make(chan struct{})
	var echoing sync.WaitGroup
	echoing.Go(func() {
		for {
			select {
			case far := <-came:
				echoing.Go(func() { io.Copy(far, far); far.Close() })
			case <-over:
				return
			}
		}
	})
	defer echoing.Wait()
	defer close(over)
	// served tells of a client that gets an answer, which the gateway has then given a place.
	served := func() (net.Conn, bool) {
		c := connect(t, g.addr)
		c.Write(connectPacket(mqtt.V5, "c"))
		n, _ := c.Read(make([]byte, 1))
		return c, n == 1
	}
	first, ok1 := served()
	second, ok2 := served()
	third, ok3 := served()
	if !ok1 || !ok2 || ok3 {
		t.Errorf("served: %v, %v, %v; want two", ok1, ok2, ok3)
	}
	Await(t, "the limit in the log", func() bool { return strings.Contains(g.log.String(), "limit=2") })
	first.Close()
	Await(t, "a place", func() bool {
		c, ok := served()
		c.Close()
		return ok
	})
	second.Close()
	third.Close()
}

// TestEnd: a gateway that is told to end lets the broker have what has come, and what the broker says then still
// arrives. One that does not react is left.
func TestEnd(t *testing.T) {
	for _, reacts := range []bool{true, false} {
		t.Run(fmt.Sprint("broker reacts ", reacts), func(t *testing.T) {
			dial, came := fake(t)
			grace := Patience
			if !reacts {
				grace = 50 * time.Millisecond
			}
			g := run(t, gateway.Config{Dial: dial, Grace: grace})
			c := connect(t, g.addr)
			packet := connectPacket(mqtt.V5, "c")
			c.Write(packet)
			far := Receive(t, came)
			defer far.Close()
			if _, err := io.ReadFull(far, make([]byte, len(packet))); err != nil {
				t.Fatal(err)
			}
			g.stop()
			if !reacts {
				g.ended(t)
				return
			}
			if rest, err := io.ReadAll(far); err != nil || len(rest) != 0 {
				t.Errorf("% x, %v", rest, err)
			}
			io.WriteString(far, "last words")
			far.Close()
			if got, err := io.ReadAll(c); err != nil || string(got) != "last words" {
				t.Errorf("%q, %v", got, err)
			}
			c.Close()
			g.ended(t)
		})
	}
}

// TestBrokenListener ends the gateway with an error.
func TestBrokenListener(t *testing.T) {
	l := listen(t)
	l.Close()
	dial, _ := fake(t)
	err := gateway.Serve(context.Background(), gateway.Config{Dial: dial, Log: slog.New(slog.DiscardHandler)}, l, listen(t))
	if !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestUnixSocket(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	path := filepath.Join(t.TempDir(), "s")
	g := run(t, gateway.Config{Dial: to(b.bundle)}, Must(transport.ListenUnix(path, 0o600))(t))
	c := Must(net.Dial("unix", path))(t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(Patience))
	c.Write(connectPacket(mqtt.V5, "c"))
	if got := connack(t, c, mqtt.V5); got != mqtt.Success {
		t.Error(got)
	}
	Await(t, "the socket of the client in the log", func() bool { return strings.Contains(g.log.String(), "client=unix:"+path) })
}

// TestLogHasNoPayload: nothing that a client says stands in the log, at any level.
func TestLogHasNoPayload(t *testing.T) {
	b := startBroker(t, server.DevelopmentOptions{})
	g := run(t, gateway.Config{Dial: to(b.bundle)})
	c := connect(t, g.addr)
	packet := mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte("secret-id"),
		HasUsername: true, Username: []byte("secret-user"), HasPassword: true, Password: []byte("secret-password")})
	c.Write(packet)
	connack(t, c, mqtt.V311)
	c.Close()
	g.stop()
	g.ended(t)
	if strings.Contains(g.log.String(), "secret") {
		t.Error("the log tells what a client said")
	}
}
