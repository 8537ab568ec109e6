package atls

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// session is what both sides know of an attested connection, each from its own state.
type session struct {
	carrier   Carrier
	nonce     nonce // of the server name
	service   string
	serverKey *attest.Digest // of the server's leaf SubjectPublicKeyInfo
	clientKey *attest.Digest // of the client's, nil if it showed no certificate
}

// moment is when in the life of a connection evidence is made, with the nonces that were chosen for it.
type moment struct {
	phase  attest.Phase
	seq    uint64
	nonceC nonce
	nonceS []byte // nil at connect
}

// connecting is the moment of the evidence that every attested connection begins with.
func (s *session) connecting() moment { return moment{phase: attest.PhaseConnect, nonceC: s.nonce} }

// binding computes what evidence of the given role must be bound to at a moment. cs must come from after the
// server's Finished: before, there is no exporter secret.
//
// The exporter covers the transcript up to the server's Finished, not the client's certificate; role and
// keys are therefore stated.
func (s *session) binding(role attest.Role, at moment, cs *tls.ConnectionState) (attest.Binding, error) {
	context, err := attest.ExporterContext(role, at.phase, at.seq, at.nonceC, at.nonceS)
	if err != nil {
		return attest.Binding{}, err
	}
	binder, err := cs.ExportKeyingMaterial(attest.ExporterLabel, context, attest.BinderSize)
	if err != nil {
		return attest.Binding{}, attest.Errorf(attest.ErrTLS, "TLS exporter: %w", err)
	}
	b := attest.Binding{
		Nonce: at.nonceC, Binder: [attest.BinderSize]byte(binder),
		Role: role, Phase: at.phase, Seq: at.seq,
		OwnKey: s.serverKey, PeerKey: s.clientKey, Service: s.service, Request: s.request(cs),
	}
	if role == attest.RoleClient {
		b.OwnKey, b.PeerKey = s.clientKey, s.serverKey
	}
	return b, nil
}

// request hashes what was asked for and what TLS agreed on: SHA-384 of the deterministic CBOR array
// [1, carrier, ALPN protocol, TLS version, cipher suite].
func (s *session) request(cs *tls.ConnectionState) attest.Digest {
	data := dcbor.AppendUint(dcbor.AppendArray(make([]byte, 0, 64), 5), 1)
	data = dcbor.AppendText(dcbor.AppendText(data, string(s.carrier)), cs.NegotiatedProtocol)
	data = dcbor.AppendUint(dcbor.AppendUint(data, uint64(cs.Version)), uint64(cs.CipherSuite))
	return attest.Sum(data)
}

// leafKey returns the digest of the key of the first certificate, nil if there is none.
func leafKey(chain []*x509.Certificate) *attest.Digest {
	if len(chain) == 0 {
		return nil
	}
	key := attest.Sum(chain[0].RawSubjectPublicKeyInfo)
	return &key
}

// checkConnection checks what must hold of TLS itself wherever a bundle is used. inClear allows the server name to
// be outside of ECH.
func checkConnection(cs *tls.ConnectionState, inClear bool) error {
	switch {
	case cs.Version < tls.VersionTLS13:
		return attest.Errorf(attest.ErrTLS, "connection uses %s; attested TLS needs TLS 1.3", tls.VersionName(cs.Version))
	case !cs.ECHAccepted && !inClear:
		return attest.Errorf(attest.ErrECH, "server name asks for attested TLS outside Encrypted Client Hello")
	case cs.DidResume:
		return attest.Errorf(attest.ErrTLS, "session was resumed; attested TLS never resumes")
	}
	return nil
}
