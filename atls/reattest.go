package atls

import (
	"context"
	"crypto/tls"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

// ReattestMethod is the authentication method of MQTT 5 (4.12) by which both sides of an attested connection show
// that they still are what they were. The messages below are its authentication data; other protocols may carry them
// in their own way.
//
//	client  AUTH 0x19  request    [1, seq, nonce_c]             seq counts the rounds of the connection from 1
//	server  AUTH 0x18  challenge  [2, seq, nonce_s, evidence]
//	client  AUTH 0x18  answer     [3, seq, evidence]            evidence is empty if the client does not attest
//	server  AUTH 0x00
//
// Evidence of a round is bound to phase 2, its number and both nonces, and to the exporter of the connection. The
// client makes its own after it has accepted the server's.
const ReattestMethod = "VOUCHMQ-ATTEST-1"

// rounds is what a connection keeps for re-attestation.
type rounds struct {
	peer atomic.Pointer[Peer] // as of the latest round or reappraisal; nil: as at connect

	mu     sync.Mutex
	seq    uint64        // of the round that began last
	client *ClientConfig // of the client's side, with the latest appraiser; nil at the server
}

// CanReattest reports whether re-attestation is possible on the connection: it is where the client has asked for the
// server's evidence at connect.
func (c *Conn) CanReattest() bool {
	return c.session.carrier != X1 && c.session.carrier != Ordinary
}

// errNotAttested says why there are no rounds on a connection.
func errNotAttested() error {
	return attest.Errorf(attest.ErrFormat, "re-attestation on a connection that was opened without attestation")
}

// ClientRound is one round of re-attestation as the client sees it.
type ClientRound struct {
	conn   *Conn
	config ClientConfig
	at     moment
}

// Reattest begins a round at the client's side. It returns the request for the server.
func (c *Conn) Reattest() (*ClientRound, []byte, error) {
	c.rounds.mu.Lock()
	defer c.rounds.mu.Unlock()
	if !c.CanReattest() || c.rounds.client == nil {
		return nil, nil, errNotAttested()
	}
	r := &ClientRound{conn: c, config: *c.rounds.client, at: moment{phase: attest.PhaseReattest, seq: c.rounds.seq + 1}}
	if _, err := io.ReadFull(r.config.Rand, r.at.nonceC[:]); err != nil {
		return nil, nil, attest.Errorf(attest.ErrAttester, "read randomness: %w", err)
	}
	request, err := encodeRequest(&r.at)
	if err != nil {
		return nil, nil, err
	}
	c.rounds.seq++
	return r, request, nil
}

// Answer judges the server by its challenge and returns this client's answer. From then on the connection's peer is
// what the server's new evidence says. After an error, which has an attest.Kind and is a *RefusedError if there was evidence to
// judge, the connection is closed: it must not be used any more.
func (r *ClientRound) Answer(ctx context.Context, challenge []byte) ([]byte, error) {
	answer, err := r.answer(ctx, challenge)
	if err != nil {
		_ = r.conn.NetConn().SetDeadline(time.Now().Add(closeTimeout))
		_ = r.conn.Close()
		return nil, err
	}
	return answer, nil
}

func (r *ClientRound) answer(ctx context.Context, challenge []byte) ([]byte, error) {
	evidence, err := decodeChallenge(challenge, &r.at)
	if err != nil {
		return nil, err
	}
	cs := r.conn.ConnectionState()
	binding, err := r.conn.session.binding(attest.RoleServer, r.at, &cs)
	if err != nil {
		return nil, err
	}
	verdict := r.config.Server.Appraise(ctx, evidence, binding, r.config.Now())
	if err := r.conn.judged(attest.RoleServer, verdict); err != nil {
		return nil, err
	}
	own, err := r.evidence(ctx, &cs)
	if err != nil {
		return nil, err
	}
	return encodeAnswer(r.at.seq, own)
}

// evidence makes the client's own, empty if it has nothing to show.
func (r *ClientRound) evidence(ctx context.Context, cs *tls.ConnectionState) ([]byte, error) {
	if r.config.Attester == nil {
		return nil, nil
	}
	e := maker{attest.NewBatcher(r.config.Attester), r.config.Identity, r.config.EvidenceTimeout, r.config.Rand, r.config.Now}
	return e.make(ctx, &r.conn.session, attest.RoleClient, r.at, cs)
}

// ServerRound is one round of re-attestation as the server sees it.
type ServerRound struct {
	server *Server
	conn   *Conn
	at     moment
}

// Reattest begins a round with the client's request, and returns the challenge for it: evidence by what this server
// is now, which may be another than the one that took the connection. Errors have an attest.Kind; the connection is to
// be ended then.
func (s *Server) Reattest(ctx context.Context, c *Conn, request []byte) (*ServerRound, []byte, error) {
	if !c.CanReattest() {
		return nil, nil, errNotAttested()
	}
	if s.config.Batcher == nil {
		return nil, nil, attest.Errorf(attest.ErrAttester, "client asks for evidence, and this server has no attester")
	}
	r := &ServerRound{server: s, conn: c, at: moment{phase: attest.PhaseReattest}}
	if err := decodeRequest(request, &r.at); err != nil {
		return nil, nil, err
	}
	if err := c.nextRound(r.at.seq); err != nil {
		return nil, nil, err
	}
	r.at.nonceS = make([]byte, attest.NonceSize)
	if _, err := io.ReadFull(s.config.Rand, r.at.nonceS); err != nil {
		return nil, nil, attest.Errorf(attest.ErrAttester, "read randomness: %w", err)
	}
	challenge, err := r.challenge(ctx)
	return r, challenge, err
}

// nextRound takes the number of a round, which must be the next.
func (c *Conn) nextRound(seq uint64) error {
	c.rounds.mu.Lock()
	defer c.rounds.mu.Unlock()
	if seq != c.rounds.seq+1 {
		return attest.Errorf(attest.ErrBinding, "client begins round %d of re-attestation, and the next is %d: it is a replay", seq, c.rounds.seq+1)
	}
	c.rounds.seq++
	return nil
}

func (r *ServerRound) challenge(ctx context.Context) ([]byte, error) {
	config := &r.server.config
	cs := r.conn.ConnectionState()
	e := maker{config.Batcher, config.Identity, config.EvidenceTimeout, config.Rand, config.Now}
	evidence, err := e.make(ctx, &r.conn.session, attest.RoleServer, r.at, &cs)
	if err != nil {
		return nil, err
	}
	return encodeChallenge(&r.at, evidence)
}

// Finish judges the client by its answer. A client that has attested at connect must do so again, and remain who it
// is; its new evidence is then what the connection's peer shows. Errors have an attest.Kind, and are a *RefusedError if there
// was evidence to judge; the connection is to be ended then.
func (r *ServerRound) Finish(ctx context.Context, answer []byte) error {
	evidence, err := decodeAnswer(answer, r.at.seq)
	if err != nil {
		return err
	}
	config := &r.server.config
	if len(evidence) == 0 || config.Clients == nil {
		if config.RequireClientEvidence || r.conn.Peer().Attested {
			return attest.Errorf(attest.ErrMissing, "client has attested at connect, or must, and gives no evidence in round %d that could be judged", r.at.seq)
		}
		return nil
	}
	cs := r.conn.ConnectionState()
	binding, err := r.conn.session.binding(attest.RoleClient, r.at, &cs)
	if err != nil {
		return err
	}
	return r.conn.judged(attest.RoleClient, config.Clients.Appraise(ctx, evidence, binding, config.Now()))
}

// judged takes over a verdict about the peer, or returns the refusal.
func (c *Conn) judged(role attest.Role, verdict *policy.Verdict) error {
	peer := c.Peer().with(verdict)
	if !verdict.Accepted {
		return &RefusedError{Role: role, Verdict: verdict, Peer: peer}
	}
	c.rounds.peer.Store(peer)
	return nil
}

// with returns what is known of a peer with another verdict about it.
func (p *Peer) with(verdict *policy.Verdict) *Peer {
	q := *p
	if q.Verdict = verdict; verdict.Accepted {
		q.Attested, q.Identities = true, verdict.Identities
	}
	return &q
}

// Reappraise judges the peer anew as of the time now, by a policy that has changed or because time has passed: not its evidence,
// which stays as it was verified last, but what that said. If the peer is accepted, Peer shows what it is now,
// and, at a client's side, a is what judges the server from now on. If it is refused, nothing changes: the caller is to
// close the connection.
func (c *Conn) Reappraise(a *policy.Appraiser, now time.Time) *policy.Verdict {
	for {
		before := c.rounds.peer.Load()
		verdict := c.reappraise(a, now)
		if !verdict.Accepted && c.rounds.peer.Load() == before {
			return verdict
		}
		// Newer evidence that a round brings meanwhile must not give way to older: then that is judged.
		if verdict.Accepted && c.rounds.peer.CompareAndSwap(before, c.Peer().with(verdict)) {
			c.useAppraiser(a)
			return verdict
		}
	}
}

func (c *Conn) reappraise(a *policy.Appraiser, now time.Time) *policy.Verdict {
	peer := c.Peer()
	if peer.Verdict == nil || peer.Verdict.Facts == nil {
		return policy.Refused(attest.Errorf(attest.ErrMissing, "the peer has given no evidence that could be judged again"), now)
	}
	return a.Policy().Reappraise(peer.Verdict.Facts, now)
}

func (c *Conn) useAppraiser(a *policy.Appraiser) {
	c.rounds.mu.Lock()
	defer c.rounds.mu.Unlock()
	if c.rounds.client != nil {
		config := *c.rounds.client
		config.Server = a
		c.rounds.client = &config
	}
}

// maker makes evidence of one side.
type maker struct {
	batcher  *attest.Batcher
	identity attest.Identity
	timeout  time.Duration
	random   io.Reader
	now      func() time.Time
}

func (m *maker) make(ctx context.Context, s *session, role attest.Role, at moment, cs *tls.ConnectionState) ([]byte, error) {
	binding, err := s.binding(role, at, cs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	claims := &attest.Claims{Binding: binding, Identity: m.identity, IssuedAt: m.now().Unix()}
	return m.batcher.Make(ctx, attest.PurposeConnection, claims, m.random)
}
