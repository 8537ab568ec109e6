package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/redact"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
	"github.com/vouchmq/vouchmq/internal/transport"
)

func stats(t testing.TB, r *rig) server.Stats {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := r.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// end reads until the other side closes and returns what came.
func end(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(Patience))
	b, err := io.ReadAll(conn)
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		t.Fatal("the connection was not closed")
	}
	return b
}

// works says whether the broker still serves an honest client.
func works(t testing.TB, r *rig, over string) {
	t.Helper()
	conn := dial[over](t, r)
	defer conn.Close()
	hello(t, conn, fmt.Sprint("honest", rand.Uint64()))
	topic := fmt.Sprint("works/", rand.Uint64())
	listenTo(t, conn, topic)
	packet := publishPacket(topic, 1, 8)
	write(t, conn, packet)
	if got := expect(t, conn, len(packet)); !bytes.Equal(got, packet) {
		t.Fatalf("got % x", got)
	}
}

func TestRandomBytesOnEveryPort(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, kind := range engines() {
		r := start(t, kind, nil)
		for i := range 300 {
			listener := []string{server.PlainListener, server.AttestedListener}[i%2]
			conn, err := net.Dial("tcp", r.Addr(listener).String())
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1+random.IntN(2000))
			for j := range b {
				b[j] = byte(random.Uint32())
			}
			if i%3 == 0 { // a good beginning
				b = append(mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("x")}), b...)
			}
			_, _ = conn.Write(b)
			if i%5 == 0 {
				_ = conn.(*net.TCPConn).CloseWrite()
				end(t, conn)
			}
			_ = conn.Close()
		}
		for over := range dial {
			works(t, r, over)
		}
		Await(t, "the ends", func() bool { return r.serverConnections() == 0 })
		if n := stats(t, r).Engine.Restarts; n != 0 {
			t.Fatalf("the core was restarted %d times", n)
		}
		if !strings.Contains(r.log.String(), "handshake failed") || !strings.Contains(r.log.String(), "reason=") {
			t.Fatal("the log does not say what it saw")
		}
	}
}

func (r *rig) serverConnections() int {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := r.Stats(ctx)
	if err != nil {
		return -1
	}
	return s.Transport.Connections
}

func TestPacketOverTheLimit(t *testing.T) {
	r := start(t, usual(), func(o *server.DevelopmentOptions) { o.Limits.Core.MaxPacketSize = 1000 })
	for over := range dial {
		conn := dial[over](t, r)
		write(t, conn, mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("v5")}))
		write(t, conn, publishPacket("t", 0, 2000))
		got := end(t, conn)
		if !bytes.Contains(got, []byte{0xE0, 0x02, 0x95, 0x00}) && !bytes.Contains(got, []byte{0xE0, 0x01, 0x95}) && !bytes.Contains(got, []byte{0x95}) {
			t.Fatalf("%s: got % x, want a DISCONNECT with reason 0x95", over, got)
		}
		_ = conn.Close()
		works(t, r, over)
	}
}

func TestHalfOpenHandshakes(t *testing.T) {
	r := start(t, server.Native, func(o *server.DevelopmentOptions) { o.Limits.Transport = transport.Limits{MaxHandshakes: 20} })
	var open []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", r.Addr(server.AttestedListener).String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	end(t, open[0])
	for range 20 {
		works(t, r, "attested")
	}
}

func TestQuickConnects(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 connections")
	}
	r := start(t, usual(), nil)
	works(t, r, "plain")
	before := heap()
	for i := range 10_000 {
		conn := dial["plain"](t, r)
		if i%2 == 0 {
			hello(t, conn, "quick")
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // the ports of this machine are few
		_ = conn.Close()
	}
	works(t, r, "plain")
	Await(t, "the ends", func() bool { return r.serverConnections() == 0 })
	if grown := heap() - before; grown > 32<<20 {
		t.Fatalf("memory grew by %d bytes", grown)
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A subscriber that does not read loses its own messages; the other one gets all, and memory stays small.
func TestStalledSubscriber(t *testing.T) {
	for _, kind := range engines() {
		for _, over := range []string{"plain", "attested"} {
			t.Run(string(kind)+"/"+over, func(t *testing.T) {
				r := start(t, kind, func(o *server.DevelopmentOptions) {
					o.Limits.Transport.StallAfter = 2 * time.Second // the other may have to wait for a processor
				})
				stalled, reader, pub := dial[over](t, r), dial[over](t, r), dial[over](t, r)
				defer stalled.Close()
				defer reader.Close()
				defer pub.Close()
				hello(t, stalled, "stalled")
				listenTo(t, stalled, "t")
				hello(t, reader, "reader")
				listenTo(t, reader, "t")
				hello(t, pub, "pub")
				before := heap()
				count := 60_000      // of 1 KiB
				if testing.Short() { // enough for the backlog, and for what the sockets take
					count = 30_000
				}
				packet := publishPacket("t", 0, 1024)
				go flood(t, pub, packet, count)
				expectAll(t, reader, packet, count)
				if grown := heap() - before; grown > 40<<20 {
					t.Errorf("memory grew by %d bytes", grown)
				}
				s := stats(t, r)
				if s.Transport.Stalled != 1 || s.Transport.DroppedQoS0+s.Core.DroppedQoS0 == 0 {
					t.Errorf("transport %+v, core %+v", s.Transport, s.Core)
				}
				if n := strings.Count(r.log.String(), "does not read"); n != 1 {
					t.Errorf("%d log lines say so", n)
				}
			})
		}
	}
}

// expectAll reads count packets like packet.
func expectAll(t testing.TB, conn net.Conn, packet []byte, count int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(3 * Patience))
	buffer := make([]byte, len(packet))
	for i := range count {
		if _, err := io.ReadFull(conn, buffer); err != nil {
			t.Fatalf("after %d of %d messages: %v", i, count, err)
		}
		if !bytes.Equal(buffer, packet) {
			t.Fatalf("message %d is damaged", i)
		}
	}
}

// A flood towards a slow reader is slowed where it comes from: nothing is lost.
func TestFloodLosesNothing(t *testing.T) {
	for _, over := range []string{"plain", "attested"} {
		r := start(t, usual(), func(o *server.DevelopmentOptions) {
			o.Limits.Transport = transport.Limits{SoftBacklog: 64 << 10, StallAfter: time.Minute}
		})
		sub, pub := dial[over](t, r), dial[over](t, r)
		hello(t, sub, "sub")
		listenTo(t, sub, "t")
		hello(t, pub, "pub")
		const count = 200_000
		packet := publishPacket("t", 0, 256)
		go flood(t, pub, packet, count)
		expectAll(t, sub, packet, count)
		if s := stats(t, r); s.Transport.DroppedQoS0+s.Core.DroppedQoS0 != 0 || s.Core.Sent != count {
			t.Errorf("%s: transport %+v, core %+v", over, s.Transport, s.Core)
		}
		_, _ = sub.Close(), pub.Close()
	}
}

func TestGracefulStop(t *testing.T) {
	for _, kind := range bothEngines {
		r := start(t, kind, nil)
		conn5, conn3 := dial["attested"](t, r), dial["plain"](t, r)
		defer conn5.Close()
		defer conn3.Close()
		write(t, conn5, mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V5, CleanStart: true, ClientID: []byte("five")}))
		expect(t, conn5, 3)
		hello(t, conn3, "three")
		plain := r.Addr(server.PlainListener).String()
		stopped := make(chan error)
		go func() { stopped <- r.Shutdown(context.Background()) }()
		if got := end(t, conn5); !bytes.Contains(got, []byte{0x8B}) {
			t.Errorf("an MQTT 5 client got % x, want a DISCONNECT with reason 0x8B", got)
		}
		if got := end(t, conn3); len(got) != 0 {
			t.Errorf("an MQTT 3.1.1 client got % x", got)
		}
		_, _ = conn5.Close(), conn3.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if c, err := net.Dial("tcp", plain); err == nil {
			_ = c.Close()
			t.Error("the listener is still open")
		}
		if _, err := r.Stats(context.Background()); err == nil {
			t.Error("a stopped broker gives statistics")
		}
	}
}

// A client that does not go is cut when the time is over.
func TestStopDoesNotWaitForEver(t *testing.T) {
	r := start(t, server.Native, func(o *server.DevelopmentOptions) {
		o.Limits.Transport = transport.Limits{FlushTimeout: time.Hour, FarewellTimeout: time.Hour}
	})
	conn := dial["plain"](t, r)
	defer conn.Close()
	hello(t, conn, "stays")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.log.String(), "are cut") {
		t.Fatal("the log does not say so")
	}
}

// What the log must say without being asked, and what it must never say.
func TestLog(t *testing.T) {
	shown, err := redact.With(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, server.Native, func(o *server.DevelopmentOptions) { o.Plain, o.Sight.Redact = "0.0.0.0:0", shown })
	conn := dial["plain"](t, r)
	hello(t, conn, "secret-client")
	listenTo(t, conn, "secret/topic")
	packet := mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte("secret/topic"), Payload: []byte("secret payload")})
	write(t, conn, packet)
	expect(t, conn, len(packet))
	_ = conn.Close()
	Await(t, "the end", func() bool { return strings.Contains(r.log.String(), "client disconnected") })
	for _, want := range []string{"SIMULATED TEE", "DEVELOPMENT RULES", "PLAIN LISTENER BEYOND THIS MACHINE", "client connected", shown("secret-client")} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if strings.Contains(r.log.String(), "secret") {
		t.Error("the log has a client id, a topic or a payload")
	}
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, `msg="client `) && !(strings.Contains(line, " address=") && strings.Contains(line, " listener=plain")) {
			t.Errorf("a line does not say where the client came from: %s", line)
		}
	}
}

func TestOrdinaryTLSIsNotDowngraded(t *testing.T) {
	r := start(t, server.Native, nil)
	config := tlsConfig(r)
	config.MaxVersion = tls.VersionTLS12
	if conn, err := tls.Dial("tcp", r.Addr(server.AttestedListener).String(), config); err == nil {
		_ = conn.Close()
		t.Fatal("TLS 1.2 was accepted")
	}
}
