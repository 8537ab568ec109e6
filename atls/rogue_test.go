package atls_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base32"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// The attackers here are programs of their own over crypto/tls: they share no code with package atls, and
// compute the protocol's formula a second time.

// rogueServer has stolen the broker's certificate key and its ECH key. It is not in a TEE.
type rogueServer struct {
	certificate tls.Certificate
	ech         []tls.EncryptedClientHelloKey
	maxVersion  uint16
	curves      []tls.CurveID // nil: all
	tapped      *atomic.Pointer[tap]
	unwrap      func([]byte, tls.ConnectionState) (*tls.SessionState, error)
	// ticket makes the label of its session ticket; nil: it sends none.
	ticket          func(name string, cs tls.ConnectionState) []byte
	wantCertificate bool // of the client
	// speak is called after the handshake; nil: wait for the client to go.
	speak func(*tls.Conn)
}

// serve starts the attacker. What applications sent to it comes on the channel, once for each connection.
func (s *rogueServer) serve(t testing.TB) (addr string, got chan []byte) {
	got = make(chan []byte, 16)
	addr = serve(t, func(raw net.Conn) {
		if s.tapped != nil {
			seen := &tap{Conn: raw}
			s.tapped.Store(seen)
			raw = seen
		}
		conn := tls.Server(raw, s.config())
		if conn.Handshake() != nil {
			got <- nil
			return
		}
		if s.speak != nil {
			s.speak(conn)
		}
		data, _ := io.ReadAll(conn)
		got <- data
	})
	return addr, got
}

func (s *rogueServer) config() *tls.Config {
	base := &tls.Config{Certificates: []tls.Certificate{s.certificate}, EncryptedClientHelloKeys: s.ech, NextProtos: []string{"mqtt"}, MaxVersion: s.maxVersion, CurvePreferences: s.curves, UnwrapSession: s.unwrap}
	if s.wantCertificate {
		base.ClientAuth = tls.RequireAnyClientCert
	}
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config := base.Clone()
		config.GetConfigForClient = nil
		config.SessionTicketsDisabled = s.ticket == nil
		if s.ticket != nil {
			config.WrapSession = func(cs tls.ConnectionState, _ *tls.SessionState) ([]byte, error) {
				return s.ticket(hello.ServerName, cs), nil
			}
		}
		return config, nil
	}
	return base
}

// give makes the attacker give evidence by the carrier that it is asked for.
func (s *rogueServer) give(carrier atls.Carrier, evidence func(name string, cs *tls.ConnectionState) []byte) {
	if carrier == atls.N1 {
		s.ticket = func(name string, cs tls.ConnectionState) []byte { return ticketOf(evidence(name, &cs)) }
		return
	}
	s.speak = func(c *tls.Conn) {
		cs := c.ConnectionState()
		c.Write(frameOf(evidence(cs.ServerName, &cs)))
	}
}

func (r *rig) rogue() *rogueServer {
	return &rogueServer{certificate: r.server.Certificate, ech: stolen(r.ech)}
}

// stolen takes an ECH key from its file.
func stolen(key *atls.ECHKey) []tls.EncryptedClientHelloKey {
	block, _ := pem.Decode(key.Marshal())
	return []tls.EncryptedClientHelloKey{{Config: block.Bytes[32:], PrivateKey: block.Bytes[:32], SendAsRetry: true}}
}

func nonceOf(t testing.TB, name string) (n [32]byte) {
	t.Helper()
	label, _, _ := strings.Cut(name, ".")
	b := Must(base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(label)))(t)
	return [32]byte(b)
}

func label(n [32]byte) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(n[:]))
}

// claimsFor computes the claims that evidence for a connection must carry.
func claimsFor(t testing.TB, role attest.Role, name string, key *ecdsa.PrivateKey, cs *tls.ConnectionState, id attest.Identity) *attest.Claims {
	t.Helper()
	n := nonceOf(t, name)
	context := Must(attest.ExporterContext(role, attest.PhaseConnect, 0, n, nil))(t)
	binder := Must(cs.ExportKeyingMaterial("EXPERIMENTAL-vouchmq-attest-v1", context, 32))(t)
	leaf := attest.Sum(Must(spki(key))(t))
	c := &attest.Claims{Identity: id}
	c.Nonce, c.Binder, c.Role, c.Phase, c.Service = n, [32]byte(binder), role, attest.PhaseConnect, service
	if c.OwnKey = &leaf; role == attest.RoleClient {
		c.OwnKey, c.PeerKey = nil, &leaf
	}
	carrier := strings.Split(name, ".")[1]
	c.Request = attest.Sum(Must(dcbor.Encode([]any{1, carrier, cs.NegotiatedProtocol, cs.Version, cs.CipherSuite}))(t))
	return c
}

// ticketOf pads evidence as the protocol wants.
func ticketOf(evidence []byte) []byte {
	t := make([]byte, 10240)
	binary.BigEndian.PutUint32(t, uint32(len(evidence)))
	copy(t[4:], evidence)
	return t
}

// rogueClient is an attacker that has the bundle, as everybody may.
type rogueClient struct {
	*tls.Conn
	name   string
	ticket chan []byte
}

// Get and Put make it a session cache that gives the ticket away.
func (c *rogueClient) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (c *rogueClient) Put(_ string, state *tls.ClientSessionState) {
	if ticket, _, err := state.ResumptionState(); err == nil && len(c.ticket) == 0 {
		c.ticket <- ticket
	}
}

// dialRogue connects under a name of the attacker's choice.
func (r *rig) dialRogue(t testing.TB, addr, name string, change func(*tls.Config)) (*rogueClient, error) {
	t.Helper()
	c := &rogueClient{name: name, ticket: make(chan []byte, 1)}
	config := &tls.Config{
		ServerName: name, RootCAs: r.ca.Pool(), NextProtos: []string{"mqtt"},
		EncryptedClientHelloConfigList: r.client.ECHConfigList, ClientSessionCache: c,
	}
	if change != nil {
		change(config)
	}
	raw := Must(net.Dial("tcp", addr))(t)
	t.Cleanup(func() { raw.Close() })
	c.Conn = tls.Client(raw, config)
	return c, c.HandshakeContext(testContext(t))
}

// evidence reads the server's evidence, from its ticket or its frame.
func (c *rogueClient) evidence(t testing.TB) []byte {
	t.Helper()
	if strings.Contains(c.name, ".p1.") {
		length := make([]byte, 4)
		Must(io.ReadFull(c.Conn, length))(t)
		evidence := make([]byte, binary.BigEndian.Uint32(length))
		Must(io.ReadFull(c.Conn, evidence))(t)
		return evidence
	}
	go c.Read(make([]byte, 1)) // until the test closes the connection
	ticket := Receive(t, c.ticket)
	return ticket[4 : 4+binary.BigEndian.Uint32(ticket)]
}

// frameOf is a frame of evidence.
func frameOf(evidence []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(evidence))), evidence...)
}
