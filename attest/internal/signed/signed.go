// Package signed signs documents about evidence, such as reference values and attestation results, as COSE_Sign1 messages (RFC 9052, 4.2), and
// verifies them. What the documents say is for the packages that know them.
package signed

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"io"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
)

// Kind is a kind of document.
type Kind struct {
	Name        string // for errors
	ContentType string // in the protected header; "" for kinds that have none there, and then it is not looked at
}

// Sign wraps an encoded document in a message by a key on P-256 or P-384.
func (k Kind) Sign(document []byte, key *ecdsa.PrivateKey, random io.Reader) ([]byte, error) {
	algorithm, err := k.algorithm(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(algorithm, key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", k.Name, err)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(algorithm)
	if k.ContentType != "" {
		m.Headers.Protected[cose.HeaderLabelContentType] = k.ContentType
	}
	m.Payload = document
	if err := m.Sign(random, nil, signer); err != nil {
		return nil, fmt.Errorf("sign %s: %w", k.Name, err)
	}
	return m.MarshalCBOR()
}

// Open verifies a message and returns the encoded document. What is no message is an attest.ErrFormat, what another key or algorithm
// has signed, or as another kind of document, an attest.ErrSignature.
func (k Kind) Open(data []byte, key *ecdsa.PublicKey) ([]byte, error) {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(data); err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "%s: %w", k.Name, err)
	}
	want, err := k.algorithm(key)
	if err != nil {
		return nil, err
	}
	if algorithm, err := m.Headers.Protected.Algorithm(); err != nil || algorithm != want {
		return nil, attest.Errorf(attest.ErrSignature, "%s is not signed with %v, as the key would", k.Name, want)
	}
	if k.ContentType != "" && m.Headers.Protected[cose.HeaderLabelContentType] != k.ContentType {
		return nil, attest.Errorf(attest.ErrSignature, "%s is not signed as %s", k.Name, k.ContentType)
	}
	verifier, err := cose.NewVerifier(want, key)
	if err == nil {
		err = m.Verify(nil, verifier)
	}
	if err != nil {
		return nil, attest.Errorf(attest.ErrSignature, "signature of the %s is not valid: %w", k.Name, err)
	}
	return m.Payload, nil
}

func (k Kind) algorithm(key *ecdsa.PublicKey) (cose.Algorithm, error) {
	switch key.Curve {
	case elliptic.P256():
		return cose.AlgorithmES256, nil
	case elliptic.P384():
		return cose.AlgorithmES384, nil
	}
	return 0, fmt.Errorf("key for %s is not on P-256 or P-384", k.Name)
}
