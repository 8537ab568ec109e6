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
	"math/big"

	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// ErrShape says that a message is not a COSE_Sign1 in the shape of this package.
var ErrShape = errors.New("not a COSE_Sign1 message with ES256 as its only header")

const (
	// protectedHeader is the map {1: -7}: the algorithm is ES256 (RFC 9053, section 2.1).
	protectedHeader = "\xa1\x01\x26"
	// messageHead is the tag 18, the head of an array of four, the protected header as a byte string, and an empty map.
	messageHead   = "\xd2\x84\x43" + protectedHeader + "\xa0"
	signatureSize = 2 * scalarSize // r and s, big endian
	scalarSize    = 32
	maxHead       = 9 // bytes of the head of any item
)

// Sign signs payload with a P-256 key.
func Sign(key *ecdsa.PrivateKey, domain string, payload []byte) ([]byte, error) {
	if key.Curve != elliptic.P256() {
		return nil, errNotP256
	}
	digest := digest(domain, payload)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	message := make([]byte, 0, len(messageHead)+2*maxHead+len(payload)+signatureSize)
	message = dcbor.AppendBytes(append(message, messageHead...), payload)
	var signature [signatureSize]byte
	r.FillBytes(signature[:scalarSize])
	s.FillBytes(signature[scalarSize:])
	return dcbor.AppendBytes(message, signature[:]), nil
}

var errNotP256 = errors.New("key is not on P-256")

// digest hashes the Sig_structure (RFC 9052, section 4.4).
func digest(domain string, payload []byte) [sha256.Size]byte {
	const context = "Signature1"
	signed := make([]byte, 0, 4*maxHead+len(context)+len(protectedHeader)+len(domain)+len(payload))
	signed = dcbor.AppendText(dcbor.AppendArray(signed, 4), context)
	signed = dcbor.AppendBytes(signed, []byte(protectedHeader))
	signed = dcbor.AppendBytes(signed, []byte(domain))
	return sha256.Sum256(dcbor.AppendBytes(signed, payload))
}

// Message is a message whose signature has not been checked yet.
type Message struct {
	payload   []byte
	signature [signatureSize]byte
}

// Parse reads a tagged COSE_Sign1 message, whose bytes it keeps. It accepts exactly what Sign writes.
func Parse(data []byte) (*Message, error) {
	rest, ok := bytes.CutPrefix(data, []byte(messageHead))
	if !ok {
		return nil, ErrShape
	}
	r, m := dcbor.NewReader(rest), new(Message)
	if r.Null() {
		return nil, ErrShape
	}
	m.payload = r.Bytes()
	if r.Fill(m.signature[:]); !r.Done() {
		return nil, ErrShape
	}
	return m, nil
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
	digest := digest(domain, m.payload)
	r, s := new(big.Int).SetBytes(m.signature[:scalarSize]), new(big.Int).SetBytes(m.signature[scalarSize:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return errSignature
	}
	return nil
}
