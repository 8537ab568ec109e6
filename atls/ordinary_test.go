package atls_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// TestClientCertificates: ordinary clients may show one; attested connections never ask, since that would move
// the ticket out of the first flight.
func TestClientCertificates(t *testing.T) {
	r := newRig(t)
	r.server.ClientAuth, r.server.ClientCAs = tls.VerifyClientCertIfGiven, r.ca.Pool()
	addr, outcomes := start(t, r.server)

	key := Must(owner.NewKey())(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "device 7"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der := Must(x509.CreateCertificate(rand.Reader, template, r.ca.Certificate(), &key.PublicKey, r.ca.Key()))(t)
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}

	for name, shown := range map[string]int{service: 1, label([32]byte{1}) + ".x1." + service: 0} {
		asked := false
		c, err := r.dialRogue(t, addr, name, func(config *tls.Config) {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return &certificate, nil
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if name != service {
			c.Write(frameOf(nil))
		}
		server := Receive(t, outcomes)
		if server.err != nil || len(server.conn.Peer().Certificates) != shown || asked != (shown == 1) {
			t.Errorf("%s: asked %v, %+v", name, asked, server)
		}
	}
}

// TestDataWithTheTicket: what a server says first is not lost, even if it arrives together with the ticket.
func TestDataWithTheTicket(t *testing.T) {
	r := newRig(t)
	rogue := r.rogue() // it attests, and speaks before it has read the client's frame
	rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
		claims := claimsFor(t, attest.RoleServer, name, r.leafKey, &cs, brokerIdentity)
		return ticketOf(Must(attest.Make(testContext(t), sim.NewAttester(r.tee, attest.Digest{1}), attest.PurposeConnection, claims, zeros{}))(t))
	}
	rogue.speak = func(c *tls.Conn) { c.Write([]byte("hello")) }
	addr, _ := rogue.serve(t)
	// A hop that holds the ticket's record back until the next one has come.
	hop := serve(t, func(client net.Conn) {
		server := Must(net.Dial("tcp", addr))(t)
		defer server.Close()
		go func() { io.Copy(server, client); server.Close() }()
		var held []byte
		for {
			record := make([]byte, 5, 5+17000)
			if _, err := io.ReadFull(server, record); err != nil {
				return
			}
			record = record[:5+int(binary.BigEndian.Uint16(record[3:]))]
			if _, err := io.ReadFull(server, record[5:]); err != nil {
				return
			}
			if held = append(held, record...); len(record) < 10000 {
				client.Write(held)
				held = nil
			}
		}
	})
	c, err := dial(t, hop, r.client)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}
