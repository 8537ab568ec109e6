package atls_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The checker of wire_test.go on protocols that leak on purpose, each in one way that others have been built in. What it
// finds there it would find here.

// TestLeakyName: the nonce in a server name that is in clear.
func TestLeakyName(t *testing.T) {
	r := newRig(t)
	addr, _ := start(t, r.server)
	name := label([32]byte{9}) + ".n1." + service
	c := r.hello(t, addr, &tls.Config{ServerName: name, NextProtos: []string{"mqtt"}})
	wantLeaks(t, leaks(c), "label of the nonce", "service name", "carrier n1")
}

// TestLeakyProtocol: an ALPN protocol of one's own.
func TestLeakyProtocol(t *testing.T) {
	r := newRig(t)
	addr, _ := start(t, r.server)
	c := r.hello(t, addr, &tls.Config{
		ServerName: label([32]byte{9}) + ".n1." + service, NextProtos: []string{"vouchmq-attest/1"}, EncryptedClientHelloConfigList: r.client.ECHConfigList,
	})
	wantLeaks(t, leaks(c), "word attest", "word vouch")
}

// TestLeakyPadding: a ticket as long as its evidence.
func TestLeakyPadding(t *testing.T) {
	r := newRig(t)
	ordinary := r.ordinaryCapture(t)
	rogue := r.leakyServer()
	rogue.ticket = func(string, tls.ConnectionState) []byte { return make([]byte, 3000) }
	if shapesDiffer(t, ordinary, r.captureLeaky(t, rogue)) == nil {
		t.Error("the size of the ticket was not seen")
	}
	// The control of this control: with the padding there is no difference.
	rogue.ticket = func(string, tls.ConnectionState) []byte { return ticketOf(make([]byte, 3000)) }
	if err := shapesDiffer(t, ordinary, r.captureLeaky(t, rogue)); err != nil {
		t.Errorf("a padded ticket looks different: %v", err)
	}
}

// TestLeakyCertificate: evidence in an extension of the certificate (id-pe-cmw, RFC 9999). TLS 1.3 encrypts it, and its
// size tells; TLS 1.2 does not even do that.
func TestLeakyCertificate(t *testing.T) {
	r := newRig(t)
	ordinary := r.ordinaryCapture(t)
	rogue := r.leakyServer()
	evidence := r.anyEvidence(t)
	rogue.certificate.Certificate = [][]byte{r.leafWith(t, evidence)}
	rogue.ticket = func(string, tls.ConnectionState) []byte { return ticketOf(nil) }
	if shapesDiffer(t, ordinary, r.captureLeaky(t, rogue)) == nil {
		t.Error("the size of the certificate was not seen")
	}
	rogue.maxVersion = tls.VersionTLS12
	addr, _ := rogue.serve(t)
	c := r.hello(t, addr, &tls.Config{ServerName: publicName, NextProtos: []string{"mqtt"}, MaxVersion: tls.VersionTLS12})
	c.secrets["evidence"] = evidence[:64]
	wantLeaks(t, leaks(c), "evidence", "module digest", "object identifier of evidence in certificates", "word vouch")
}

func wantLeaks(t *testing.T, found []string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(found, func(f string) bool { return strings.HasSuffix(f, w) }) {
			t.Errorf("the checker does not find: %s; it found %q", w, found)
		}
	}
}

// hello captures a handshake with some configuration, whatever comes of it.
func (r *rig) hello(t *testing.T, addr string, config *tls.Config) *capture {
	t.Helper()
	raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(Patience))
	config.RootCAs = r.ca.Pool()
	_ = tls.Client(raw, config).Handshake()
	n := [32]byte{9}
	c := &capture{secrets: map[string][]byte{
		"label of the nonce": []byte(label(n)), "service name": []byte("." + service), "carrier n1": []byte(".n1."),
		"module digest": brokerIdentity.Module[:], "object identifier of evidence in certificates": cmwOID(t),
	}}
	c.toServer, c.back = raw.seen()
	if !bytes.Contains(c.toServer, []byte("example")) {
		t.Error("control: not even the name of a server is seen, so the tap sees nothing")
	}
	return c
}

var idPeCMW = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}

func cmwOID(t testing.TB) []byte { return Must(asn1.Marshal(idPeCMW))(t) }

// ordinaryCapture is a connection to the real server that asks for no evidence.
func (r *rig) ordinaryCapture(t *testing.T) *capture {
	t.Helper()
	addr, outcomes := start(t, r.server)
	plain := *r
	plain.client.Unattested, plain.client.Server = true, nil
	return plain.capture(t, addr, outcomes)
}

// leakyServer answers as much as the application of capture says.
func (r *rig) leakyServer() *rogueServer {
	rogue := r.rogue()
	rogue.speak = func(c *tls.Conn) { io.ReadFull(c, make([]byte, 4+64)); c.Write(make([]byte, 64)) }
	return rogue
}

// captureLeaky is a connection of a real client to a leaky server.
func (r *rig) captureLeaky(t *testing.T, rogue *rogueServer) *capture {
	t.Helper()
	addr, _ := rogue.serve(t)
	raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
	config := r.client
	config.Unattested, config.Server = true, nil
	conn := Must(atls.Client(testContext(t), raw, &config))(t)
	defer conn.Close()
	conn.Write(make([]byte, 64))
	if _, err := io.ReadFull(conn, make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	c := &capture{}
	c.toServer, c.back = raw.seen()
	return c
}

// anyEvidence is evidence of the broker, for some connection.
func (r *rig) anyEvidence(t *testing.T) []byte {
	claims := &attest.Claims{Identity: brokerIdentity}
	claims.Role, claims.Phase, claims.Service = attest.RoleServer, attest.PhaseConnect, service
	return Must(attest.Make(testContext(t), sim.NewAttester(r.tee, attest.Digest{1}), attest.PurposeConnection, claims, zeros{}))(t)
}

// leafWith is a certificate for the broker's key, with evidence in it.
func (r *rig) leafWith(t *testing.T, evidence []byte) []byte {
	old := Must(x509.ParseCertificate(r.server.Certificate.Certificate[0]))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: service}, DNSNames: old.DNSNames, NotBefore: old.NotBefore, NotAfter: old.NotAfter,
		ExtraExtensions: []pkix.Extension{{Id: idPeCMW, Value: Must(asn1.Marshal(evidence))(t)}},
	}
	return Must(x509.CreateCertificate(rand.Reader, template, r.ca.Certificate(), &r.leafKey.PublicKey, r.ca.Key()))(t)
}
