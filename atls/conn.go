package atls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/records"
)

// Default timeouts.
const (
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultEvidenceTimeout  = 5 * time.Second
)

// closeTimeout bounds the goodbye to a peer that was refused and may not read.
const closeTimeout = time.Second

// Peer is what is known of the other side of a connection.
type Peer struct {
	Carrier      Carrier
	ServerName   string              // as asked for; with a bundle the name of the service
	Attested     bool                // evidence of the peer was accepted
	Identities   []string            // of the policy that hold for the peer, sorted
	Verdict      *policy.Verdict     // nil if the peer gave no evidence, or nobody wanted to appraise it
	Certificates []*x509.Certificate // of the peer, leaf first; verified
	ALPN         string
	TLSVersion   uint16

	// CertificateAsked is for clients: the server has asked for a certificate. It does so with RevealAuthenticated alone, since asking
	// takes a round trip, and shows the client's name to a server whose evidence nobody has seen.
	CertificateAsked bool
}

// Conn is a TLS connection whose peer has been appraised.
type Conn struct {
	*tls.Conn
	below   *records.Socket      // what TLS runs over
	early   atomic.Pointer[byte] // read along with the ticket, nil if nothing was
	peer    Peer
	session session // what evidence of this connection is bound to
	rounds  rounds  // of re-attestation
}

// Peer returns what is known of the other side, by its latest evidence. The caller must not change it.
func (c *Conn) Peer() *Peer {
	if p := c.rounds.peer.Load(); p != nil {
		return p
	}
	return &c.peer
}

// Read reads application data.
func (c *Conn) Read(b []byte) (int, error) {
	if early := c.early.Load(); early != nil && len(b) > 0 && c.early.CompareAndSwap(early, nil) {
		b[0] = *early
		return 1, nil
	}
	return c.Conn.Read(b)
}

// Write writes application data. Unlike tls.Conn, it hands the network all records of b at once, up to 64 KiB.
func (c *Conn) Write(b []byte) (int, error) { return c.below.Through(c.Conn, b) }

// Close closes the connection, and ends a Write that is under way.
func (c *Conn) Close() error { return c.below.CloseOver(c.Conn) }

// RefusedError says that the evidence of the peer was not accepted. It unwraps to the verdict's error.
type RefusedError struct {
	Role    attest.Role // of the peer
	Verdict *policy.Verdict
	Peer    *Peer // what else is known
}

func (e *RefusedError) Error() string {
	return "attestation of the " + e.Role.String() + " refused: " + e.Verdict.Err.Error()
}

func (e *RefusedError) Unwrap() error { return e.Verdict.Err }

// deadline bounds a part of setting up a connection: by the context, and by a timeout of its own. stop ends
// it, clears the deadlines of conn and turns the error of that part into one of a kind.
type deadline struct {
	ctx    context.Context
	cancel context.CancelFunc
	conn   net.Conn
	unhook func() bool
	what   string
}

func startDeadline(ctx context.Context, conn net.Conn, timeout time.Duration, what string) *deadline {
	d := &deadline{conn: conn, what: what}
	d.ctx, d.cancel = context.WithTimeout(ctx, timeout)
	d.unhook = context.AfterFunc(d.ctx, func() {
		// A time in the past makes what is blocked on the connection return.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	return d
}

func (d *deadline) stop(err error) error {
	hooked := d.unhook()
	cause := d.ctx.Err()
	d.cancel()
	switch {
	case err == nil && hooked:
		return nil
	case errors.Is(cause, context.Canceled):
		return attest.Errorf(attest.ErrTLS, "%s: %w", d.what, cause)
	case cause != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return attest.Errorf(attest.ErrTimeout, "%s took too long", d.what)
	}
	return ofKind(attest.ErrTLS, d.what, err)
}

// ofKind gives err a kind if it has none.
func ofKind(kind attest.Kind, what string, err error) error {
	if policy.KindOf(err) != 0 {
		return err
	}
	return attest.Errorf(kind, "%s: %w", what, err)
}

// evidenceTimeout is how long to wait for evidence unless it is said: as long as the platforms of both sides may need.
// own is "" for a side without attester.
func evidenceTimeout(own attest.Platform, peers *policy.Appraiser) time.Duration {
	timeout := max(DefaultEvidenceTimeout, own.Patience())
	if peers != nil {
		timeout = max(timeout, peers.Policy().Patience())
	}
	return timeout
}

// handshakeTimeout is how long to wait for a handshake unless it is said: evidence in a ticket is made within it.
func handshakeTimeout(evidence time.Duration) time.Duration {
	return max(DefaultHandshakeTimeout, evidence)
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
