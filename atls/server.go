package atls

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/records"
)

// ServerConfig is what a server needs. Only Service and Certificate are required; without Attester and Batcher a
// server serves ordinary TLS and refuses clients that ask for evidence.
type ServerConfig struct {
	Service     string          // name of the service
	Certificate tls.Certificate // leaf for Service, *.n1.Service, *.x1.Service and the public name, see package owner
	ECHKeys     []*ECHKey       // newest first; two generations may be in use at a time
	Attester    attest.Attester
	Identity    attest.Identity // what the evidence claims
	// Batcher makes the evidence, in place of Attester. Servers that have the same quoting device should have the same
	// Batcher, so that one quote can serve connections of them all. nil: the server makes one around Attester.
	Batcher *attest.Batcher

	// Clients judges evidence of clients; nil: evidence is not looked at.
	Clients *policy.Appraiser
	// RequireClientEvidence refuses every client without accepted evidence, ordinary ones too.
	RequireClientEvidence bool

	// MinVersion of ordinary TLS: tls.VersionTLS13 (default) or tls.VersionTLS12. Attested TLS needs 1.3.
	MinVersion uint16
	// ClientAuth says whether clients of ordinary TLS are asked for a certificate. Whether those with a bundle are,
	// is for Reveal to say.
	ClientAuth tls.ClientAuthType
	ClientCAs  *x509.CertPool // of certificates of clients
	// VerifyConnection is asked about each connection that may have shown a certificate, once that has been verified;
	// an error ends the handshake. It is where revocation is looked at. nil: nothing more is asked.
	VerifyConnection func(tls.ConnectionState) error

	// Reveal says who may see the evidence; "" is RevealFirst.
	Reveal Reveal
	// P1WithoutECH serves carrier P1 also to clients whose server name is in clear, for TLS stacks that cannot do
	// ECH. EVERYBODY ON THE WAY THEN SEES the name of the service, the nonce, and that evidence is asked for; the
	// evidence itself stays encrypted. Other carriers need ECH in any case.
	P1WithoutECH bool

	HandshakeTimeout time.Duration // default 10 s, 30 s with a TPM
	EvidenceTimeout  time.Duration // for making evidence, and for the client's frame; default 5 s, 30 s with a TPM

	Rand io.Reader        // for blinds; default crypto/rand
	Now  func() time.Time // default time.Now
}

// Reveal says to whom a server shows its evidence.
type Reveal string

// Who may see evidence.
const (
	RevealFirst Reveal = "first" // whoever has the bundle
	// RevealAuthenticated shows it to clients that have shown a certificate under ClientCAs. All clients with a bundle
	// need one then, also those that ask for no evidence, so that they look alike. It costs N1 a round trip.
	RevealAuthenticated Reveal = "authenticated"
)

// Server takes TLS connections. It is immutable but for the size of its tickets: to change certificate, keys,
// identity or policy, make a new one.
type Server struct {
	config    ServerConfig
	ech       []tls.EncryptedClientHelloKey
	serverKey attest.Digest
	ordinary  *tls.Config
	base      *tls.Config  // that every handshake begins with
	ticket    atomic.Int64 // size of tickets; grows if evidence does not fit
}

// NewServer checks the configuration and, if there is an attester, has it make evidence once: a broken one is
// found before clients come, and the size of tickets is known.
func NewServer(ctx context.Context, config ServerConfig) (*Server, error) {
	if err := CheckServiceName(config.Service); err != nil {
		return nil, err
	}
	s := &Server{config: config.withDefaults(), ech: echKeysForTLS(config.ECHKeys)}
	leaf, err := leafOf(&config.Certificate)
	if err != nil {
		return nil, err
	}
	// A server that does not attest may have a certificate for any name.
	if err := leaf.VerifyHostname(config.Service); err != nil && s.config.Batcher != nil {
		return nil, fmt.Errorf("certificate is not for service %q: %w", config.Service, err)
	}
	s.serverKey = attest.Sum(leaf.RawSubjectPublicKeyInfo)
	s.base = s.tlsConfig()
	s.base.GetConfigForClient = configForClient
	s.ordinary = s.tlsConfig()
	s.ordinary.MinVersion = s.config.MinVersion
	s.askForCertificate(s.ordinary, config.ClientAuth)
	s.ticket.Store(smallTicket)
	if err := config.check(); err != nil || s.config.Batcher == nil {
		return s, err
	}
	return s, s.tryAttester(ctx)
}

// check says what of a configuration does not go together.
func (c *ServerConfig) check() error {
	switch c.Reveal {
	case "", RevealFirst:
	case RevealAuthenticated:
		if c.ClientCAs == nil {
			return fmt.Errorf("reveal %q needs the CA of clients' certificates: nobody could show one", c.Reveal)
		}
	default:
		return fmt.Errorf("reveal %q is neither %q nor %q", c.Reveal, RevealFirst, RevealAuthenticated)
	}
	if (c.Attester != nil || c.Batcher != nil) && len(c.ECHKeys) == 0 {
		return errors.New("a server that attests needs an ECH key")
	}
	return nil
}

func (c ServerConfig) withDefaults() ServerConfig {
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS13
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Batcher == nil && c.Attester != nil {
		c.Batcher = attest.NewBatcher(c.Attester)
	}
	platform := attest.Platform("")
	if c.Batcher != nil {
		platform = c.Batcher.Platform()
	}
	c.EvidenceTimeout = orDefault(c.EvidenceTimeout, evidenceTimeout(platform, c.Clients))
	c.HandshakeTimeout = orDefault(c.HandshakeTimeout, handshakeTimeout(c.EvidenceTimeout))
	return c
}

func leafOf(c *tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("certificate is missing")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return leaf, nil
}

// tlsConfig returns what all configurations of the server have in common. Nothing is ever resumed: tickets
// are off, and where one is issued for its evidence, UnwrapSession knows none. ECH keys are repeated on
// every configuration, since Go takes retry configurations from the one that GetConfigForClient returns.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		Certificates:             []tls.Certificate{s.config.Certificate},
		MinVersion:               tls.VersionTLS13,
		NextProtos:               []string{ALPN},
		EncryptedClientHelloKeys: s.ech,
		SessionTicketsDisabled:   true,
		UnwrapSession:            neverResume,
		Renegotiation:            tls.RenegotiateNever,
		// Messages leave in large batches: small first records would only cost time.
		DynamicRecordSizingDisabled: true,
		Time:                        s.config.Now,
	}
}

// askForCertificate makes a configuration ask clients for a certificate.
func (s *Server) askForCertificate(config *tls.Config, how tls.ClientAuthType) {
	config.ClientAuth, config.ClientCAs, config.VerifyConnection = how, s.config.ClientCAs, s.config.VerifyConnection
}

func neverResume([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil }

// tryAttester makes evidence for a connection that does not exist.
func (s *Server) tryAttester(ctx context.Context) error {
	claims := attest.Claims{Identity: s.config.Identity}
	claims.Role, claims.Phase, claims.Service, claims.OwnKey = attest.RoleServer, attest.PhaseConnect, s.config.Service, &s.serverKey
	evidence, err := s.config.Batcher.Make(ctx, attest.PurposeConnection, &claims, s.config.Rand)
	if err != nil {
		return fmt.Errorf("trial of the attester: %w", err)
	}
	s.growTicket(len(evidence) + attest.MaxProofSize) // so that the size does not tell when a quote is shared
	return nil
}

// growTicket makes tickets large enough for n bytes, from now on and for all connections.
func (s *Server) growTicket(n int) {
	if size := int64(ticketSize(n)); size > s.ticket.Load() {
		s.ticket.Store(size)
	}
}

// Handshake takes one connection: TLS, then, if the client used a bundle, frames of evidence. It returns a Conn, or an
// error and raw closed. Errors have an attest.Kind; the other side is not told which.
func (s *Server) Handshake(ctx context.Context, raw net.Conn) (*Conn, error) {
	h := &serverHandshake{server: s, session: session{service: s.config.Service, serverKey: &s.serverKey}}
	conn, err := h.run(ctx, raw)
	if err != nil {
		if conn != nil {
			_ = raw.SetDeadline(time.Now().Add(closeTimeout))
			_ = conn.Close() // says close_notify
		}
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// serverHandshake is the state of one connection while it is set up.
type serverHandshake struct {
	server *Server
	session
	name     string // as asked for
	ticketed bool
	ticket   *[smallTicket]byte // is to be given back; nil if there is none
	tickets  *ticketMaker       // nil if the configuration of the connection has none
	// refusal is why the connection must not be used. The handshake completes all the same, so that all
	// refusals look alike on the wire.
	refusal error
}

func (h *serverHandshake) run(ctx context.Context, raw net.Conn) (*Conn, error) {
	below := records.Below(raw)
	c := &Conn{Conn: tls.Server(below, h.server.base), below: below}
	d := startDeadline(ctx, raw, h.server.config.HandshakeTimeout, "TLS handshake")
	err := c.HandshakeContext(context.WithValue(d.ctx, handshakeKey{}, h))
	if h.tickets != nil {
		*h.tickets = ticketMaker{} // it has made what it was for
	}
	h.ticket = giveBack(h.ticket) // crypto/tls has put it into a record
	if err := d.stop(err); err != nil {
		return nil, err
	}
	cs := c.ConnectionState()
	h.clientKey = leafKey(cs.PeerCertificates)
	c.session = h.session
	c.peer = Peer{
		Carrier: h.carrier, ServerName: h.name, Certificates: cs.PeerCertificates,
		ALPN: cs.NegotiatedProtocol, TLSVersion: cs.Version,
	}
	if h.carrier == P1 {
		if err := h.sendEvidence(ctx, c, &cs); err != nil {
			return c, err
		}
	}
	return c, h.appraise(ctx, c, &cs)
}

// handshakeKey is where the context of a handshake of TLS has the *serverHandshake, so that all can begin with one configuration.
type handshakeKey struct{}

func configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	return hello.Context().Value(handshakeKey{}).(*serverHandshake).configForClient(hello)
}

// configForClient sees the inner server name if ECH was accepted, the outer otherwise.
func (h *serverHandshake) configForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	h.name = hello.ServerName
	h.carrier, h.nonce, h.refusal = parseServerName(hello.ServerName, h.service)
	if h.carrier == Ordinary {
		return h.server.ordinary, nil
	}
	h.name = h.service
	config := h.server.tlsConfig()
	if h.server.config.Reveal == RevealAuthenticated {
		h.server.askForCertificate(config, tls.RequireAndVerifyClientCert)
	}
	if h.carrier == P1 {
		return config, nil
	}
	config.SessionTicketsDisabled = false
	h.tickets = &ticketMaker{h, hello.Context()}
	config.WrapSession = h.tickets.wrap
	return config, nil
}

// ticketMaker makes the ticket of a handshake. The connection keeps it with its configuration, but not what it knows, which is more.
type ticketMaker struct {
	handshake *serverHandshake
	ctx       context.Context
}

func (m *ticketMaker) wrap(cs tls.ConnectionState, _ *tls.SessionState) ([]byte, error) {
	return m.handshake.makeTicket(m.ctx, &cs), nil
}

// makeTicket runs when the server's Finished has been written into the first flight and nothing of it has
// been sent, or, with RevealAuthenticated, when the client's certificate has been verified. What fails here gives an empty ticket: on the wire it looks like any other.
func (h *serverHandshake) makeTicket(ctx context.Context, cs *tls.ConnectionState) []byte {
	h.ticketed, h.clientKey = true, leafKey(cs.PeerCertificates)
	var evidence []byte
	if h.refusal = h.check(cs); h.refusal == nil && h.carrier == N1 {
		evidence, h.refusal = h.evidence(ctx, cs)
	}
	h.server.growTicket(len(evidence))
	size := int(h.server.ticket.Load())
	if size != smallTicket {
		return packTicket(evidence, make([]byte, size))
	}
	h.ticket = ticketRoom.Get().(*[smallTicket]byte)
	return packTicket(evidence, h.ticket[:])
}

// sendEvidence gives a client of carrier P1 its evidence, before anything else. What fails here gives an empty
// frame, and then the end of the connection.
func (h *serverHandshake) sendEvidence(ctx context.Context, c *Conn, cs *tls.ConnectionState) error {
	var evidence []byte
	if h.refusal = h.check(cs); h.refusal == nil {
		evidence, h.refusal = h.evidence(ctx, cs)
	}
	d := startDeadline(ctx, c.NetConn(), h.server.config.EvidenceTimeout, "sending evidence")
	err := d.stop(writeFrame(c.Conn, evidence))
	if h.refusal != nil {
		return h.refusal
	}
	return err
}

// check checks what must hold of TLS for the carrier.
func (h *serverHandshake) check(cs *tls.ConnectionState) error {
	return checkConnection(cs, h.carrier == P1 && h.server.config.P1WithoutECH)
}

func (h *serverHandshake) evidence(ctx context.Context, cs *tls.ConnectionState) ([]byte, error) {
	config := &h.server.config
	if config.Batcher == nil {
		return nil, attest.Errorf(attest.ErrAttester, "client asks for evidence, and this server has no attester")
	}
	binding, err := h.binding(attest.RoleServer, h.connecting(), cs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, config.EvidenceTimeout)
	defer cancel()
	claims := &attest.Claims{Binding: binding, Identity: config.Identity, IssuedAt: config.Now().Unix()}
	return config.Batcher.Make(ctx, attest.PurposeConnection, claims, config.Rand)
}

// appraise decides about the client once TLS stands.
func (h *serverHandshake) appraise(ctx context.Context, c *Conn, cs *tls.ConnectionState) error {
	if h.refusal != nil {
		return h.refusal
	}
	config := &h.server.config
	if h.carrier == Ordinary {
		if config.RequireClientEvidence {
			return attest.Errorf(attest.ErrMissing, "client did not use attested TLS, and this listener requires evidence")
		}
		return nil
	}
	if err := h.check(cs); err != nil {
		return err
	}
	if !h.ticketed && h.carrier != P1 {
		return attest.Errorf(attest.ErrFormat, "client asks for attested TLS and does not take session tickets")
	}
	evidence, err := h.readClientFrame(ctx, c)
	if err != nil {
		return err
	}
	return h.judgeClient(ctx, c, cs, evidence)
}

func (h *serverHandshake) readClientFrame(ctx context.Context, c *Conn) ([]byte, error) {
	d := startDeadline(ctx, c.NetConn(), h.server.config.EvidenceTimeout, "evidence of the client")
	evidence, err := readFrame(c.Conn)
	if err := d.stop(err); err != nil {
		return nil, err
	}
	if evidence != nil && h.carrier == X1 {
		return nil, attest.Errorf(attest.ErrFormat, "client attests without having asked for the server's evidence")
	}
	return evidence, nil
}

func (h *serverHandshake) judgeClient(ctx context.Context, c *Conn, cs *tls.ConnectionState, evidence []byte) error {
	config := &h.server.config
	if evidence == nil || config.Clients == nil {
		if config.RequireClientEvidence {
			return attest.Errorf(attest.ErrMissing, "client gave no evidence, and this listener requires it")
		}
		return nil
	}
	binding, err := h.binding(attest.RoleClient, h.connecting(), cs)
	if err != nil {
		return err
	}
	verdict := config.Clients.Appraise(ctx, evidence, binding, config.Now())
	c.peer.Verdict = verdict
	if !verdict.Accepted {
		return &RefusedError{Role: attest.RoleClient, Verdict: verdict, Peer: &c.peer}
	}
	c.peer.Attested, c.peer.Identities = true, verdict.Identities
	return nil
}
