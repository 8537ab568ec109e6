// Package sign1 signs and opens COSE_Sign1 messages (RFC 9052, section 4.2) in the one shape that VouchMQ
// uses: algorithm ES256 in the protected header, no other header, and a domain as external data, so that a
// signature made for one purpose is never valid for another.
package sign1

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/veraison/go-cose"
)

// ErrShape says that a message is not a COSE_Sign1 in the shape of this package.
var ErrShape = errors.New("not a COSE_Sign1 message with ES256 as its only header")

// Sign signs payload with a P-256 key.
func Sign(key *ecdsa.PrivateKey, domain string, payload []byte) ([]byte, error) {
	signer, err := cose.NewSigner(cose.AlgorithmES256, key)
	if err != nil {
		return nil, err
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
	m.Payload = payload
	if err := m.Sign(rand.Reader, []byte(domain), signer); err != nil {
		return nil, err
	}
	return m.MarshalCBOR()
}

// Message is a message whose signature has not been checked yet.
type Message struct {
	m cose.Sign1Message
}

// Parse reads a tagged COSE_Sign1 message. It accepts exactly what Sign writes.
func Parse(data []byte) (*Message, error) {
	var m Message
	if err := m.m.UnmarshalCBOR(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrShape, err)
	}
	alg, err := m.m.Headers.Protected.Algorithm()
	if err != nil || alg != cose.AlgorithmES256 || len(m.m.Headers.Protected) != 1 || len(m.m.Headers.Unprotected) != 0 {
		return nil, ErrShape
	}
	again, err := m.m.MarshalCBOR()
	if err != nil || !bytes.Equal(again, data) {
		return nil, ErrShape
	}
	return &m, nil
}

// Unverified returns the payload, which nobody vouches for until Verify has returned nil. It is needed
// where the payload itself names the key.
func (m *Message) Unverified() []byte { return m.m.Payload }

// Verify checks the signature with a P-256 key.
func (m *Message) Verify(key *ecdsa.PublicKey, domain string) error {
	if key.Curve != elliptic.P256() {
		return errors.New("key is not on P-256")
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES256, key)
	if err != nil {
		return err
	}
	return m.m.Verify([]byte(domain), verifier)
}
