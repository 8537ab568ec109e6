package atls_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// issueClient makes a certificate for a client.
func issueClient(t testing.TB, ca *owner.CA, name string) *tls.Certificate {
	t.Helper()
	key := Must(owner.NewKey())(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x7654321), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der := Must(x509.CreateCertificate(rand.Reader, template, ca.Certificate(), &key.PublicKey, ca.Key()))(t)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// authenticated makes the server show its evidence to clients with a certificate only, and gives the client one.
func (r *rig) authenticated(t testing.TB) *rig {
	r.server.Reveal, r.server.ClientCAs = atls.RevealAuthenticated, r.ca.Pool()
	r.client.Certificate = issueClient(t, r.ca, "device 7")
	return r
}

// TestCarriers: both ends attest, by every carrier, whether the server wants a certificate before or not.
func TestCarriers(t *testing.T) {
	for _, carrier := range []atls.Carrier{"", atls.N1, atls.P1} {
		for _, reveal := range []atls.Reveal{"", atls.RevealFirst, atls.RevealAuthenticated} {
			t.Run(string(carrier)+"/"+string(reveal), func(t *testing.T) {
				r := newRig(t).mutual(t)
				r.server.RequireClientEvidence, r.client.Carrier = true, carrier
				shown := 0
				if reveal == atls.RevealAuthenticated {
					r.authenticated(t)
					shown = 1
				}
				r.server.Reveal = reveal
				addr, outcomes := start(t, r.server)
				client, err := dial(t, addr, r.client)
				if err != nil {
					t.Fatal(err)
				}
				server := admitted(t, outcomes)
				if carrier == "" {
					carrier = atls.N1
				}
				if p := client.Peer(); !p.Attested || !slices.Equal(p.Identities, []string{"broker"}) || p.Carrier != carrier || p.ServerName != service {
					t.Errorf("client knows of the server: %+v", p)
				}
				if p := server.Peer(); !p.Attested || !slices.Equal(p.Identities, []string{"sensor"}) || p.Carrier != carrier || len(p.Certificates) != shown {
					t.Errorf("server knows of the client: %+v", p)
				}
				ping(t, client, server)
			})
		}
	}
}

// TestClientConfig: what does not go together is said before anybody is called.
func TestClientConfig(t *testing.T) {
	for text, change := range map[string]func(*atls.ClientConfig){
		`carrier "x1" is neither n1 nor p1`:               func(c *atls.ClientConfig) { c.Carrier = atls.X1 },
		`carrier "n2" is neither`:                         func(c *atls.ClientConfig) { c.Carrier = "n2" },
		`carrier "p1" is given, and no evidence is to be`: func(c *atls.ClientConfig) { c.Carrier, c.Unattested = atls.P1, true },
		`no policy for the server`:                        func(c *atls.ClientConfig) { c.Server = nil },
	} {
		r := newRig(t)
		change(&r.client)
		a, b := net.Pipe()
		defer b.Close()
		if _, err := atls.Client(testContext(t), a, &r.client); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

func TestServerConfig(t *testing.T) {
	for text, change := range map[string]func(*atls.ServerConfig){
		"needs the CA of clients' certificates": func(c *atls.ServerConfig) { c.Reveal = atls.RevealAuthenticated },
		`reveal "last" is neither`:              func(c *atls.ServerConfig) { c.Reveal = "last" },
		"needs an ECH key":                      func(c *atls.ServerConfig) { c.ECHKeys = nil },
	} {
		r := newRig(t)
		change(&r.server)
		if _, err := atls.NewServer(testContext(t), r.server); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
}

// way is evidence as it came by one carrier, what it must be bound to, and who made it.
type way struct {
	evidence []byte
	binding  attest.Binding
	identity attest.Identity
}

// TestOneEvidenceForAllCarriers: what travels is the same object, and the same verifier judges it, whichever way it
// came and whoever made it; but evidence of one way is refused on another.
func TestOneEvidenceForAllCarriers(t *testing.T) {
	r := newRig(t).mutual(t)
	ways := map[string]way{"n1": r.wayOfServer(t, atls.N1), "p1": r.wayOfServer(t, atls.P1), "frame of client": r.wayOfClient(t)}
	p := connected(t, nil)
	for _, round := range []string{"first", "second"} {
		ways["AUTH of server, "+round], ways["AUTH of client, "+round] = p.waysOfAuth()
	}
	verifier := attest.NewRegistry(sim.NewVerifier())
	for from, w := range ways {
		e, err := attest.DecodeEvidence(w.evidence)
		if err != nil {
			t.Fatal(from, err)
		}
		for to, other := range ways {
			facts, err := verifier.Verify(testContext(t), e, attest.PurposeConnection, other.binding, time.Now())
			switch {
			case from == to && err != nil:
				t.Errorf("%s: %v", from, err)
			case from == to && facts.Identity != w.identity:
				t.Errorf("%s: %+v", from, facts.Identity)
			case from != to && !errors.Is(err, attest.ErrBinding) && !errors.Is(err, attest.ErrRole):
				t.Errorf("evidence of %s on %s: %v", from, to, err)
			}
		}
	}
}

// wayOfServer is a server's evidence at connect.
func (r *rig) wayOfServer(t *testing.T, carrier atls.Carrier) way {
	addr, outcomes := start(t, r.server)
	c, err := r.dialRogue(t, addr, label([32]byte{carrier[0]})+"."+string(carrier)+"."+service, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer Receive(t, outcomes)
	defer c.Close()
	cs := c.ConnectionState()
	claims := claimsFor(t, attest.RoleServer, c.name, r.leafKey, &cs, brokerIdentity)
	return way{c.evidence(t), claims.Binding, brokerIdentity}
}

// wayOfClient is a client's evidence at connect.
func (r *rig) wayOfClient(t *testing.T) way {
	rogue := r.rogue()
	ways := make(chan way, 1)
	rogue.speak = func(c *tls.Conn) {
		cs := c.ConnectionState()
		c.Write(frameOf(Must(attest.Make(testContext(t), r.server.Attester, attest.PurposeConnection,
			claimsFor(t, attest.RoleServer, cs.ServerName, r.leafKey, &cs, brokerIdentity), zeros{}))(t)))
		frame := make([]byte, 1<<16)
		n, _ := c.Read(frame)
		claims := claimsFor(t, attest.RoleClient, cs.ServerName, r.leafKey, &cs, sensorIdentity)
		ways <- way{frame[4:n], claims.Binding, sensorIdentity}
	}
	addr, _ := rogue.serve(t)
	r.client.Carrier = atls.P1
	if _, err := dial(t, addr, r.client); err != nil {
		t.Fatal(err)
	}
	return Receive(t, ways)
}

// waysOfAuth is the evidence of both sides in one round, out of AUTH packets of MQTT 5 that travel over the connection
// that stands.
func (p *pair) waysOfAuth() (server, client way) {
	t := p.t
	t.Helper()
	ctx := testContext(t)
	round, request, err := p.client.Reattest()
	if err != nil {
		t.Fatal(err)
	}
	judge, challenge, err := p.broker(nil).Reattest(ctx, p.server, overAuth(t, p.client, p.server, mqtt.ReAuthenticate, request))
	if err != nil {
		t.Fatal(err)
	}
	challenge = overAuth(t, p.server, p.client, mqtt.ContinueAuthentication, challenge)
	answer := Must(round.Answer(ctx, challenge))(t)
	answer = overAuth(t, p.client, p.server, mqtt.ContinueAuthentication, answer)
	if err := judge.Finish(ctx, answer); err != nil {
		t.Fatal(err)
	}
	seq, asked := fieldsOf(t, request)
	_, sent := fieldsOf(t, challenge)
	_, said := fieldsOf(t, answer)
	cs := p.server.ConnectionState()
	bound := func(role attest.Role) attest.Binding {
		return roundClaims(t, uint64(role), uint64(attest.PhaseReattest), seq, [32]byte(asked[0]), sent[0], p.leafKey, &cs, attest.Identity{}).Binding
	}
	return way{sent[1], bound(attest.RoleServer), brokerIdentity}, way{said[0], bound(attest.RoleClient), sensorIdentity}
}

// fieldsOf reads a message of a round: its kind, its number, then byte strings.
func fieldsOf(t testing.TB, message []byte) (seq uint64, strings [][]byte) {
	t.Helper()
	var fields []any
	if err := dcbor.Decode(message, &fields); err != nil {
		t.Fatal(err)
	}
	for _, f := range fields[2:] {
		strings = append(strings, f.([]byte))
	}
	return fields[1].(uint64), strings
}

// overAuth sends the authentication data of a packet AUTH from one end to the other, and returns what comes out there.
func overAuth(t testing.TB, from, to *atls.Conn, reason mqtt.ReasonCode, data []byte) []byte {
	t.Helper()
	props := mqtt.Properties{AuthenticationMethod: []byte(atls.ReattestMethod), AuthenticationData: data}
	props.Has = 1<<mqtt.PropAuthenticationMethod | 1<<mqtt.PropAuthenticationData
	sent := mqtt.AppendAuth(nil, reason, &props)
	if _, err := from.Write(sent); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, len(sent))
	if _, err := io.ReadFull(to, frame); err != nil {
		t.Fatal(err)
	}
	var auth mqtt.Auth
	if fault := mqtt.ParseAuth(frame, mqtt.V5, &auth); fault != nil {
		t.Fatal(fault)
	}
	return auth.Props.AuthenticationData
}

// TestP1WithoutECH: where the listener allows it, carrier p1 serves a client whose name is in clear; the others stay
// refused.
func TestP1WithoutECH(t *testing.T) {
	clear := func(c *tls.Config) { c.EncryptedClientHelloConfigList, c.ClientSessionCache = nil, nil }
	r := newRig(t)
	r.server.P1WithoutECH = true
	addr, outcomes := start(t, r.server)
	c, err := r.dialRogue(t, addr, label([32]byte{4})+".p1."+service, clear)
	if err != nil {
		t.Fatal(err)
	}
	cs := c.ConnectionState()
	want := claimsFor(t, attest.RoleServer, c.name, r.leafKey, &cs, brokerIdentity).Binding
	verdict := appraiser(t, brokerPolicy(r)).Appraise(testContext(t), c.evidence(t), want, time.Now())
	if !verdict.Accepted {
		t.Fatal(verdict.Err)
	}
	c.Write(frameOf(nil))
	server := Receive(t, outcomes)
	if server.err != nil || server.conn.Peer().Carrier != atls.P1 {
		t.Fatalf("%+v", server)
	}
	ping(t, c, server.conn)

	for _, carrier := range []string{"n1", "x1"} {
		if _, err := r.dialRogue(t, addr, label([32]byte{4})+"."+carrier+"."+service, clear); err != nil {
			t.Fatal(err)
		}
		wantKind(t, carrier, Receive(t, outcomes).err, attest.ErrECH)
	}
	r.client.Carrier = atls.P1 // under ECH as before
	if _, err := dial(t, addr, r.client); err != nil {
		t.Error(err)
	}
}

// TestRevealNeedsCertificate: with RevealAuthenticated a client without an acceptable certificate gets nothing of the
// evidence: no quote is made for it, and nothing that could hold one leaves the server.
func TestRevealNeedsCertificate(t *testing.T) {
	other := Must(owner.New("Somebody else", time.Now(), time.Hour))(t)
	for name, change := range map[string]func(*rig){
		"none":             func(r *rig) { r.client.Certificate = nil },
		"of another owner": func(r *rig) { r.client.Certificate = issueClient(t, other, "device 7") },
		"key of another": func(r *rig) {
			r.client.Certificate.PrivateKey = issueClient(t, r.ca, "device 8").PrivateKey
		},
		"revoked": func(r *rig) { r.server.VerifyConnection = func(tls.ConnectionState) error { return errRevoked } },
	} {
		for _, carrier := range []atls.Carrier{atls.N1, atls.P1, atls.X1} {
			t.Run(name+"/"+string(carrier), func(t *testing.T) {
				r := newRig(t).authenticated(t)
				if carrier == atls.X1 {
					r.client.Unattested = true
				} else {
					r.client.Carrier = carrier
				}
				counted := &countingAttester{Attester: r.server.Attester}
				r.server.Attester = counted
				change(r)
				addr, outcomes := start(t, r.server)
				counted.quotes.Store(0) // that of the trial
				raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
				conn, err := atls.Client(testContext(t), raw, &r.client)
				if conn != nil { // X1 waits for nothing
					defer conn.Close()
					refusedRead(t, conn)
				} else {
					wantKind(t, "client", err, attest.ErrTLS)
					if name == "none" && carrier != atls.X1 && !strings.Contains(err.Error(), "only to clients with a certificate") {
						t.Errorf("error does not help: %v", err)
					}
				}
				wantKind(t, "server", Receive(t, outcomes).err, attest.ErrTLS)
				if n := counted.quotes.Load(); n != 0 {
					t.Errorf("%d quotes were made", n)
				}
				_, back := raw.seen()
				if sent := records(t, back); len(sent) > firstFlightOfServer && slices.Max(sent[firstFlightOfServer:]) > alertRecord {
					t.Errorf("the server sent records %v", sent)
				}
			})
		}
	}
}

// What a server sends that asks for a certificate: ServerHello, ChangeCipherSpec, EncryptedExtensions, CertificateRequest,
// Certificate, CertificateVerify, Finished; after them nothing but an alert: two bytes, type and tag.
const (
	firstFlightOfServer = 7
	alertRecord         = 2 + 1 + 16
)

var errRevoked = errors.New("certificate was revoked")

// refusedRead checks that the connection ends.
func refusedRead(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(Patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("refused peer read %d bytes, %v", n, err)
	}
}

// TestClientKeyIsBound: what the client's certificate is, both sides state: evidence for a client with another key is
// refused, and so is evidence of a client that does not own up to its key.
func TestClientKeyIsBound(t *testing.T) {
	for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
		for name, key := range map[string]*attest.Digest{"without a key": nil, "with another key": {1}} {
			t.Run("server's evidence "+name+", "+string(carrier), func(t *testing.T) {
				r := newRig(t).mutual(t).authenticated(t)
				r.client.Carrier = carrier
				rogue := r.rogue()
				rogue.wantCertificate = true
				rogue.give(carrier, func(name string, cs *tls.ConnectionState) []byte {
					claims := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
					claims.PeerKey = key
					return Must(attest.Make(testContext(t), r.server.Attester, attest.PurposeConnection, claims, zeros{}))(t)
				})
				refusesRogue(t, r, rogue, attest.ErrBinding)
			})
			t.Run("client's evidence "+name+", "+string(carrier), func(t *testing.T) {
				r := newRig(t).mutual(t).authenticated(t)
				addr, outcomes := start(t, r.server)
				c, err := r.dialRogue(t, addr, label([32]byte{2})+"."+string(carrier)+"."+service, func(config *tls.Config) {
					config.Certificates = []tls.Certificate{*r.client.Certificate}
				})
				if err != nil {
					t.Fatal(err)
				}
				cs := c.ConnectionState()
				claims := claimsFor(t, attest.RoleClient, c.name, r.leafKey, &cs, sensorIdentity)
				claims.OwnKey = key
				c.Write(frameOf(Must(attest.Make(testContext(t), r.client.Attester, attest.PurposeConnection, claims, zeros{}))(t)))
				wantKind(t, "server", Receive(t, outcomes).err, attest.ErrBinding)
			})
		}
	}
}

// TestPrivacyAuthenticated: where a certificate is asked for, connections that attest and those that do not look alike
// as well.
func TestPrivacyAuthenticated(t *testing.T) {
	r := newRig(t).authenticated(t)
	addr, outcomes := start(t, r.server)
	attested := []*capture{r.capture(t, addr, outcomes), r.capture(t, addr, outcomes), r.capture(t, addr, outcomes)}
	r.client.Unattested, r.client.Server = true, nil
	other := r.capture(t, addr, outcomes)
	for i, c := range attested {
		c.secrets["name in the client's certificate"] = []byte("device 7")
		if err := shapesDiffer(t, c, other); err != nil {
			t.Errorf("attested connection %d differs from unattested: %v", i, err)
		}
	}
	if found := leaks(attested...); len(found) > 0 {
		t.Errorf("attested connections leak: %v", found)
	}
}

// TestP1LeaksNoBytes: p1 can be told by its shape, and still nothing is in clear.
func TestP1LeaksNoBytes(t *testing.T) {
	r := newRig(t).mutual(t)
	r.client.Carrier = atls.P1
	addr, outcomes := start(t, r.server)
	captures := []*capture{r.capture(t, addr, outcomes), r.capture(t, addr, outcomes), r.capture(t, addr, outcomes)}
	if found := leaks(captures...); len(found) > 0 {
		t.Errorf("leaks: %v", found)
	}
	r.client.Carrier = atls.N1
	if shapesDiffer(t, captures[0], r.capture(t, addr, outcomes)) == nil {
		t.Error("p1 has the shape of n1: the documentation says otherwise, or the comparison sees nothing")
	}
	if !bytes.Contains(captures[0].toServer, []byte(publicName)) {
		t.Error("control: the public name is not seen, so the tap sees nothing")
	}
}

// TestP1IgnoresTickets: a server that sends one all the same does not get far with it, nor does it disturb.
func TestP1IgnoresTickets(t *testing.T) {
	r := newRig(t)
	r.client.Carrier = atls.P1
	rogue := r.rogue() // it attests
	evidence := func(name string, cs *tls.ConnectionState) []byte {
		claims := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
		return Must(attest.Make(testContext(t), r.server.Attester, attest.PurposeConnection, claims, zeros{}))(t)
	}
	rogue.give(atls.N1, evidence)
	r.client.EvidenceTimeout = 50 * time.Millisecond
	refusesRogue(t, r, rogue, attest.ErrTimeout)
	r.client.EvidenceTimeout = Patience
	rogue.give(atls.P1, evidence)
	refusesRogue(t, r, rogue, 0)
}

// TestP1NothingLeavesBeforeVerification is as for n1.
func TestP1NothingLeavesBeforeVerification(t *testing.T) {
	r := newRig(t).mutual(t)
	r.client.Carrier = atls.P1
	addr, outcomes := start(t, r.server)
	raw := &tap{Conn: Must(net.Dial("tcp", addr))(t)}
	var before []int
	r.client.Server = policy.NewAppraiser(r.client.Server.Policy(), attest.NewRegistry(&spyVerifier{now: func() {
		toServer, _ := raw.seen()
		before = records(t, toServer)
	}}))
	conn := Must(atls.Client(testContext(t), raw, &r.client))(t)
	defer conn.Close()
	exchange(t, conn, Receive(t, outcomes).conn)
	toServer, _ := raw.seen()
	if after := records(t, toServer); len(before) != 3 || len(after) != 5 { // hello, ChangeCipherSpec, Finished; evidence, application
		t.Errorf("before verification the client had sent records %v, in the end %v", before, after)
	}
}
