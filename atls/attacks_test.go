package atls_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// docs/security.md lists attacks on attested TLS, and the test of each. Here are those that are about more than one
// field of the evidence; see also refusal_test.go and refusal_server_test.go.

// quote makes evidence in a TEE, for whatever claims.
func quote(t testing.TB, tee *sim.Key, purpose attest.Purpose, claims *attest.Claims) []byte {
	t.Helper()
	return Must(attest.Make(testContext(t), sim.NewAttester(tee, attest.Digest{1}), purpose, claims, zeros{}))(t)
}

// TestDiversion: the client is led to genuine evidence of the right module in the wrong place.
func TestDiversion(t *testing.T) {
	r := newRig(t).mutual(t)
	// The hardware that the owner has enrolled, as the client's policy names it.
	genuine, _ := start(t, r.server)
	conn, err := dial(t, genuine, r.client)
	if err != nil {
		t.Fatal(err)
	}
	enrolled := brokerPolicy(r)
	enrolled.AnyOf, enrolled.Instances = []policy.Requirement{{Platform: attest.Sim}}, []string{conn.Peer().Verdict.Facts.HardwareID}
	r.client.Server = appraiser(t, enrolled)
	if _, err := dial(t, genuine, r.client); err != nil {
		t.Fatal("control:", err)
	}

	t.Run("to another machine, with stolen keys", func(t *testing.T) {
		elsewhere := Must(sim.NewKey())(t)
		rogue := r.rogue()
		rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
			return ticketOf(quote(t, elsewhere, attest.PurposeConnection, claimsFor(t, attest.RoleServer, name, r.leafKey, &cs, brokerIdentity)))
		}
		addr, got := rogue.serve(t)
		_, err := dial(t, addr, r.client)
		wantKind(t, "client", err, attest.ErrInstance)
		if data := Receive(t, got); len(data) != 0 {
			t.Errorf("the other machine got %d bytes of the application", len(data))
		}
	})
	t.Run("to another owner", func(t *testing.T) {
		other := newRig(t) // the same module, and all names the same
		other.server.ECHKeys = r.server.ECHKeys
		other.server.Attester = sim.NewAttester(r.tee, attest.Digest{1})
		addr, _ := start(t, other.server)
		_, err := dial(t, addr, r.client)
		wantKind(t, "client", err, attest.ErrTLS)
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Error(err)
		}
	})
	t.Run("to another service of the same owner", func(t *testing.T) {
		key := Must(owner.NewKey())(t)
		leaf := Must(r.ca.IssueServer(&key.PublicKey, owner.Server{Service: "other.example", PublicName: publicName}, time.Now(), time.Hour))(t)
		rogue := r.rogue()
		rogue.certificate = owner.TLSCertificate(leaf, key)
		rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
			return ticketOf(quote(t, r.tee, attest.PurposeConnection, claimsFor(t, attest.RoleServer, name, key, &cs, brokerIdentity)))
		}
		addr, _ := rogue.serve(t)
		_, err := dial(t, addr, r.client)
		wantKind(t, "client", err, attest.ErrTLS)
	})
}

// TestBinderOfTranscript: an attacker that gets a genuine TEE to quote what can be seen of the handshake. Whoever is an
// end of the connection, and whoever listens, can compute that; with a HelloRetryRequest there are several ways to read
// it. None of them is the exporter.
func TestBinderOfTranscript(t *testing.T) {
	// The server's last hello is not in them: Go sends it together with the ticket. It is as public as the rest.
	readings := map[string]func(client, server [][]byte) []byte{
		"first hello":           func(c, _ [][]byte) []byte { return c[0] },
		"last hello":            func(c, _ [][]byte) []byte { return c[len(c)-1] },
		"all hellos":            func(c, s [][]byte) []byte { return join(append(append([][]byte{}, c...), s...)...) },
		"with the message hash": func(c, s [][]byte) []byte { return join(messageHash(c[0]), join(s...), c[len(c)-1]) },
	}
	for _, retry := range []bool{false, true} {
		for name, reading := range readings {
			r := newRig(t).mutual(t)
			rogue := r.rogue()
			if retry {
				rogue.curves = []tls.CurveID{tls.CurveP521} // the client has sent no share for it
			}
			var seen atomic.Pointer[tap]
			rogue.tapped = &seen
			rogue.ticket = func(sni string, cs tls.ConnectionState) []byte {
				if cs.HelloRetryRequest != retry {
					t.Errorf("HelloRetryRequest: %v, want %v", cs.HelloRetryRequest, retry)
				}
				toClient, fromClient := seen.Load().seen() // at the server's end
				if hellos := len(handshakeRecords(fromClient)); hellos != 1 && !retry || hellos != 2 && retry {
					t.Errorf("%d hellos were seen", hellos)
				}
				claims := claimsFor(t, attest.RoleServer, sni, r.leafKey, &cs, brokerIdentity)
				claims.Binder = sha256.Sum256(reading(handshakeRecords(fromClient), handshakeRecords(toClient)))
				return ticketOf(quote(t, r.tee, attest.PurposeConnection, claims))
			}
			addr, got := rogue.serve(t)
			_, err := dial(t, addr, r.client)
			wantKind(t, name, err, attest.ErrBinding)
			if data := Receive(t, got); len(data) != 0 {
				t.Errorf("%s: the attacker got %d bytes of the application", name, len(data))
			}
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// messageHash stands for the first hello after a HelloRetryRequest (RFC 8446, 4.4.1).
func messageHash(hello []byte) []byte {
	sum := sha256.Sum256(hello)
	return append([]byte{254, 0, 0, 32}, sum[:]...)
}

// handshakeRecords gives what is in clear in a stream: hellos.
func handshakeRecords(stream []byte) (messages [][]byte) {
	for len(stream) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(stream[3:]))
		if n > len(stream) {
			return messages
		}
		if stream[0] == 22 {
			messages = append(messages, stream[5:n])
		}
		stream = stream[n:]
	}
	return messages
}

// TestHelloRetryRequest: the exporter is one and the same on both sides, whatever way the handshake went; and a relay is
// refused all the same.
func TestHelloRetryRequest(t *testing.T) {
	r := newRig(t)
	rogue := r.rogue()
	rogue.curves = []tls.CurveID{tls.CurveP521}
	retried := false
	rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
		retried = cs.HelloRetryRequest
		return ticketOf(quote(t, r.tee, attest.PurposeConnection, claimsFor(t, attest.RoleServer, name, r.leafKey, &cs, brokerIdentity)))
	}
	addr, _ := rogue.serve(t)
	conn, err := dial(t, addr, r.client)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if !retried {
		t.Error("there was no HelloRetryRequest, so nothing was tested")
	}

	genuine, _ := start(t, r.server)
	rogue.ticket = func(name string, _ tls.ConnectionState) []byte {
		onward, err := r.dialRogue(t, genuine, name, nil)
		if err != nil {
			t.Error("relay could not connect onward:", err)
			return []byte{0}
		}
		defer onward.Close()
		return ticketOf(onward.evidence(t))
	}
	_, err = dial(t, addr, r.client)
	wantKind(t, "client", err, attest.ErrBinding)
}

// TestOracle: something beside the broker in the same TEE gets quotes, for data that the attacker chooses. The first byte
// of what is quoted says for which protocol it was made, and the runtime writes it.
func TestOracle(t *testing.T) {
	for purpose, name := range map[attest.Purpose]string{
		attest.PurposeCertificate: "certificate request", attest.PurposeGuest: "data of a guest", attest.PurposeConnection: "control",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			rogue := r.rogue()
			rogue.ticket = func(sni string, cs tls.ConnectionState) []byte {
				return ticketOf(quote(t, r.tee, purpose, claimsFor(t, attest.RoleServer, sni, r.leafKey, &cs, brokerIdentity)))
			}
			addr, _ := rogue.serve(t)
			_, err := dial(t, addr, r.client)
			if purpose == attest.PurposeConnection {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, "client", err, attest.ErrBinding)
		})
	}
}

// TestClientOffersNoSession: a server that would resume anything is never asked to, so that each connection is
// appraised.
func TestClientOffersNoSession(t *testing.T) {
	r := newRig(t)
	rogue := r.rogue()
	var offered, resumed atomic.Int32
	rogue.unwrap = func([]byte, tls.ConnectionState) (*tls.SessionState, error) {
		offered.Add(1)
		return nil, nil
	}
	rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
		if cs.DidResume {
			resumed.Add(1)
		}
		return ticketOf(quote(t, r.tee, attest.PurposeConnection, claimsFor(t, attest.RoleServer, name, r.leafKey, &cs, brokerIdentity)))
	}
	addr, _ := rogue.serve(t)
	for range 3 {
		conn, err := dial(t, addr, r.client)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if offered.Load() != 0 || resumed.Load() != 0 {
		t.Errorf("%d sessions were offered, %d resumed", offered.Load(), resumed.Load())
	}
	// The control: a client that does keep sessions offers one.
	cache := &recordingCache{ClientSessionCache: tls.NewLRUClientSessionCache(1), put: make(chan bool, 8)}
	for range 2 {
		c, err := r.dialRogue(t, addr, label([32]byte{8})+".n1."+service, func(config *tls.Config) { config.ClientSessionCache = cache })
		if err != nil {
			t.Fatal(err)
		}
		go c.Read(make([]byte, 1)) // until the test closes the connection
		Receive(t, cache.put)
	}
	if offered.Load() == 0 {
		t.Error("control: the server was never asked to resume, so nothing was tested")
	}
}

// TestClientIsNotReflected: evidence that a client has just given is shown to it as the server's, on its next
// connection.
func TestClientIsNotReflected(t *testing.T) {
	r := newRig(t).mutual(t)
	genuine, outcomes := start(t, r.server)
	raw := Must(net.Dial("tcp", genuine))(t)
	conn, err := atls.Client(testContext(t), raw, &r.client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server := Receive(t, outcomes)
	if server.err != nil || server.conn.Peer().Verdict == nil {
		t.Fatal("control:", server.err)
	}
	rogue := r.rogue()
	rogue.ticket = func(name string, cs tls.ConnectionState) []byte {
		// What the client's TEE makes for this connection, as the client itself would send it.
		claims := claimsFor(t, attest.RoleClient, name, r.leafKey, &cs, sensorIdentity)
		return ticketOf(quote(t, r.sensor, attest.PurposeConnection, claims))
	}
	addr, _ := rogue.serve(t)
	both := brokerPolicy(r)
	both.AnyOf, both.Modules = append(both.AnyOf, pinned(r.sensor)), append(both.Modules, sensorIdentity.Module)
	both.Configs = append(both.Configs, sensorIdentity.Config)
	r.client.Server = appraiser(t, both) // even where the client would accept its own kind as a server
	_, err = dial(t, addr, r.client)
	wantKind(t, "client", err, attest.ErrRole)
}
