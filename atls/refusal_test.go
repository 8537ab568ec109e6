package atls_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func spki(key *ecdsa.PrivateKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(&key.PublicKey) }

// wantKind checks the kind of an error, and that it says something.
func wantKind(t *testing.T, who string, err error, kind attest.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %v, want kind %q", who, err, kind)
	}
	if got := policy.KindOf(err); err != nil && got != kind {
		t.Errorf("%s: kind of %v is %q, want %q", who, err, got, kind)
	}
}

var anyTDX = policy.Requirement{Platform: attest.TDX, Want: map[string][]string{"mrtd": {strings.Repeat("ab", 48)}}}

// TestClientRefusesServer connects to a broker that is genuine software in the wrong state.
func TestClientRefusesServer(t *testing.T) {
	faults := func(f sim.Faults) func(*rig) {
		return func(r *rig) { r.server.Attester = sim.NewAttester(r.tee, attest.Digest{1}).WithFaults(f) }
	}
	tests := []struct {
		name       string
		change     func(r *rig)
		kind       attest.Kind
		text       string
		serverKind attest.Kind
	}{
		{"wrong module", func(r *rig) { r.server.Identity.Module[0] ^= 1 }, attest.ErrModule, `is not one of the 1 accepted by identity "broker"`, attest.ErrTLS},
		{"wrong configuration", func(r *rig) { r.server.Identity.Config[0] ^= 1 }, attest.ErrConfig, "configuration sha384:", attest.ErrTLS},
		{"wrong runtime", func(r *rig) {
			id := brokerPolicy(r)
			id.Runtimes = []attest.Digest{{9}}
			r.client.Server = appraiser(t, id)
		}, attest.ErrRuntime, "runtime sha384:", attest.ErrTLS},
		{"debug", faults(sim.Faults{Debug: true}), attest.ErrDebug, "debug mode", attest.ErrTLS},
		{"report data zero", faults(sim.Faults{ZeroReportData: true}), attest.ErrZeroReportData, "all zero", attest.ErrTLS},
		{"report data of something else", faults(sim.Faults{ReportData: &attest.ReportData{1}}), attest.ErrBinding, "made for something else", attest.ErrTLS},
		{"signature broken", faults(sim.Faults{BadSignature: true}), attest.ErrSignature, "not valid", attest.ErrTLS},
		{"TCB out of date", faults(sim.Faults{TCB: attest.TCBOutOfDate}), attest.ErrTCB, "OutOfDate", attest.ErrTLS},
		{"TCB revoked", faults(sim.Faults{TCB: attest.TCBRevoked}), attest.ErrTCB, "never accepted", attest.ErrTLS},
		{"collateral expired", faults(sim.Faults{Expiry: time.Now().Add(-time.Hour)}), attest.ErrFreshness, "expired", attest.ErrTLS},
		{"other TEE", func(r *rig) { r.server.Attester = sim.NewAttester(r.sensor, attest.Digest{1}) }, attest.ErrPlatform, "sim key", attest.ErrTLS},
		{"hardware not enrolled", func(r *rig) {
			id := brokerPolicy(r)
			id.Instances = []string{"sim:00"}
			r.client.Server = appraiser(t, id)
		}, attest.ErrInstance, "enrolled", attest.ErrTLS},
		{"simulated without permission", func(r *rig) {
			r.client.Server = appraiser(t, policy.Identity{Name: "broker", Modules: []attest.Digest{brokerIdentity.Module}, AnyOf: []policy.Requirement{anyTDX}})
		}, attest.ErrSimulated, "simulated", attest.ErrTLS},
		{"server without attester", func(r *rig) { r.server.Attester = nil }, attest.ErrMissing, "no evidence", attest.ErrAttester},
		{"attester too slow", func(r *rig) {
			r.server.EvidenceTimeout = 20 * time.Millisecond
			faults(sim.Faults{Delay: time.Second})(r)
		}, attest.ErrMissing, "no evidence", attest.ErrTimeout},
		{"certificate of another owner", func(r *rig) { r.client.Roots = newRig(t).ca.Pool() }, attest.ErrTLS, "certificate", attest.ErrTLS},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t).mutual(t) // a client with evidence to lose
			r.server.Identity, r.client.Identity = brokerIdentity, sensorIdentity
			test.change(r)
			addr, outcomes := start(t, r.server)
			conn, err := dial(t, addr, r.client)
			if conn != nil {
				t.Fatal("client got a connection")
			}
			wantKind(t, "client", err, test.kind)
			if err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %q does not say %q", err, test.text)
			}
			server := Receive(t, outcomes)
			wantKind(t, "server", server.err, test.serverKind)
		})
	}
}

// TestClientRefusesRogueServer connects to attackers that hold the broker's certificate key and ECH key, by either
// carrier.
func TestClientRefusesRogueServer(t *testing.T) {
	genuine := func(t *testing.T, r *rig, claims *attest.Claims) []byte {
		return Must(attest.Make(testContext(t), sim.NewAttester(r.tee, attest.Digest{1}), attest.PurposeConnection, claims, zeros{}))(t)
	}
	fixed := func(b []byte) func(*testing.T, *rig, string, *tls.ConnectionState) []byte {
		return func(*testing.T, *rig, string, *tls.ConnectionState) []byte { return b }
	}
	tests := []struct {
		name     string
		evidence func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte
		kind     attest.Kind
	}{
		{"role of the client", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			return genuine(t, r, claimsFor(t, attest.RoleClient, name, r.leafKey, cs, brokerIdentity))
		}, attest.ErrRole},
		{"role of the client, relabelled", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			e := Must(attest.DecodeEvidence(genuine(t, r, claimsFor(t, attest.RoleClient, name, r.leafKey, cs, brokerIdentity))))(t)
			e.Claims = Must(claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity).Encode())(t)
			return Must(e.Encode())(t)
		}, attest.ErrBinding},
		{"another nonce", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			c.Nonce[0] ^= 1
			return genuine(t, r, c)
		}, attest.ErrBinding},
		{"another service", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			c.Service = "other.example"
			return genuine(t, r, c)
		}, attest.ErrBinding},
		{"another request", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			c.Request = attest.Digest{}
			return genuine(t, r, c)
		}, attest.ErrBinding},
		{"another own key", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			c.OwnKey = &attest.Digest{}
			return genuine(t, r, c)
		}, attest.ErrBinding},
		{"made for a certificate request", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			return Must(attest.Make(testContext(t), sim.NewAttester(r.tee, attest.Digest{1}), attest.PurposeCertificate, c, zeros{}))(t)
		}, attest.ErrBinding},
		{"data of a guest", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			c := claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity)
			c.Guest = &attest.Digest{}
			return genuine(t, r, c)
		}, attest.ErrFormat},
		{"garbage", fixed([]byte("garbage")), attest.ErrFormat},
		// The control: the attacker with a TEE of the right kind, for this very connection, is no attacker.
		{"control", func(t *testing.T, r *rig, name string, cs *tls.ConnectionState) []byte {
			return genuine(t, r, claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity))
		}, 0},
	}
	for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
		for _, test := range tests {
			t.Run(string(carrier)+"/"+test.name, func(t *testing.T) {
				r := newRig(t).mutual(t)
				r.client.Carrier = carrier
				rogue := r.rogue()
				rogue.give(carrier, func(name string, cs *tls.ConnectionState) []byte { return test.evidence(t, r, name, cs) })
				refusesRogue(t, r, rogue, test.kind)
			})
		}
	}
}

// refusesRogue connects to an attacker, who must get nothing of the application. Kind 0 is the control.
func refusesRogue(t *testing.T, r *rig, rogue *rogueServer, kind attest.Kind) error {
	t.Helper()
	addr, got := rogue.serve(t)
	conn, err := dial(t, addr, r.client)
	if kind == 0 {
		if err != nil {
			t.Fatal("control was refused:", err)
		}
		conn.Close()
		return nil
	}
	wantKind(t, "client", err, kind)
	if data := Receive(t, got); len(data) != 0 {
		t.Errorf("attacker got %d bytes of the application", len(data))
	}
	return err
}

// TestClientRefusesTickets that no server of this protocol writes.
func TestClientRefusesTickets(t *testing.T) {
	lying := ticketOf(nil)
	lying[0] = 1
	dirty := ticketOf([]byte("garbage"))
	dirty[len(dirty)-1] = 1
	for name, test := range map[string]struct {
		ticket []byte
		kind   attest.Kind
		text   string
	}{
		"empty":                     {ticketOf(nil), attest.ErrMissing, "no evidence"},
		"short":                     {make([]byte, 100), attest.ErrFormat, "100 bytes"},
		"oversized":                 {make([]byte, 60000), attest.ErrFormat, "60000 bytes"},
		"length beyond the ticket":  {lying, attest.ErrFormat, "exceeds"},
		"padding that is not zeros": {dirty, attest.ErrFormat, "padding is not zero"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).mutual(t)
			rogue := r.rogue()
			rogue.ticket = func(string, tls.ConnectionState) []byte { return test.ticket }
			if err := refusesRogue(t, r, rogue, test.kind); err != nil && !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %q does not say %q", err, test.text)
			}
		})
	}
}

// TestClientRefusesFirstData that is no frame of evidence.
func TestClientRefusesFirstData(t *testing.T) {
	for name, test := range map[string]struct {
		data []byte
		kind attest.Kind
	}{
		"empty":             {frameOf(nil), attest.ErrMissing},
		"end of connection": {nil, attest.ErrMissing},
		"cut short":         {frameOf(make([]byte, 100))[:50], attest.ErrMissing},
		"oversized":         {[]byte{0, 0, 0xc0, 0}, attest.ErrFormat},
		"MQTT":              {[]byte{0x20, 3, 0, 0, 0}, attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).mutual(t)
			r.client.Carrier = atls.P1
			rogue := r.rogue()
			rogue.speak = func(c *tls.Conn) { c.Write(test.data); c.CloseWrite() }
			refusesRogue(t, r, rogue, test.kind)
		})
	}
}

// zeros is a source of predictable blinds, for attackers.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestReplay: an attacker with the stolen keys fetches genuine evidence on a connection of its own, and shows
// it to the next client.
func TestReplay(t *testing.T) {
	for _, carrier := range []atls.Carrier{atls.N1, atls.P1} {
		r := newRig(t)
		r.client.Carrier = carrier
		genuine, _ := start(t, r.server)
		attacker, err := r.dialRogue(t, genuine, label([32]byte{1})+"."+string(carrier)+"."+service, nil)
		if err != nil {
			t.Fatal(err)
		}
		old := attacker.evidence(t)
		attacker.Close()

		t.Run(string(carrier)+"/as it was", func(t *testing.T) {
			rogue := r.rogue()
			rogue.give(carrier, func(string, *tls.ConnectionState) []byte { return old })
			refusesRogue(t, r, rogue, attest.ErrBinding)
		})
		t.Run(string(carrier)+"/old quote under new claims", func(t *testing.T) {
			rogue := r.rogue()
			rogue.give(carrier, func(name string, cs *tls.ConnectionState) []byte {
				e := Must(attest.DecodeEvidence(old))(t)
				e.Claims = Must(claimsFor(t, attest.RoleServer, name, r.leafKey, cs, brokerIdentity).Encode())(t)
				return Must(e.Encode())(t)
			})
			refusesRogue(t, r, rogue, attest.ErrBinding)
		})
	}
}

// TestRelay: a machine in the middle with stolen certificate and ECH keys passes the client's nonce to the
// genuine broker, and the broker's evidence back. It is the attack that defeats evidence bound to key and nonce
// only (CVE-2026-33697). The evidence may also have come by another carrier.
func TestRelay(t *testing.T) {
	for _, path := range [][2]atls.Carrier{{atls.N1, atls.N1}, {atls.P1, atls.P1}, {atls.P1, atls.N1}, {atls.N1, atls.P1}} {
		t.Run(string(path[0]+" to "+path[1]), func(t *testing.T) {
			r := newRig(t).mutual(t)
			r.client.Carrier = path[1]
			genuine, _ := start(t, r.server)
			rogue := r.rogue()
			rogue.give(path[1], func(name string, _ *tls.ConnectionState) []byte {
				nonce, _, _ := strings.Cut(name, ".")
				onward, err := r.dialRogue(t, genuine, nonce+"."+string(path[0])+"."+service, nil)
				if err != nil {
					t.Error("relay could not connect onward:", err)
					return nil
				}
				defer onward.Close()
				return onward.evidence(t)
			})
			addr, got := rogue.serve(t)
			_, err := dial(t, addr, r.client)
			wantKind(t, "client", err, attest.ErrBinding)
			if !strings.Contains(err.Error(), "another TLS connection") {
				t.Errorf("the nonce was relayed, so the binder should be what differs: %v", err)
			}
			if data := Receive(t, got); len(data) != 0 {
				t.Errorf("the machine in the middle got %d bytes of the application", len(data))
			}
		})
	}
}

// TestEvidenceThatNeverComes: servers that hold the connection open, or go.
func TestEvidenceThatNeverComes(t *testing.T) {
	for name, test := range map[string]struct {
		carrier atls.Carrier
		speak   func(*tls.Conn)
		kind    attest.Kind
	}{
		"n1, silent":       {atls.N1, nil, attest.ErrTimeout},
		"n1, speaks first": {atls.N1, func(c *tls.Conn) { c.Write([]byte("hello")) }, attest.ErrMissing},
		"n1, goes away":    {atls.N1, func(c *tls.Conn) { c.Close() }, attest.ErrMissing},
		"p1, silent":       {atls.P1, nil, attest.ErrTimeout},
		"p1, half":         {atls.P1, func(c *tls.Conn) { c.Write([]byte{0, 0, 1, 0, 1}) }, attest.ErrTimeout},
		"p1, goes away":    {atls.P1, func(c *tls.Conn) { c.Close() }, attest.ErrMissing},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).mutual(t)
			r.client.Carrier, r.client.EvidenceTimeout = test.carrier, 50*time.Millisecond
			if test.kind != attest.ErrTimeout {
				r.client.EvidenceTimeout = Patience
			}
			rogue := r.rogue()
			rogue.speak = test.speak
			refusesRogue(t, r, rogue, test.kind)
		})
	}
}

// TestServerThatSaysNothing: a listener that accepts and is silent must not hold a client for ever, nor a
// client that connects and is silent a server.
func TestHandshakeTimeout(t *testing.T) {
	r := newRig(t)
	r.client.HandshakeTimeout = 30 * time.Millisecond
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	_, err := dial(t, silent, r.client)
	wantKind(t, "client", err, attest.ErrTimeout)

	r.server.HandshakeTimeout = 30 * time.Millisecond
	addr, outcomes := start(t, r.server)
	raw := Must(net.Dial("tcp", addr))(t)
	defer raw.Close()
	wantKind(t, "server", Receive(t, outcomes).err, attest.ErrTimeout)
}

func TestCancel(t *testing.T) {
	r := newRig(t)
	silent := serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := atls.Dial(ctx, dialer(silent), &r.client)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
