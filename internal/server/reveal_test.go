package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

const (
	secureListener = `name: secure, kind: attested, address: "127.0.0.1:0"`
	authenticated  = secureListener + `, reveal: authenticated, client_certificates: { ca: ca.pem, crl: [clients.crl] }`
)

// with dials the attested listener with a certificate, or without.
func (r *keptRig) with(carrier atls.Carrier, certificate *tls.Certificate) (*atls.Conn, error) {
	conn, _, err := client.Dial(context.Background(), r.readBundle(r.t), client.Options{Carrier: carrier, Certificate: certificate})
	return conn, err
}

// Evidence is for clients with a certificate only. The certificate's name is their user name, by which the rules judge;
// and a revocation ends them.
func TestRevealAuthenticated(t *testing.T) {
	r := startKept(t, server.Native, nil)
	r.edit(secureListener, authenticated)
	r.write("policy.yaml", strings.Replace(readAll(t, r.dir, "policy.yaml"), "{ anonymous: true }, ", "", 1))
	r.reload()
	other, err := owner.New("another CA", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	one, foreign := r.pki.client("one", r.pki.ca), r.pki.client("one", other)
	for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
		for name, certificate := range map[string]*tls.Certificate{"none": nil, "another CA's": &foreign} {
			if conn, err := r.with(carrier, certificate); err == nil {
				conn.Close()
				t.Errorf("%s, %s: evidence was shown", carrier, name)
			} else if !errors.Is(err, attest.ErrTLS) {
				t.Errorf("%s, %s: %v", carrier, name, err)
			}
		}
		conn, err := r.with(carrier, &one)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		hello(t, conn, "one-"+string(carrier))
		listenTo(t, conn, "a/b")
		if carrier == atls.P1 {
			r.pki.revoke(one)
			r.pki.writeList(time.Now().Add(time.Hour))
			r.reload()
			end(t, conn)
			if again, err := r.with(carrier, &one); err == nil {
				again.Close()
				t.Error("a revoked client was shown evidence")
			}
		}
	}
	ordinary, err := tls.Dial("tcp", r.Addr("secure").String(), &tls.Config{RootCAs: owner.Pool(r.readBundle(t).OwnerCA), ServerName: "broker.plant.example"})
	if err != nil {
		t.Fatal("ordinary clients need no certificate, since none is required:", err)
	}
	ordinary.Close()
}

// Who was let in without a certificate is ended when one comes to be needed.
func TestRevealComesToBeAuthenticated(t *testing.T) {
	r := startKept(t, server.Native, nil)
	conn, err := r.with(atls.N1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello(t, conn, "early")
	r.edit(secureListener, authenticated)
	r.reload()
	end(t, conn)
	Await(t, "the log to say what has changed", func() bool { return strings.Contains(r.log.String(), "listener secure") })
}

// A client without ECH is attested to only where the listener says so, which is warned of.
func TestP1WithoutECH(t *testing.T) {
	r := startKept(t, server.Native, nil)
	answer := func() []byte {
		t.Helper()
		name := strings.Repeat("a", 52) + ".p1.broker.plant.example"
		conn, err := tls.Dial("tcp", r.Addr("secure").String(), &tls.Config{RootCAs: owner.Pool(r.readBundle(t).OwnerCA), ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(Patience))
		length := make([]byte, 4)
		if _, err := io.ReadFull(conn, length); err != nil {
			t.Fatal(err)
		}
		return length
	}
	if got := answer(); !bytes.Equal(got, make([]byte, 4)) {
		t.Errorf("evidence of length %x was given outside of ECH", got)
	}
	Await(t, "the log", func() bool { return strings.Contains(r.log.String(), "outside Encrypted Client Hello") })
	if strings.Contains(r.log.String(), "ATTESTATION WITHOUT") {
		t.Error("the log warns of what is not allowed")
	}
	r.edit(secureListener, secureListener+", p1_without_ech: true")
	r.reload()
	r.reload()
	if got := answer(); bytes.Equal(got, make([]byte, 4)) {
		t.Error("no evidence was given where it is allowed")
	}
	if n := strings.Count(r.log.String(), "ATTESTATION WITHOUT ENCRYPTED CLIENT HELLO"); n != 1 {
		t.Errorf("the log warns %d times", n)
	}
}

// The network between sees how large the records of a client are that gets no evidence; see package atls for what
// it sees else. Here it is that a listener is what its file says.
func TestNoEvidenceWithoutCertificate(t *testing.T) {
	r := startKept(t, server.Native, nil)
	r.edit(secureListener, authenticated)
	r.reload()
	raw, err := net.Dial("tcp", r.Addr("secure").String())
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingConn{Conn: raw}
	b := r.readBundle(t)
	if _, _, err := client.Dial(context.Background(), b, client.Options{
		Dial: func(context.Context, string, string) (net.Conn, error) { return counted, nil },
	}); err == nil {
		t.Error("evidence was shown")
	}
	if counted.read > 8000 { // the ticket alone has more
		t.Errorf("the server sent %d bytes", counted.read)
	}
}

type countingConn struct {
	net.Conn
	read int
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read += n
	return n, err
}
