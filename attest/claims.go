package attest

import (
	"crypto/sha256"
	"strings"
	"unicode"

	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Profile is the EAT profile (RFC 9711, claim 265) of VouchMQ's claims-set.
const Profile = "tag:vouchmq.dev,2026:atls/1"

// ExporterLabel is the label of the TLS exporter (RFC 8446, section 7.5) that gives the binder.
const ExporterLabel = "EXPERIMENTAL-vouchmq-attest-v1"

// Sizes in bytes.
const (
	NonceSize       = 32
	BinderSize      = 32
	MaxClaimsSize   = 2048
	MaxServiceSize  = 190
	MaxInstanceSize = 128
)

// Role says which end of a connection evidence speaks for.
type Role uint8

// The roles.
const (
	RoleServer Role = 1
	RoleClient Role = 2
)

func (r Role) String() string {
	switch r {
	case RoleServer:
		return "server"
	case RoleClient:
		return "client"
	}
	return "unknown role"
}

// Phase says when in the life of a connection evidence was asked for.
type Phase uint8

// The phases.
const (
	PhaseConnect  Phase = 1
	PhaseReattest Phase = 2
)

// Binding ties a claims-set to one connection. A verifier fills it from its own state, never from what the
// peer sent.
type Binding struct {
	Nonce   [NonceSize]byte  // chosen by the client
	Binder  [BinderSize]byte // output of the TLS exporter, see ExporterContext
	Role    Role
	Phase   Phase
	Seq     uint64  // 0 at connect, counts re-attestations
	OwnKey  *Digest // of the attester's own leaf SubjectPublicKeyInfo, nil if it showed no certificate
	PeerKey *Digest // of the leaf SubjectPublicKeyInfo the attester saw of its peer, nil if none
	Service string  // name of the service, without nonce and carrier
	Request Digest  // of the request parameters
}

// Identity is what an attester says of itself; hardware vouches for the runtime, and the runtime for this.
type Identity struct {
	Module   Digest // of the Wasm module
	Config   Digest // of the canonical configuration
	Runtime  Digest // of the runtime that loaded the module
	Instance string // name of this instance, free text, may be empty
}

// Claims is the claims-set that report data commits to.
type Claims struct {
	Binding
	Identity
	IssuedAt int64   // seconds since 1970, informational: no decision rests on it
	Guest    *Digest // of data of a Wasm guest, nil for connections
}

// claimsWire is the claims-set as CBOR. Keys are those of EAT (RFC 9711) and private ones below -65536.
type claimsWire struct {
	Nonce    [][]byte `cbor:"10,keyasint"`
	Profile  string   `cbor:"265,keyasint"`
	IssuedAt int64    `cbor:"6,keyasint"`
	Role     uint8    `cbor:"-70001,keyasint"`
	Phase    uint8    `cbor:"-70002,keyasint"`
	Seq      uint64   `cbor:"-70003,keyasint"`
	OwnKey   []byte   `cbor:"-70004,keyasint"`
	PeerKey  []byte   `cbor:"-70005,keyasint"`
	Service  string   `cbor:"-70006,keyasint"`
	Module   []byte   `cbor:"-70007,keyasint"`
	Config   []byte   `cbor:"-70008,keyasint"`
	Runtime  []byte   `cbor:"-70009,keyasint"`
	Instance string   `cbor:"-70010,keyasint"`
	Request  []byte   `cbor:"-70011,keyasint"`
	Guest    []byte   `cbor:"-70012,keyasint"`
}

// Encode returns the claims-set as deterministic CBOR.
func (c *Claims) Encode() ([]byte, error) {
	return dcbor.Encode(claimsWire{
		Nonce:    [][]byte{c.Nonce[:], c.Binder[:]},
		Profile:  Profile,
		IssuedAt: c.IssuedAt,
		Role:     uint8(c.Role),
		Phase:    uint8(c.Phase),
		Seq:      c.Seq,
		OwnKey:   c.OwnKey.bytesOrNil(),
		PeerKey:  c.PeerKey.bytesOrNil(),
		Service:  c.Service,
		Module:   c.Module[:],
		Config:   c.Config[:],
		Runtime:  c.Runtime[:],
		Instance: c.Instance,
		Request:  c.Request[:],
		Guest:    c.Guest.bytesOrNil(),
	})
}

// DecodeClaims reads a claims-set. It accepts exactly what Encode writes; everything else is ErrFormat.
func DecodeClaims(data []byte) (*Claims, error) {
	if len(data) > MaxClaimsSize {
		return nil, Errorf(ErrFormat, "claims-set of %d bytes is too large (at most %d)", len(data), MaxClaimsSize)
	}
	var w claimsWire
	if err := dcbor.Decode(data, &w); err != nil {
		return nil, Errorf(ErrFormat, "claims-set: %w", err)
	}
	return w.claims()
}

func (w *claimsWire) claims() (*Claims, error) {
	c := &Claims{IssuedAt: w.IssuedAt}
	c.Role, c.Phase, c.Seq = Role(w.Role), Phase(w.Phase), w.Seq
	c.Service, c.Instance = w.Service, w.Instance
	if w.Profile != Profile {
		return nil, Errorf(ErrFormat, "claims-set: profile is %q, not %q: the peer speaks another version", abbreviate(w.Profile), Profile)
	}
	if len(w.Nonce) != 2 || !fill(c.Nonce[:], w.Nonce[0]) || !fill(c.Binder[:], w.Nonce[1]) {
		return nil, Errorf(ErrFormat, "claims-set: nonce and binder are not two strings of %d bytes", NonceSize)
	}
	if !fill(c.Module[:], w.Module) || !fill(c.Config[:], w.Config) || !fill(c.Runtime[:], w.Runtime) || !fill(c.Request[:], w.Request) {
		return nil, Errorf(ErrFormat, "claims-set: a digest is not %d bytes long", DigestSize)
	}
	var ok [3]bool
	c.OwnKey, ok[0] = optionalDigest(w.OwnKey)
	c.PeerKey, ok[1] = optionalDigest(w.PeerKey)
	c.Guest, ok[2] = optionalDigest(w.Guest)
	if ok != [3]bool{true, true, true} {
		return nil, Errorf(ErrFormat, "claims-set: an optional digest is neither null nor %d bytes long", DigestSize)
	}
	return c, checkClaimTexts(c)
}

func checkClaimTexts(c *Claims) error {
	if len(c.Service) > MaxServiceSize || len(c.Instance) > MaxInstanceSize {
		return Errorf(ErrFormat, "claims-set: service (at most %d bytes) or instance (at most %d) is too long", MaxServiceSize, MaxInstanceSize)
	}
	// Texts of the peer end in logs and on terminals: control characters have no business there.
	if strings.ContainsFunc(c.Service+c.Instance, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return Errorf(ErrFormat, "claims-set: service or instance holds characters that cannot be printed")
	}
	return nil
}

func fill(dst, src []byte) bool {
	return len(src) == len(dst) && copy(dst, src) == len(dst)
}

func optionalDigest(b []byte) (*Digest, bool) {
	if b == nil {
		return nil, true
	}
	d := new(Digest)
	return d, fill(d[:], b)
}

// ExporterContext returns the context of the TLS exporter: SHA-256 of the deterministic CBOR array
// [1, role, phase, seq, client nonce, server nonce]. nonceS is nil at connect.
func ExporterContext(role Role, phase Phase, seq uint64, nonceC [NonceSize]byte, nonceS []byte) ([]byte, error) {
	if nonceS == nil {
		nonceS = []byte{} // an empty string, not null
	}
	data, err := dcbor.Encode([]any{1, uint8(role), uint8(phase), seq, nonceC[:], nonceS})
	if err != nil {
		return nil, Errorf(ErrFormat, "exporter context: %w", err)
	}
	sum := sha256.Sum256(data)
	return sum[:], nil
}

// mismatch tells in which field the peer's claims differ from what this side knows, nil if in none.
func (b *Binding) mismatch(peer *Binding) error {
	switch {
	case peer.Role != b.Role:
		return Errorf(ErrRole, "the evidence speaks for the %v of a connection, not for its %v: it was reflected", peer.Role, b.Role)
	case peer.Nonce != b.Nonce:
		return Errorf(ErrBinding, "the evidence answers another nonce: it is a replay")
	case peer.Binder != b.Binder:
		return Errorf(ErrBinding, "the evidence was made for another TLS connection: somebody relays or replays it")
	case peer.Phase != b.Phase || peer.Seq != b.Seq:
		return Errorf(ErrBinding, "the evidence was made for another moment of this connection (phase %d, sequence %d)", peer.Phase, peer.Seq)
	case !equalDigests(peer.OwnKey, b.OwnKey):
		return Errorf(ErrBinding, "the evidence is for another TLS key than the one that the peer's certificate shows")
	case !equalDigests(peer.PeerKey, b.PeerKey):
		return Errorf(ErrBinding, "the peer saw another TLS key of this side than was used: somebody is in the middle")
	case peer.Service != b.Service:
		return Errorf(ErrBinding, "the evidence is for service %q, not for %q", abbreviate(peer.Service), b.Service)
	case peer.Request != b.Request:
		return Errorf(ErrBinding, "the peer answers another request than was made: a downgrade")
	}
	return nil
}
