package atls_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The cost of a handshake, both ends and the loopback included. Compare:
//
//	go test -bench Handshake -run ^$ ./atls
func BenchmarkHandshakeOrdinary(b *testing.B) {
	r := newRig(b)
	addr := benchServer(b, r)
	for b.Loop() {
		c, err := tls.Dial("tcp", addr, ordinaryTLS(r))
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func BenchmarkHandshakeUnattested(b *testing.B) {
	r := newRig(b)
	r.client.Unattested, r.client.Server = true, nil
	benchDial(b, r)
}

func BenchmarkHandshakeAttested(b *testing.B) { benchDial(b, newRig(b)) }

func BenchmarkHandshakeP1(b *testing.B) {
	r := newRig(b)
	r.client.Carrier = atls.P1
	benchDial(b, r)
}

func BenchmarkHandshakeMutual(b *testing.B) { benchDial(b, newRig(b).mutual(b)) }

func benchDial(b *testing.B, r *rig) {
	addr := benchServer(b, r)
	for b.Loop() {
		c, err := atls.Dial(b.Context(), dialer(addr), &r.client)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func benchServer(b *testing.B, r *rig) string {
	server := Must(atls.NewServer(b.Context(), r.server))(b)
	return serve(b, func(raw net.Conn) {
		if conn, err := server.Handshake(b.Context(), raw); err == nil {
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
}

// The cost of an established connection: 16 KiB records from client to server, against crypto/tls alone.
func BenchmarkStreamOrdinary(b *testing.B) {
	r := newRig(b)
	addr := benchServer(b, r)
	stream(b, Must(tls.Dial("tcp", addr, ordinaryTLS(r)))(b))
}

func BenchmarkStreamAttested(b *testing.B) {
	r := newRig(b).mutual(b)
	addr := benchServer(b, r)
	stream(b, Must(atls.Dial(b.Context(), dialer(addr), &r.client))(b))
}

func stream(b *testing.B, c net.Conn) {
	defer c.Close()
	record := make([]byte, 16<<10)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(record); err != nil {
			b.Fatal(err)
		}
	}
}
