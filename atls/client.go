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
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/records"
)

// ClientConfig is what a client needs.
type ClientConfig struct {
	Service       string         // name of the service
	Roots         *x509.CertPool // the owner CA; nothing else should be in it
	ECHConfigList []byte         // of the server

	// Server judges the server's evidence. It is required unless Unattested is set.
	Server *policy.Appraiser
	// Unattested asks for no evidence (carrier X1): the server is known by its certificate only. An
	// observer cannot tell the difference.
	Unattested bool

	// Carrier is how the server's evidence travels: N1 ("" is the same), or P1, which takes a round trip more and can
	// be told by its shape. No server can change it.
	Carrier Carrier

	// Certificate is shown to a server that asks for one before it reveals its evidence; nil: none.
	Certificate *tls.Certificate

	// Observe is told the server's evidence as it came, before it is judged, for those who want to keep it; nil: nobody does.
	// It must not keep the slice.
	Observe func(evidence []byte)

	// Attester makes this client's own evidence, sent only after the server was accepted; nil: none.
	Attester attest.Attester
	Identity attest.Identity // what this client's evidence claims

	HandshakeTimeout time.Duration // default 10 s, 30 s with a TPM
	EvidenceTimeout  time.Duration // for the server's evidence, and for making own evidence; default 5 s, 30 s with a TPM

	Rand io.Reader        // for nonce and blind; default crypto/rand
	Now  func() time.Time // default time.Now
}

func (c *ClientConfig) withDefaults() (*ClientConfig, error) {
	d := *c
	if err := CheckServiceName(d.Service); err != nil {
		return nil, err
	}
	if d.Roots == nil {
		return nil, errors.New("attested TLS: no owner CA is given")
	}
	if _, err := CheckECHConfigList(d.ECHConfigList); err != nil {
		return nil, err
	}
	if d.Server == nil && !d.Unattested {
		return nil, errors.New("attested TLS: no policy for the server is given")
	}
	if err := d.chooseCarrier(); err != nil {
		return nil, err
	}
	d.EvidenceTimeout = orDefault(d.EvidenceTimeout, evidenceTimeout(d.platform(), d.Server))
	d.HandshakeTimeout = orDefault(d.HandshakeTimeout, handshakeTimeout(d.EvidenceTimeout))
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &d, nil
}

// platform is that of this client's own evidence, "" if it has none.
func (c *ClientConfig) platform() attest.Platform {
	if c.Attester == nil {
		return ""
	}
	return c.Attester.Platform()
}

// chooseCarrier puts the carrier that is meant into Carrier.
func (c *ClientConfig) chooseCarrier() error {
	switch {
	case c.Unattested && c.Carrier == "":
		c.Carrier = X1
	case c.Unattested:
		return fmt.Errorf("attested TLS: carrier %q is given, and no evidence is to be asked for", c.Carrier)
	case c.Carrier == "":
		c.Carrier = N1
	case !c.Carrier.attests():
		return fmt.Errorf("attested TLS: carrier %q is neither %s nor %s", c.Carrier, N1, P1)
	}
	return nil
}

// Dial connects with dial and Client. If the server has newer ECH keys than the client knows, it says which,
// under the owner CA; Dial then tries once more with those and a new nonce. It does not keep them.
func Dial(ctx context.Context, dial func(context.Context) (net.Conn, error), config *ClientConfig) (*Conn, error) {
	conn, err := dialOnce(ctx, dial, config)
	var rejected *tls.ECHRejectionError
	if err == nil || !errors.As(err, &rejected) {
		return conn, err
	}
	if len(rejected.RetryConfigList) == 0 {
		return nil, attest.Errorf(attest.ErrECH, "server does not accept Encrypted Client Hello and offers no newer key: fetch a new bundle from the owner")
	}
	again := *config
	again.ECHConfigList = rejected.RetryConfigList
	return dialOnce(ctx, dial, &again)
}

func dialOnce(ctx context.Context, dial func(context.Context) (net.Conn, error), config *ClientConfig) (*Conn, error) {
	raw, err := dial(ctx)
	if err != nil {
		return nil, ofKind(attest.ErrTLS, "connect", err)
	}
	return Client(ctx, raw, config)
}

// Client sets up attested TLS over raw. It returns a Conn once the server's evidence has been accepted, and
// only then: nothing of the application can have been sent before. Otherwise it returns an error with an
// attest.Kind, and raw closed; if there was evidence to judge, the error is a *RefusedError.
func Client(ctx context.Context, raw net.Conn, config *ClientConfig) (*Conn, error) {
	h, err := newClientHandshake(raw, config)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	conn, err := h.run(ctx)
	if err != nil {
		_ = raw.SetDeadline(time.Now().Add(closeTimeout))
		_ = h.tls.Close() // says close_notify if there was a handshake
		return nil, err
	}
	return conn, nil
}

// clientHandshake is the state of one connection while it is set up.
type clientHandshake struct {
	config *ClientConfig
	session
	trap  *ticketTrap
	below *records.Socket
	tls   *tls.Conn
	asked bool // for a certificate
}

func newClientHandshake(raw net.Conn, config *ClientConfig) (*clientHandshake, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &clientHandshake{config: config, session: session{carrier: config.Carrier, service: config.Service}}
	if _, err := io.ReadFull(config.Rand, h.nonce[:]); err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "read randomness: %w", err)
	}
	h.below = records.Below(raw)
	h.trap = &ticketTrap{conn: &pausingConn{Conn: h.below}}
	if h.carrier != N1 {
		h.trap.disarm() // what ticket may come is of no interest
	}
	h.tls = tls.Client(h.trap.conn, &tls.Config{
		ServerName:                     serverName(h.nonce, h.carrier, h.service),
		RootCAs:                        config.Roots,
		MinVersion:                     tls.VersionTLS13,
		NextProtos:                     []string{ALPN},
		EncryptedClientHelloConfigList: config.ECHConfigList,
		ClientSessionCache:             h.trap, // for all carriers: an extension of the hello shows it
		GetClientCertificate:           h.certificate,
		Renegotiation:                  tls.RenegotiateNever,
		DynamicRecordSizingDisabled:    true,
		Time:                           config.Now,
	})
	return h, nil
}

func (h *clientHandshake) run(ctx context.Context) (*Conn, error) {
	raw := h.trap.conn.Conn
	d := startDeadline(ctx, raw, h.config.HandshakeTimeout, "TLS handshake")
	if err := d.stop(echError(h.tls.HandshakeContext(d.ctx))); err != nil {
		return nil, err
	}
	cs := h.tls.ConnectionState()
	if err := checkConnection(&cs, false); err != nil {
		return nil, err
	}
	h.serverKey = leafKey(cs.PeerCertificates)
	c := &Conn{Conn: h.tls, below: h.below, session: h.session, peer: Peer{
		Carrier: h.carrier, ServerName: h.service, Certificates: cs.PeerCertificates,
		ALPN: cs.NegotiatedProtocol, TLSVersion: cs.Version, CertificateAsked: h.asked,
	}}
	c.rounds.client = h.config
	return c, h.attest(ctx, c, &cs)
}

// attest judges the server, and then, not before, lets this client's own evidence go. To make that may take as long again as to
// wait for the server's.
func (h *clientHandshake) attest(ctx context.Context, c *Conn, cs *tls.ConnectionState) error {
	raw, timeout := h.trap.conn.Conn, h.config.EvidenceTimeout
	if h.carrier.attests() {
		d := startDeadline(ctx, raw, timeout, "waiting for the server's evidence")
		err := h.judgeServer(d.ctx, c, cs)
		if err == nil && h.config.Attester == nil {
			return d.stop(writeFrame(h.tls, nil))
		}
		if err := d.stop(err); err != nil {
			return err
		}
	}
	d := startDeadline(ctx, raw, timeout, "sending this client's evidence")
	return d.stop(h.sendEvidence(d.ctx, cs))
}

func (h *clientHandshake) judgeServer(ctx context.Context, c *Conn, cs *tls.ConnectionState) error {
	evidence, early, err := h.readEvidence()
	if err != nil {
		return h.evidenceError(err)
	}
	binding, err := h.binding(attest.RoleServer, h.connecting(), cs)
	if err != nil {
		return err
	}
	if h.config.Observe != nil {
		h.config.Observe(evidence)
	}
	verdict := h.config.Server.Appraise(ctx, evidence, binding, h.config.Now())
	c.peer.Verdict = verdict
	if !verdict.Accepted {
		return &RefusedError{Role: attest.RoleServer, Verdict: verdict, Peer: &c.peer}
	}
	if len(early) > 0 {
		c.early.Store(&early[0])
	}
	c.peer.Attested, c.peer.Identities = true, verdict.Identities
	return nil
}

// readEvidence waits for the server's evidence, and returns with it what application data came along.
func (h *clientHandshake) readEvidence() (evidence, early []byte, err error) {
	if h.carrier == P1 {
		evidence, err = readServerFrame(h.tls)
		return evidence, nil, err
	}
	if early, err = h.trap.readTicket(h.tls); err != nil {
		return nil, nil, err
	}
	evidence, err = unpackTicket(h.trap.ticket)
	h.trap.disarm()
	return evidence, early, err
}

// sendEvidence sends the client's frame. It is empty for a client that has nothing to show, or has not seen
// evidence of the server.
func (h *clientHandshake) sendEvidence(ctx context.Context, cs *tls.ConnectionState) error {
	if h.config.Attester == nil || !h.carrier.attests() {
		return writeFrame(h.tls, nil)
	}
	evidence, err := h.evidence(ctx, cs)
	if err != nil {
		return err
	}
	return writeFrame(h.tls, evidence)
}

func (h *clientHandshake) evidence(ctx context.Context, cs *tls.ConnectionState) ([]byte, error) {
	binding, err := h.binding(attest.RoleClient, h.connecting(), cs)
	if err != nil {
		return nil, err
	}
	claims := &attest.Claims{Binding: binding, Identity: h.config.Identity, IssuedAt: h.config.Now().Unix()}
	return attest.Make(ctx, h.config.Attester, attest.PurposeConnection, claims, h.config.Rand)
}

// certificate is asked for the client's certificate, if the server wants one.
func (h *clientHandshake) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	h.asked = true
	if h.config.Certificate == nil {
		return new(tls.Certificate), nil
	}
	leaf, err := leafOf(h.config.Certificate)
	if err != nil {
		return nil, err
	}
	h.clientKey = leafKey([]*x509.Certificate{leaf})
	return h.config.Certificate, nil
}

// ErrCertificate says that a server wants a certificate of the client before it shows evidence (see Reveal), and the client has
// none, or not the right one.
var ErrCertificate = errors.New("the server shows its evidence only to clients with a certificate that it accepts")

// evidenceError says what it means that a server goes away instead of sending its evidence.
func (h *clientHandshake) evidenceError(err error) error {
	var told *net.OpError // an alert; where a certificate is asked for it can only be about that
	if h.asked && errors.As(err, &told) && told.Op == "remote error" {
		what := "refuses the one that it was given"
		if h.config.Certificate == nil {
			what = "none is given"
		}
		return attest.Errorf(attest.ErrTLS, "%w, and %s: %w", ErrCertificate, what, err)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return attest.Errorf(attest.ErrMissing, "the server closed the connection and sent no evidence")
	}
	return err
}

// echError gives rejections of ECH their kind; they keep their type, for Dial.
func echError(err error) error {
	var rejected *tls.ECHRejectionError
	if errors.As(err, &rejected) {
		return attest.Errorf(attest.ErrECH, "server rejected Encrypted Client Hello: its key is not that of the bundle: %w", err)
	}
	return err
}
