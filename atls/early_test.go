package atls_test

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// patientConn does not read on, once the handshake is done, before the server has spoken.
type patientConn struct {
	net.Conn
	writes int
	spoken chan struct{}
}

func (c *patientConn) Write(b []byte) (int, error) { c.writes++; return c.Conn.Write(b) }

func (c *patientConn) Read(b []byte) (int, error) {
	if c.writes == 2 { // the hello, and Finished
		<-c.spoken
	}
	return c.Conn.Read(b)
}

// What a server says right behind its ticket gets lost to nobody and is read once, also where two read at once.
func TestDataBehindTheTicket(t *testing.T) {
	r := newRig(t)
	rogue := r.rogue() // who has the attester, too: an honest server that is in a hurry
	rogue.give(atls.N1, func(name string, cs *tls.ConnectionState) []byte {
		claims := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
		return Must(attest.Make(testContext(t), r.server.Attester, attest.PurposeConnection, claims, zeros{}))(t)
	})
	spoken := make(chan struct{}, 1)
	rogue.speak = func(c *tls.Conn) { c.Write([]byte("ab")); spoken <- struct{}{}; c.CloseWrite() }
	addr, _ := rogue.serve(t)
	for _, readers := range []int{1, 2} {
		raw := Must(net.Dial("tcp", addr))(t)
		conn, err := atls.Client(testContext(t), &patientConn{Conn: raw, spoken: spoken}, &r.client)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		got := ""
		for range readers {
			wg.Go(func() {
				data, err := io.ReadAll(conn)
				mu.Lock()
				defer mu.Unlock()
				if got += string(data); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got != "ab" && !(readers == 2 && got == "ba") {
			t.Errorf("%d readers got %q", readers, got)
		}
		conn.Close()
	}
}
