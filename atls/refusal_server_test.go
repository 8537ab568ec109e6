package atls_test

import (
	"bytes"
	"crypto/tls"
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

// TestServerRefusesClient: clients that follow the protocol and are not who they should be.
func TestServerRefusesClient(t *testing.T) {
	faults := func(f sim.Faults) func(*rig) {
		return func(r *rig) { r.client.Attester = sim.NewAttester(r.sensor, attest.Digest{2}).WithFaults(f) }
	}
	tests := []struct {
		name   string
		change func(r *rig)
		kind   attest.Kind
	}{
		{"not in the policy", func(r *rig) { r.client.Identity.Module[0] ^= 1 }, attest.ErrModule},
		{"other TEE", func(r *rig) { r.client.Attester = sim.NewAttester(r.tee, attest.Digest{2}) }, attest.ErrPlatform},
		{"simulated without permission", func(r *rig) {
			r.server.Clients = appraiser(t, policy.Identity{Name: "sensor", Modules: []attest.Digest{sensorIdentity.Module}, AnyOf: []policy.Requirement{anyTDX}})
		}, attest.ErrSimulated},
		{"no identity at all", func(r *rig) { r.server.Clients = appraiser(t) }, attest.ErrSimulated},
		{"report data zero", faults(sim.Faults{ZeroReportData: true}), attest.ErrZeroReportData},
		{"report data of something else", faults(sim.Faults{ReportData: &attest.ReportData{7}}), attest.ErrBinding},
		{"debug", faults(sim.Faults{Debug: true}), attest.ErrDebug},
		{"signature broken", faults(sim.Faults{BadSignature: true}), attest.ErrSignature},
		{"no evidence", func(r *rig) { r.client.Attester = nil }, attest.ErrMissing},
		{"no evidence asked of the server", func(r *rig) { r.client.Unattested = true }, attest.ErrMissing},
		{"late evidence", func(r *rig) {
			r.server.EvidenceTimeout = quoteTime
			faults(sim.Faults{Delay: Patience})(r)
		}, attest.ErrTimeout},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t).mutual(t)
			r.server.RequireClientEvidence = true
			test.change(r)
			addr, outcomes := start(t, r.server)
			conn, err := dial(t, addr, r.client)
			server := Receive(t, outcomes)
			if server.conn != nil {
				t.Error("server got a connection")
			}
			wantKind(t, "server", server.err, test.kind)
			if err == nil {
				refusedOutwardly(t, conn)
			}
		})
	}
}

// refusedOutwardly checks that all that a refused peer sees is the end of the connection.
func refusedOutwardly(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(Patience))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("refused peer read %d bytes, %v", n, err)
	}
	if err != nil && strings.Contains(err.Error(), "tls:") {
		t.Errorf("refused peer was told something: %v", err)
	}
}

// TestServerRefusesRogueClient: attackers that have the bundle and speak as they like.
func TestServerRefusesRogueClient(t *testing.T) {
	attester := func(r *rig) *sim.Attester { return sim.NewAttester(r.sensor, attest.Digest{2}) }
	tests := []struct {
		name    string
		carrier string
		frame   func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte
		kind    attest.Kind
	}{
		{"the server's own evidence, reflected", "n1", func(t *testing.T, _ *rig, c *rogueClient, _ *tls.ConnectionState) []byte {
			return frameOf(c.evidence(t))
		}, attest.ErrRole},
		{"role of the server", "n1", func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte {
			claims := claimsFor(t, attest.RoleServer, c.name, r.leafKey, cs, sensorIdentity)
			return frameOf(Must(attest.Make(testContext(t), attester(r), attest.PurposeConnection, claims, zeros{}))(t))
		}, attest.ErrRole},
		{"role of the server, relabelled", "n1", func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte {
			claims := claimsFor(t, attest.RoleServer, c.name, r.leafKey, cs, sensorIdentity)
			e := Must(attest.DecodeEvidence(Must(attest.Make(testContext(t), attester(r), attest.PurposeConnection, claims, zeros{}))(t)))(t)
			e.Claims = Must(claimsFor(t, attest.RoleClient, c.name, r.leafKey, cs, sensorIdentity).Encode())(t)
			return frameOf(Must(e.Encode())(t))
		}, attest.ErrBinding},
		{"evidence for another broker", "n1", func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte {
			claims := claimsFor(t, attest.RoleClient, c.name, r.leafKey, cs, sensorIdentity)
			claims.PeerKey = &attest.Digest{}
			return frameOf(Must(attest.Make(testContext(t), attester(r), attest.PurposeConnection, claims, zeros{}))(t))
		}, attest.ErrBinding},
		{"oversized", "n1", func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte {
			return []byte{0xff, 0xff, 0xff, 0xff}
		}, attest.ErrFormat},
		{"garbage", "n1", func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte {
			return frameOf([]byte("garbage"))
		}, attest.ErrFormat},
		{"MQTT without a frame", "n1", func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte {
			return []byte{0x10, 0x10, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 3, 'a', 'b', 'c'}
		}, attest.ErrFormat},
		{"evidence without having asked", "x1", func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte {
			claims := claimsFor(t, attest.RoleClient, c.name, r.leafKey, cs, sensorIdentity)
			return frameOf(Must(attest.Make(testContext(t), attester(r), attest.PurposeConnection, claims, zeros{}))(t))
		}, attest.ErrFormat},
		{"silence", "n1", func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte { return nil }, attest.ErrTimeout},
		{"half a frame", "n1", func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte {
			return []byte{0, 0, 1, 0, 1}
		}, attest.ErrTimeout},
		{"control", "n1", func(t *testing.T, r *rig, c *rogueClient, cs *tls.ConnectionState) []byte {
			claims := claimsFor(t, attest.RoleClient, c.name, r.leafKey, cs, sensorIdentity)
			return frameOf(Must(attest.Make(testContext(t), attester(r), attest.PurposeConnection, claims, zeros{}))(t))
		}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			refusesRogueClient(t, test.carrier, test.kind, test.frame)
			if test.carrier == "n1" {
				refusesRogueClient(t, "p1", test.kind, test.frame)
			}
		})
	}
}

// quoteTime is for a peer that will not use it, and enough for the server's own evidence.
const quoteTime = 500 * time.Millisecond

// refusesRogueClient connects an attacker that sends a frame of its own. Kind 0 is the control.
func refusesRogueClient(t *testing.T, carrier string, kind attest.Kind, frame func(*testing.T, *rig, *rogueClient, *tls.ConnectionState) []byte) {
	t.Helper()
	r := newRig(t).mutual(t)
	if kind == attest.ErrTimeout {
		r.server.EvidenceTimeout = quoteTime
	}
	addr, outcomes := start(t, r.server)
	c, err := r.dialRogue(t, addr, label([32]byte{2})+"."+carrier+"."+service, nil)
	if err != nil {
		t.Fatal(err)
	}
	cs := c.ConnectionState()
	if frame := frame(t, r, c, &cs); frame != nil {
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	server := Receive(t, outcomes)
	if kind == 0 {
		if server.err != nil || !server.conn.Peer().Attested {
			t.Fatal("control was refused:", server.err)
		}
		return
	}
	if server.conn != nil {
		t.Error("server got a connection")
	}
	wantKind(t, "server", server.err, kind)
}

// TestFrameAndApplicationInOneRecord: what follows the frame in the same record is delivered.
func TestFrameAndApplicationInOneRecord(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	c, err := r.dialRogue(t, addr, label([32]byte{3})+".n1."+service, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append(frameOf(nil), "first bytes"...)); err != nil {
		t.Fatal(err)
	}
	server := admitted(t, outcomes)
	got := make([]byte, 11)
	if _, err := io.ReadFull(server, got); err != nil || string(got) != "first bytes" {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestRequireRefusesOrdinary: a listener that requires evidence takes no ordinary TLS.
func TestRequireRefusesOrdinary(t *testing.T) {
	r := newRig(t).mutual(t)
	r.server.RequireClientEvidence = true
	addr, outcomes := start(t, r.server)
	c, err := tls.Dial("tcp", addr, ordinaryTLS(r))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wantKind(t, "server", Receive(t, outcomes).err, attest.ErrMissing)
	refusedOutwardly(t, c)
}

// TestAttestedNameOutsideECH: the name in clear gets nothing.
func TestAttestedNameOutsideECH(t *testing.T) {
	for _, cache := range []bool{true, false} {
		for _, carrier := range []string{"n1", "p1", "x1"} {
			r := newRig(t)
			addr, outcomes := start(t, r.server)
			c, err := r.dialRogue(t, addr, label([32]byte{4})+"."+carrier+"."+service, func(config *tls.Config) {
				config.EncryptedClientHelloConfigList = nil
				if !cache {
					config.ClientSessionCache = nil
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if (cache || carrier == "p1") && len(c.evidence(t)) != 0 {
				t.Error("evidence was given outside ECH")
			}
			wantKind(t, "server", Receive(t, outcomes).err, attest.ErrECH)
		}
	}
}

func TestClientThatTakesNoTicket(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	_, err := r.dialRogue(t, addr, label([32]byte{4})+".n1."+service, func(c *tls.Config) { c.ClientSessionCache = nil })
	if err != nil {
		t.Fatal(err)
	}
	wantKind(t, "server", Receive(t, outcomes).err, attest.ErrFormat)
}

func TestBadNames(t *testing.T) {
	good := label([32]byte{1})
	for _, name := range []string{"a" + good[1:] + "a.p1." + service, "short.n1." + service, strings.Repeat("a", 51) + "b.n1." + service, "a" + good[1:] + "a.x1." + service} {
		r := newRig(t)
		addr, outcomes := start(t, r.server)
		c, err := r.dialRogue(t, addr, name, func(c *tls.Config) { c.ClientSessionCache = nil })
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, "server: "+name, Receive(t, outcomes).err, attest.ErrFormat)
		refusedOutwardly(t, c)
	}
}

// TestTLS12: attested TLS does not go below TLS 1.3 on either side; ordinary TLS only where it is configured.
func TestTLS12(t *testing.T) {
	only12 := func(c *tls.Config) { c.MaxVersion, c.EncryptedClientHelloConfigList = tls.VersionTLS12, nil }

	t.Run("server without 1.3", func(t *testing.T) {
		r := newRig(t).mutual(t)
		rogue := r.rogue()
		rogue.maxVersion = tls.VersionTLS12
		rogue.ech = nil
		addr, got := rogue.serve(t)
		_, err := dial(t, addr, r.client)
		wantKind(t, "client", err, attest.ErrTLS)
		if data := Receive(t, got); len(data) != 0 {
			t.Error("application data over TLS 1.2")
		}
	})
	t.Run("attested name", func(t *testing.T) {
		r := newRig(t)
		r.server.MinVersion = tls.VersionTLS12
		addr, outcomes := start(t, r.server)
		if _, err := r.dialRogue(t, addr, label([32]byte{5})+".n1."+service, only12); err == nil {
			t.Error("handshake succeeded")
		}
		wantKind(t, "server", Receive(t, outcomes).err, attest.ErrTLS)
	})
	t.Run("ordinary by default", func(t *testing.T) {
		r := newRig(t)
		addr, outcomes := start(t, r.server)
		if _, err := r.dialRogue(t, addr, service, only12); err == nil {
			t.Error("handshake succeeded")
		}
		wantKind(t, "server", Receive(t, outcomes).err, attest.ErrTLS)
	})
	t.Run("ordinary where configured", func(t *testing.T) {
		r := newRig(t)
		r.server.MinVersion = tls.VersionTLS12
		addr, outcomes := start(t, r.server)
		if _, err := r.dialRogue(t, addr, service, only12); err != nil {
			t.Error(err)
		}
		if server := Receive(t, outcomes); server.err != nil || server.conn.Peer().TLSVersion != tls.VersionTLS12 {
			t.Errorf("%+v", server)
		}
	})
}

// TestNothingIsResumed: neither ordinary nor attested sessions, even if the client keeps and offers tickets.
func TestNothingIsResumed(t *testing.T) {
	for _, name := range []string{service, label([32]byte{6}) + ".n1." + service, label([32]byte{6}) + ".x1." + service} {
		r := newRig(t)
		addr, outcomes := start(t, r.server)
		cache := &recordingCache{ClientSessionCache: tls.NewLRUClientSessionCache(8), put: make(chan bool, 8)}
		for range 2 {
			c, err := r.dialRogue(t, addr, name, func(config *tls.Config) { config.ClientSessionCache = cache })
			if err != nil {
				t.Fatal(err)
			}
			if c.ConnectionState().DidResume {
				t.Errorf("%s: session was resumed", name)
			}
			if name != service {
				c.Write(frameOf(nil))
				go c.Read(make([]byte, 1))
				Receive(t, cache.put)
			}
			if server := Receive(t, outcomes); server.err != nil || server.conn.ConnectionState().DidResume {
				t.Errorf("%s: %+v", name, server)
			}
		}
		if name != service && !cache.offered {
			t.Errorf("%s: the second connection offered no ticket, so nothing was tested", name)
		}
	}
}

// recordingCache says when tickets come, and whether one was found.
type recordingCache struct {
	tls.ClientSessionCache
	put     chan bool
	offered bool
}

func (c *recordingCache) Get(key string) (*tls.ClientSessionState, bool) {
	s, ok := c.ClientSessionCache.Get(key)
	c.offered = c.offered || ok
	return s, ok
}

func (c *recordingCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	c.put <- true
}

// TestRandomBytes: what is not TLS is refused.
func TestRandomBytes(t *testing.T) {
	r := newRig(t)
	addr, outcomes := start(t, r.server)
	raw := Must(net.Dial("tcp", addr))(t)
	defer raw.Close()
	raw.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 100))
	wantKind(t, "server", Receive(t, outcomes).err, attest.ErrTLS)
}

// TestBrokenAttesterIsFoundAtStart, not when clients come.
func TestBrokenAttesterIsFoundAtStart(t *testing.T) {
	r := newRig(t)
	r.server.Attester = sim.NewAttester(r.tee, attest.Digest{1}).WithFaults(sim.Faults{Padding: 60000})
	_, err := atls.NewServer(testContext(t), r.server)
	wantKind(t, "NewServer", err, attest.ErrFormat)
}

// TestLargeEvidence travels in the larger bucket, also on connections that ask for none.
func TestLargeEvidence(t *testing.T) {
	r := newRig(t)
	r.server.Attester = sim.NewAttester(r.tee, attest.Digest{1}).WithFaults(sim.Faults{Padding: 20000})
	addr, outcomes := start(t, r.server)
	if _, err := dial(t, addr, r.client); err != nil {
		t.Fatal(err)
	}
	Receive(t, outcomes)
	c, err := r.dialRogue(t, addr, label([32]byte{6})+".x1."+service, nil)
	if err != nil {
		t.Fatal(err)
	}
	go c.Read(make([]byte, 1))
	if n := len(Receive(t, c.ticket)); n != 49152 {
		t.Errorf("ticket has %d bytes", n)
	}
}
