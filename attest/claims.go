package attest

import (
	"crypto/sha256"
	"strings"
	"unicode"
	"unicode/utf8"

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

// Keys of the claims-set: those of EAT (RFC 9711), and private ones below -65536.
const (
	keyIssuedAt = 6
	keyNonce    = 10
	keyProfile  = 265
	keyRole     = -70001
	keyPhase    = -70002
	keySeq      = -70003
	keyOwnKey   = -70004
	keyPeerKey  = -70005
	keyService  = -70006
	keyModule   = -70007
	keyConfig   = -70008
	keyRuntime  = -70009
	keyInstance = -70010
	keyRequest  = -70011
	keyGuest    = -70012

	claimCount = 15
)

// Encode returns the claims-set as deterministic CBOR.
func (c *Claims) Encode() ([]byte, error) {
	if !utf8.ValidString(c.Service) || !utf8.ValidString(c.Instance) {
		return nil, Errorf(ErrFormat, "claims-set: service or instance is not valid UTF-8")
	}
	b := dcbor.AppendMap(make([]byte, 0, typicalClaimsSize), claimCount)
	b = dcbor.AppendInt(dcbor.AppendInt(b, keyIssuedAt), c.IssuedAt)
	b = dcbor.AppendArray(dcbor.AppendInt(b, keyNonce), 2)
	b = dcbor.AppendBytes(dcbor.AppendBytes(b, c.Nonce[:]), c.Binder[:])
	b = dcbor.AppendText(dcbor.AppendInt(b, keyProfile), Profile)
	b = dcbor.AppendUint(dcbor.AppendInt(b, keyRole), uint64(c.Role))
	b = dcbor.AppendUint(dcbor.AppendInt(b, keyPhase), uint64(c.Phase))
	b = dcbor.AppendUint(dcbor.AppendInt(b, keySeq), c.Seq)
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyOwnKey), c.OwnKey.bytesOrNil())
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyPeerKey), c.PeerKey.bytesOrNil())
	b = dcbor.AppendText(dcbor.AppendInt(b, keyService), c.Service)
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyModule), c.Module[:])
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyConfig), c.Config[:])
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyRuntime), c.Runtime[:])
	b = dcbor.AppendText(dcbor.AppendInt(b, keyInstance), c.Instance)
	b = dcbor.AppendBytes(dcbor.AppendInt(b, keyRequest), c.Request[:])
	return dcbor.AppendBytes(dcbor.AppendInt(b, keyGuest), c.Guest.bytesOrNil()), nil
}

// typicalClaimsSize is room for the claims of a connection with names of usual length.
const typicalClaimsSize = 640

// DecodeClaims reads a claims-set. It accepts exactly what Encode writes; everything else is ErrFormat.
func DecodeClaims(data []byte) (*Claims, error) {
	if len(data) > MaxClaimsSize {
		return nil, Errorf(ErrFormat, "claims-set of %d bytes is too large (at most %d)", len(data), MaxClaimsSize)
	}
	r := claimsReader{*dcbor.NewReader(data)}
	c, profile := r.claims()
	switch {
	case !r.Done():
		return nil, Errorf(ErrFormat, "claims-set is not the map of %d claims in deterministic CBOR with fields of the right form that it should be", claimCount)
	case profile != Profile:
		return nil, Errorf(ErrFormat, "claims-set: profile is %q, not %q: the peer speaks another version", abbreviate(profile), Profile)
	}
	return c, checkClaimTexts(c)
}

// claimsReader reads what Claims.Encode writes, in the same order.
type claimsReader struct{ dcbor.Reader }

func (r *claimsReader) claims() (c *Claims, profile string) {
	c = new(Claims)
	r.Count(r.Map(), claimCount)
	r.Key(keyIssuedAt)
	c.IssuedAt = r.Int()
	r.Key(keyNonce)
	r.Count(r.Array(), 2)
	r.Fill(c.Nonce[:])
	r.Fill(c.Binder[:])
	r.Key(keyProfile)
	profile = r.Text()
	c.Role, c.Phase = Role(r.small(keyRole)), Phase(r.small(keyPhase))
	r.Key(keySeq)
	c.Seq = r.Uint()
	c.OwnKey, c.PeerKey = r.optionalDigest(keyOwnKey), r.optionalDigest(keyPeerKey)
	c.Service = r.name(keyService)
	c.Module, c.Config, c.Runtime = r.digest(keyModule), r.digest(keyConfig), r.digest(keyRuntime)
	c.Instance = r.name(keyInstance)
	c.Request = r.digest(keyRequest)
	c.Guest = r.optionalDigest(keyGuest)
	return c, profile
}

// small reads a claim of one byte.
func (r *claimsReader) small(key int64) uint8 {
	r.Key(key)
	n := r.Uint()
	r.Count(n&^0xff, 0)
	return uint8(n)
}

func (r *claimsReader) name(key int64) string {
	r.Key(key)
	return r.Text()
}

func (r *claimsReader) digest(key int64) (d Digest) {
	r.Key(key)
	r.Fill(d[:])
	return d
}

func (r *claimsReader) optionalDigest(key int64) *Digest {
	r.Key(key)
	if r.Null() {
		return nil
	}
	d := new(Digest)
	r.Fill(d[:])
	return d
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

// ExporterContext returns the context of the TLS exporter: SHA-256 of the deterministic CBOR array
// [1, role, phase, seq, client nonce, server nonce]. nonceS is nil at connect.
func ExporterContext(role Role, phase Phase, seq uint64, nonceC [NonceSize]byte, nonceS []byte) ([]byte, error) {
	data := dcbor.AppendArray(make([]byte, 0, 96), 6)
	data = dcbor.AppendUint(data, 1)
	data = dcbor.AppendUint(dcbor.AppendUint(data, uint64(role)), uint64(phase))
	data = dcbor.AppendUint(data, seq)
	data = dcbor.AppendBytes(data, nonceC[:])
	data = dcbor.AppendBytes(data, append([]byte{}, nonceS...)) // an empty string, not null
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
