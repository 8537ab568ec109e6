package atls_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// How many round trips a connection takes is counted by what each side needs from the other before it goes on, not by
// time: a hop on the way holds records of the client back.

// hop is a way from client to server that lets the client's first records pass, as many as allowed, and keeps those that
// follow. All of the server passes.
type hop struct {
	passed, held chan int // lengths of the client's records, header not counted
}

// hopTo starts one, for one connection. It ends with the client's connection.
func hopTo(t testing.TB, server string, allowed int) (addr string, h *hop) {
	h = &hop{passed: make(chan int, 64), held: make(chan int, 64)}
	addr = serve(t, func(client net.Conn) {
		onward := Must(net.Dial("tcp", server))(t)
		defer onward.Close()
		go func() {
			io.Copy(client, onward)
			client.Close() // what the server ends is ended
		}()
		for i := 0; ; i++ {
			record, err := readRecord(client)
			if err != nil {
				return
			}
			if i < allowed {
				onward.Write(record)
				h.passed <- len(record) - 5
			} else {
				h.held <- len(record) - 5
			}
		}
	})
	return addr, h
}

// readRecord reads a TLS record with its header.
func readRecord(r io.Reader) ([]byte, error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	record := append(header, make([]byte, binary.BigEndian.Uint16(header[3:]))...)
	_, err := io.ReadFull(r, record[5:])
	return record, err
}

// The client's records before its application may speak: the hello is its first flight; the second is
// ChangeCipherSpec, its certificate with CertificateVerify where one is asked for, and Finished.
const (
	firstFlight        = 1
	secondFlight       = firstFlight + 2
	secondFlightSigned = secondFlight + 2
)

// TestRoundTrips: with n1 the client may speak after one flight of the server, which answers its hello. With p1, or
// where a certificate is asked for, it needs a second one, which answers its Finished; and not a third.
func TestRoundTrips(t *testing.T) {
	for name, test := range map[string]struct {
		carrier       atls.Carrier
		authenticated bool
		needed        int // records of the client that the server must have before the client may speak
	}{
		"n1":                {atls.N1, false, firstFlight},
		"x1":                {atls.X1, false, firstFlight},
		"p1":                {atls.P1, false, secondFlight},
		"n1, authenticated": {atls.N1, true, secondFlightSigned},
		"p1, authenticated": {atls.P1, true, secondFlightSigned},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.client.Carrier, r.client.Unattested = test.carrier, test.carrier == atls.X1
			if r.client.Unattested {
				r.client.Carrier = ""
			}
			if test.authenticated {
				r.authenticated(t)
			}
			addr, _ := start(t, r.server)
			way, h := hopTo(t, addr, test.needed)
			conn, err := dial(t, way, r.client) // the test would hang here, until Patience ends, if more were needed
			if err != nil {
				t.Fatal(err)
			}
			if asked := conn.Peer().CertificateAsked; asked != test.authenticated {
				t.Error("the client says of being asked for a certificate:", asked)
			}
			conn.Close()
			for range test.needed {
				Receive(t, h.passed)
			}
		})
	}
}

// TestEvidenceWaitsForSecondFlight is the other half: without the client's second flight p1 gives no evidence, nor does n1
// where a certificate is asked for. The server makes none before, so that none can be on its way.
func TestEvidenceWaitsForSecondFlight(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"p1":                func(r *rig) { r.client.Carrier = atls.P1 },
		"n1, authenticated": func(r *rig) { r.authenticated(t) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change(r)
			counted := &countingAttester{Attester: r.server.Attester}
			r.server.Attester = counted
			addr, outcomes := start(t, r.server)
			way, h := hopTo(t, addr, firstFlight)
			raw := Must(net.Dial("tcp", way))(t)
			ended := make(chan error, 1)
			go func() {
				_, err := atls.Client(t.Context(), raw, &r.client)
				ended <- err
			}()
			Receive(t, h.held) // ChangeCipherSpec: the client has all of the server's first flight
			raw.Close()
			if err := Receive(t, ended); err == nil {
				t.Error("client accepted a server without evidence")
			}
			if server := Receive(t, outcomes); server.err == nil {
				t.Error("server let a client in that was not heard of again")
			}
			if n := counted.quotes.Load(); n != 1 {
				t.Errorf("%d quotes were made: one is that of the start", n)
			}
		})
	}
}
