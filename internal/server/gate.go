package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Reason codes for connections that would not be let in any more.
const (
	reasonNotAuthorized  = 0x87
	reasonAdministrative = 0x98
)

// gate secures the connections of one listener. Each handshake is by what is in force when it begins, so that a reload
// needs no new socket.
type gate struct {
	now   atomic.Pointer[terms]
	watch *watch // over the connections that must attest again in time
}

// terms are what a gate lets in by.
type terms struct {
	tls             *atls.Server
	policy          *policy.Policy
	clients         *ClientCA // nil: certificates of clients are not asked for
	requireEvidence bool
	authenticated   bool // evidence is for clients with a certificate only
	clock           func() time.Time
	config          attest.Digest // that the broker's evidence claims
	attestation     Attestation
}

// terms makes the terms of a listener. That includes trial evidence, so that what cannot work is found here.
func (c *Config) terms(ctx context.Context, l *Listener, identity attest.Identity) (*terms, error) {
	t := &terms{
		policy: c.Policy, clients: l.Clients, requireEvidence: l.RequireEvidence, authenticated: l.authenticated(), clock: c.Clock,
		config: identity.Config, attestation: c.Attestation,
	}
	config := atls.ServerConfig{
		Service: c.Service, Certificate: l.certificate(c), MinVersion: c.MinTLS,
		HandshakeTimeout: c.Limits.Transport.HandshakeTimeout, Now: c.Clock,
	}
	if l.MinTLS != 0 {
		config.MinVersion = l.MinTLS
	}
	if l.Kind == Attested {
		config.Batcher, config.ECHKeys, config.Identity = c.batcher, c.ECHKeys, identity
		config.EvidenceTimeout = max(c.Attester.Platform().Patience(), c.Policy.Patience())
		config.RequireClientEvidence = l.RequireEvidence
		config.Clients = c.appraiser(l)
		config.Reveal, config.P1WithoutECH = l.Reveal, l.P1WithoutECH
	}
	if l.Clients != nil {
		config.ClientAuth, config.ClientCAs, config.VerifyConnection = l.Clients.auth(), l.Clients.pool(), t.verifyCertificates
	}
	var err error
	t.tls, err = atls.NewServer(ctx, config)
	return t, err
}

// appraiser judges clients' evidence. With a policy that names no identity evidence is not looked at, unless it is
// required: then nobody gets in, and the policy is what to change.
func (c *Config) appraiser(l *Listener) *policy.Appraiser {
	if len(c.Policy.Identities()) == 0 && !l.RequireEvidence || c.Registry == nil {
		return nil
	}
	return policy.NewAppraiser(c.Policy, c.Registry)
}

// verifyCertificates looks for revocation once the chain has been verified.
func (t *terms) verifyCertificates(state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 {
		return nil // without a certificate, where none is required
	}
	return t.clients.judgeAny(state.VerifiedChains, t.clock())
}

// handshake secures a connection. It is the transport.Handshake of the listener.
func (g *gate) handshake(ctx context.Context, socket net.Conn) (transport.Secured, error) {
	t := g.now.Load()
	conn, err := t.tls.Handshake(ctx, socket)
	if err != nil {
		return transport.Secured{}, explainRevoked(err)
	}
	peer := conn.Peer()
	secured := transport.Secured{Stream: conn, Identities: peer.Identities}
	if t.clients != nil && len(peer.Certificates) > 0 {
		secured.User = t.clients.user(peer.Certificates[0])
	}
	user := secured.User
	if conn.CanReattest() {
		return g.stand(t, conn, secured), nil
	}
	secured.Recheck = func() (uint32, error) { return g.now.Load().recheck(peer, user), nil }
	return secured, nil
}

// explainRevoked says in the log what to look at.
func explainRevoked(err error) error {
	if errors.Is(err, ErrNoList) || errors.Is(err, ErrListTooOld) {
		return fmt.Errorf("%w (see client_certificates.crl)", err)
	}
	return err
}

// recheck says, with a reason code, whether a peer that was let in by other terms would be let in by these: 0 if so. What
// its evidence says is judged in standing.
func (t *terms) recheck(peer *atls.Peer, user string) uint32 {
	if t.requireEvidence && !peer.Attested {
		return reasonNotAuthorized
	}
	if peer.Carrier != atls.Ordinary && len(peer.Certificates) == 0 {
		return t.recheckUnshown()
	}
	return t.recheckCertificates(peer, user)
}

// recheckUnshown is about clients with a bundle that were not asked for a certificate.
func (t *terms) recheckUnshown() uint32 {
	if t.authenticated {
		return reasonNotAuthorized
	}
	return 0
}

func (t *terms) recheckCertificates(peer *atls.Peer, user string) uint32 {
	switch {
	case t.clients == nil:
		if user != "" {
			return reasonNotAuthorized
		}
		return 0
	case t.clients.verify(peer.Certificates, t.clock()) != nil:
		return reasonNotAuthorized
	case len(peer.Certificates) > 0 && t.clients.user(peer.Certificates[0]) != user:
		return reasonAdministrative
	}
	return 0
}
