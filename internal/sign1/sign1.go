// Package sign1 signs and opens COSE_Sign1 messages (RFC 9052, section 4.2) in the one shape that VouchMQ
// uses: algorithm ES256 in the protected header, no other header, and a domain as external data, so that a
// signature made for one purpose is never valid for another.
//
// Since the shape is fixed, a message is read by comparison with it: every handshake with a simulated TEE does so.
package sign1

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// ErrShape says that a message is not a COSE_Sign1 in the shape of this package.
var ErrShape = errors.New("not a COSE_Sign1 message with ES256 as its only header")

const (
	// protectedHeader is the map {1: -7}: the algorithm is ES256 (RFC 9053, section 2.1).
	protectedHeader = "\xa1\x01\x26"
	// messageHead is the tag 18, the head of an array of four, the protected header as a byte string, and an empty map.
	messageHead = "\xd2\x84\x43" + protectedHeader + "\xa0"
	// signatureHead is the head of a byte string of signatureSize.
	signatureHead = "\x58\x40"
	signatureSize = 2 * scalarSize // r and s, big endian
	scalarSize    = 32
)

// Sign signs payload with a P-256 key.
func Sign(key *ecdsa.PrivateKey, domain string, payload []byte) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, errNotP256
	}
	digest, err := digest(domain, payload)
	if err != nil {
		return nil, err
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	encoded, err := dcbor.Encode(payload)
	if err != nil {
		return nil, err
	}
	message := append([]byte(messageHead), encoded...)
	message = append(message, signatureHead...)
	signature := make([]byte, signatureSize)
	r.FillBytes(signature[:scalarSize])
	s.FillBytes(signature[scalarSize:])
	return append(message, signature...), nil
}

var errNotP256 = errors.New("key is not on P-256")

// digest hashes the Sig_structure (RFC 9052, section 4.4).
func digest(domain string, payload []byte) ([sha256.Size]byte, error) {
	signed, err := dcbor.Encode([]any{"Signature1", []byte(protectedHeader), []byte(domain), payload})
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encode what is signed: %w", err)
	}
	return sha256.Sum256(signed), nil
}

// Message is a message whose signature has not been checked yet.
type Message struct {
	payload   []byte
	signature []byte
}

// Parse reads a tagged COSE_Sign1 message, whose bytes it keeps. It accepts exactly what Sign writes.
func Parse(data []byte) (*Message, error) {
	rest, ok := bytes.CutPrefix(data, []byte(messageHead))
	if !ok {
		return nil, ErrShape
	}
	payload, rest, ok := cutBytes(rest)
	if !ok {
		return nil, ErrShape
	}
	signature, ok := bytes.CutPrefix(rest, []byte(signatureHead))
	if !ok || len(signature) != signatureSize {
		return nil, ErrShape
	}
	return &Message{payload: payload, signature: signature}, nil
}

// cutBytes cuts a byte string off the front of CBOR.
func cutBytes(data []byte) (value, rest []byte, ok bool) {
	size, rest, ok := cutHead(data)
	if !ok || size > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:size], rest[size:], true
}

// cutHead cuts the head of a byte string off (RFC 8949, section 3), which must be the shortest for the length, and that one of
// four bytes at most.
func cutHead(data []byte) (size uint64, rest []byte, ok bool) {
	const byteString = 2 << 5 // the major type
	if len(data) == 0 {
		return 0, nil, false
	}
	info := data[0] ^ byteString // more than 31 for other types
	if info < 24 {
		return uint64(info), data[1:], true
	}
	least := [...]uint64{24, 1 << 8, 1 << 16} // of lengths of one, two and four bytes
	if int(info) >= 24+len(least) || len(data) < 1+1<<(info-24) {
		return 0, nil, false
	}
	length := data[1 : 1+1<<(info-24)]
	for _, b := range length {
		size = size<<8 | uint64(b)
	}
	return size, data[1+len(length):], size >= least[info-24]
}

// Unverified returns the payload, which nobody vouches for until Verify has returned nil. It is needed
// where the payload itself names the key.
func (m *Message) Unverified() []byte { return m.payload }

var errSignature = errors.New("the signature does not match")

// Verify checks the signature with a P-256 key.
func (m *Message) Verify(key *ecdsa.PublicKey, domain string) error {
	if key.Curve != elliptic.P256() {
		return errNotP256
	}
	digest, err := digest(domain, m.payload)
	if err != nil {
		return err
	}
	r, s := new(big.Int).SetBytes(m.signature[:scalarSize]), new(big.Int).SetBytes(m.signature[scalarSize:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return errSignature
	}
	return nil
}
