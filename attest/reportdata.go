package attest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Sizes in bytes.
const (
	ReportDataSize      = 64
	BlindSize           = 16
	HashSize            = sha512.Size256 // of a node of the batch tree
	shortReportDataSize = sha256.Size
)

// MaxBatch is the largest number of claims-sets that one quote may cover.
const MaxBatch = 1024

const maxPath = 10 // log2(MaxBatch)

// MaxProofSize is how many bytes evidence that shares a quote is longer than evidence with one of its own, at most: ten
// hashes, each with its head, and larger numbers and heads around them.
const MaxProofSize = maxPath*(HashSize+2) + 8

// Purpose is the "kind" byte of the report data: it keeps evidence made for one protocol from being
// accepted in another.
type Purpose uint8

// The purposes.
const (
	PurposeConnection  Purpose = 1 // one TLS connection
	PurposeCertificate Purpose = 2 // a certificate request to the owner
	PurposeGuest       Purpose = 3 // data of a Wasm guest
)

// ReportData is what a platform signs: 64 bytes.
type ReportData [ReportDataSize]byte

// IsZero reports whether all bytes are zero.
func (r ReportData) IsZero() bool { return r == ReportData{} }

// Short returns RD32, the 32-byte form for a TPM's qualifyingData.
func (r ReportData) Short() [32]byte {
	return sha256.Sum256(append([]byte("vouchmq/report-data-32/v1\x00"), r[:]...))
}

// Hash is a node of the batch tree.
type Hash [HashSize]byte

// LeafHash returns the leaf of the batch tree for an encoded claims-set: SHA-512/256(0x00 || blind || claims).
// The blind hides a claims-set from those who see only its neighbour's proof.
func LeafHash(blind [BlindSize]byte, claims []byte) Hash {
	h := sha512.New512_256()
	h.Write([]byte{0})
	h.Write(blind[:])
	h.Write(claims)
	return Hash(h.Sum(nil))
}

// NodeHash returns an inner node of the batch tree: SHA-512/256(0x01 || left || right).
func NodeHash(left, right Hash) Hash {
	h := sha512.New512_256()
	h.Write([]byte{1})
	h.Write(left[:])
	h.Write(right[:])
	return Hash(h.Sum(nil))
}

// Proof places a leaf in the tree that one quote covers. A tree of one leaf has an empty path.
type Proof struct {
	N    uint64 // leaves in the tree, 1 to MaxBatch
	I    uint64 // index of this leaf, from 0
	Path []Hash // from the leaf's sibling upward
}

// Root computes the root of the tree from one leaf (RFC 9162, section 2.1.3.2), or fails if the proof has
// not exactly the shape that n and i prescribe.
func (p Proof) Root(leaf Hash) (Hash, error) {
	if p.N == 0 || p.N > MaxBatch || p.I >= p.N {
		return Hash{}, Errorf(ErrFormat, "batch proof: leaf %d of %d is out of range (at most %d leaves)", p.I, p.N, MaxBatch)
	}
	fn, sn, r := p.I, p.N-1, leaf
	for _, sibling := range p.Path {
		if sn == 0 {
			return Hash{}, Errorf(ErrFormat, "batch proof: path of %d hashes is too long for leaf %d of %d", len(p.Path), p.I, p.N)
		}
		if fn&1 == 0 && fn != sn {
			r = NodeHash(r, sibling)
		} else {
			r = NodeHash(sibling, r)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return Hash{}, Errorf(ErrFormat, "batch proof: path of %d hashes is too short for leaf %d of %d", len(p.Path), p.I, p.N)
	}
	return r, nil
}

// ReportDataFor returns RD64 for the tree with n leaves and that root:
// SHA-512("vouchmq/report-data/v1" || 0x00 || purpose || n as 8 bytes, big endian || root).
func ReportDataFor(purpose Purpose, n uint64, root Hash) ReportData {
	h := sha512.New()
	h.Write([]byte("vouchmq/report-data/v1\x00"))
	h.Write([]byte{byte(purpose)})
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	h.Write(root[:])
	return ReportData(h.Sum(nil))
}
