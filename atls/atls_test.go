package atls_test

import (
	"crypto/tls"
	"io"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// ping sends a message each way.
func ping(t *testing.T, client, server io.ReadWriter) {
	t.Helper()
	for _, pair := range [][2]io.ReadWriter{{client, server}, {server, client}} {
		if _, err := pair[0].Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(pair[1], got); err != nil || string(got) != "ping" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

func TestServerAttests(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	client, err := dial(t, addr, r.client)
	if err != nil {
		t.Fatal(err)
	}
	p := client.Peer()
	if !p.Attested || !slices.Equal(p.Identities, []string{"broker"}) || p.Carrier != atls.N1 {
		t.Errorf("client knows of the server: %+v", p)
	}
	if f := p.Verdict.Facts; f.Identity != brokerIdentity || !f.Simulated() {
		t.Errorf("facts: %+v", f)
	}
	server := admitted(t, outcomes)
	if p := server.Peer(); p.Attested || p.Carrier != atls.N1 || p.ServerName != service || p.TLSVersion != tls.VersionTLS13 {
		t.Errorf("server knows of the client: %+v", p)
	}
	ping(t, client, server)
}

func TestMutual(t *testing.T) {
	r := newRig(t).mutual(t)
	r.server.RequireClientEvidence = true
	addr, outcomes := start(t, r.server)
	client, err := dial(t, addr, r.client)
	if err != nil {
		t.Fatal(err)
	}
	server := admitted(t, outcomes)
	p := server.Peer()
	if !p.Attested || !slices.Equal(p.Identities, []string{"sensor"}) || p.Verdict.Facts.Identity != sensorIdentity {
		t.Errorf("server knows of the client: %+v", p)
	}
	ping(t, client, server)
}

func TestUnattested(t *testing.T) {
	r := newRig(t).mutual(t)
	r.client.Unattested, r.client.Server = true, nil
	addr, outcomes := start(t, r.server)
	client, err := dial(t, addr, r.client)
	if err != nil {
		t.Fatal(err)
	}
	server := Receive(t, outcomes)
	if server.err != nil || server.conn.Peer().Attested || server.conn.Peer().Carrier != atls.X1 || client.Peer().Attested {
		t.Fatalf("%+v", server)
	}
	ping(t, client, server.conn)
}

func TestOrdinaryTLS(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	client, err := tls.Dial("tcp", addr, ordinaryTLS(r))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server := Receive(t, outcomes)
	if server.err != nil || server.conn.Peer().Attested || server.conn.Peer().Carrier != atls.Ordinary || server.conn.Peer().ServerName != service {
		t.Fatalf("%+v", server)
	}
	ping(t, client, server.conn)
}
