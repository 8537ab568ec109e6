package server_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/server"
)

// The clients of this file speak MQTT by themselves, as fast as a socket takes it.

// hello sends CONNECT and waits for CONNACK.
func hello(t testing.TB, conn net.Conn, id string) {
	t.Helper()
	write(t, conn, mqtt.AppendConnect(nil, &mqtt.Connect{Version: mqtt.V311, CleanStart: true, ClientID: []byte(id)}))
	if ack := expect(t, conn, 4); ack[0] != 0x20 || ack[3] != 0 {
		t.Fatalf("CONNACK is % x", ack)
	}
}

// listenTo subscribes with QoS 0 and waits for SUBACK.
func listenTo(t testing.TB, conn net.Conn, filter string) {
	t.Helper()
	write(t, conn, mqtt.AppendSubscribe(nil, mqtt.V311, 1, nil, []mqtt.Filter{{Topic: []byte(filter)}}))
	if ack := expect(t, conn, 5); ack[0] != 0x90 || ack[4] != 0 {
		t.Fatalf("SUBACK is % x", ack)
	}
}

func write(t testing.TB, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, conn net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// publishPacket is a PUBLISH of QoS 0 with a payload of size bytes that begins with a number.
func publishPacket(topic string, number uint64, size int) []byte {
	payload := make([]byte, size)
	binary.BigEndian.PutUint64(payload, number)
	return mqtt.AppendPublish(nil, mqtt.V311, &mqtt.Publish{Topic: []byte(topic), Payload: payload})
}

// BenchmarkDeliveries is the quick look; `make bench` measures with care.
func BenchmarkDeliveries(b *testing.B) {
	for _, over := range []string{"plain", "attested"} {
		for _, kind := range engines() {
			for _, shape := range []struct {
				name                         string
				publishers, subscribers, all int
			}{{"point-to-point 10:10", 10, 10, 1}, {"fan-in 20:1", 20, 1, 1}, {"fan-out 1:50", 1, 50, 50}} {
				b.Run(fmt.Sprint(over, "/", kind, "/", shape.name), func(b *testing.B) {
					benchmarkDeliveries(b, over, kind, shape.publishers, shape.subscribers, shape.all)
				})
			}
		}
	}
}

// benchmarkDeliveries counts b.N deliveries. each is how many receivers a message has.
func benchmarkDeliveries(b *testing.B, over string, kind server.Engine, publishers, subscribers, each int) {
	r := start(b, kind, func(o *server.DevelopmentOptions) { o.Log = slog.New(slog.DiscardHandler) })
	topic := func(i int) string {
		if each == 1 && subscribers > 1 {
			return fmt.Sprintf("bench/topic/%02d", i)
		}
		return "bench/topic/00"
	}
	packet := publishPacket(topic(0), 0, 64)
	messages := b.N/publishers/each + 1 // of each publisher
	received := messages * publishers * each / subscribers * len(packet)
	var subs, pubs sync.WaitGroup
	for i := range subscribers {
		conn := dial[over](b, r)
		defer conn.Close()
		hello(b, conn, fmt.Sprint("sub", i))
		listenTo(b, conn, topic(i))
		subs.Go(func() {
			buffer := make([]byte, 256<<10)
			for got := 0; got < received; {
				n, err := conn.Read(buffer)
				if err != nil {
					b.Errorf("after %d of %d bytes: %v", got, received, err)
					return
				}
				got += n
			}
		})
	}
	conns := make([]net.Conn, publishers)
	for i := range conns {
		conns[i] = dial[over](b, r)
		defer conns[i].Close()
		hello(b, conns[i], fmt.Sprint("pub", i))
	}
	b.ResetTimer()
	for i, conn := range conns {
		pubs.Go(func() { flood(b, conn, publishPacket(topic(i), 0, 64), messages) })
	}
	pubs.Wait()
	subs.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mdeliveries/s")
}

// flood writes a packet count times, many at a time.
func flood(t testing.TB, conn net.Conn, packet []byte, count int) {
	const at = 200
	var run []byte
	for range at {
		run = append(run, packet...)
	}
	for ; count > 0; count -= at {
		if _, err := conn.Write(run[:min(count, at)*len(packet)]); err != nil {
			t.Error(err)
			return
		}
	}
}
