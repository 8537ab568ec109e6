package atls

import (
	"crypto/tls"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// session is what both sides know of an attested connection, each from its own state.
type session struct {
	carrier   Carrier
	nonce     nonce
	service   string
	serverKey *attest.Digest // of the server's leaf SubjectPublicKeyInfo
}

// binding computes what evidence of the given role must be bound to at connect. cs must come from after the
// server's Finished: before, there is no exporter secret.
//
// The exporter covers the transcript up to the server's Finished, not the client's certificate; role and
// keys are therefore stated. This version never shows a client certificate on an attested connection.
func (s *session) binding(role attest.Role, cs *tls.ConnectionState) (attest.Binding, error) {
	context, err := attest.ExporterContext(role, attest.PhaseConnect, 0, s.nonce, nil)
	if err != nil {
		return attest.Binding{}, err
	}
	binder, err := cs.ExportKeyingMaterial(attest.ExporterLabel, context, attest.BinderSize)
	if err != nil {
		return attest.Binding{}, attest.Errorf(attest.ErrTLS, "TLS exporter: %w", err)
	}
	request, err := s.request(cs)
	if err != nil {
		return attest.Binding{}, err
	}
	b := attest.Binding{
		Nonce: s.nonce, Binder: [attest.BinderSize]byte(binder),
		Role: role, Phase: attest.PhaseConnect,
		OwnKey: s.serverKey, Service: s.service, Request: request,
	}
	if role == attest.RoleClient {
		b.OwnKey, b.PeerKey = nil, s.serverKey
	}
	return b, nil
}

// request hashes what was asked for and what TLS agreed on: SHA-384 of the deterministic CBOR array
// [1, carrier, ALPN protocol, TLS version, cipher suite].
func (s *session) request(cs *tls.ConnectionState) (attest.Digest, error) {
	data, err := dcbor.Encode([]any{1, string(s.carrier), cs.NegotiatedProtocol, cs.Version, cs.CipherSuite})
	if err != nil {
		return attest.Digest{}, attest.Errorf(attest.ErrFormat, "request parameters: %w", err)
	}
	return attest.Sum(data), nil
}

// checkConnection checks what must hold of TLS itself wherever a bundle is used.
func checkConnection(cs *tls.ConnectionState) error {
	switch {
	case cs.Version < tls.VersionTLS13:
		return attest.Errorf(attest.ErrTLS, "connection uses %s; attested TLS needs TLS 1.3", tls.VersionName(cs.Version))
	case !cs.ECHAccepted:
		return attest.Errorf(attest.ErrECH, "server name asks for attested TLS outside Encrypted Client Hello")
	case cs.DidResume:
		return attest.Errorf(attest.ErrTLS, "session was resumed; attested TLS never resumes")
	}
	return nil
}
