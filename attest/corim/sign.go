package corim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"io"

	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
)

const contentType = "application/rim+cbor"

// Sign wraps an encoded CoRIM in a COSE_Sign1 message by a key on P-256 or P-384.
func Sign(corim []byte, key *ecdsa.PrivateKey, random io.Reader) ([]byte, error) {
	algorithm, err := algorithmOf(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(algorithm, key)
	if err != nil {
		return nil, fmt.Errorf("sign CoRIM: %w", err)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(algorithm)
	m.Headers.Protected[cose.HeaderLabelContentType] = contentType
	m.Payload = corim
	if err := m.Sign(random, nil, signer); err != nil {
		return nil, fmt.Errorf("sign CoRIM: %w", err)
	}
	return m.MarshalCBOR()
}

// Signed reports whether data looks like a signed CoRIM.
func Signed(data []byte) bool { return len(data) > 0 && data[0] == 0xd2 }

// Open verifies a signed CoRIM and reads it as [Decode] does.
func Open(data []byte, key *ecdsa.PublicKey) (id string, p *policy.Policy, err error) {
	if len(data) > MaxSize {
		return "", nil, malformed(fmt.Errorf("%d bytes are too many (at most %d)", len(data), MaxSize))
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(data); err != nil {
		return "", nil, malformed(err)
	}
	algorithm, err := algorithmOf(key)
	if err != nil {
		return "", nil, err
	}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil || alg != algorithm || m.Headers.Protected[cose.HeaderLabelContentType] != contentType {
		return "", nil, attest.Errorf(attest.ErrSignature, "CoRIM is not signed with %v as %s", algorithm, contentType)
	}
	verifier, err := cose.NewVerifier(algorithm, key)
	if err == nil {
		err = m.Verify(nil, verifier)
	}
	if err != nil {
		return "", nil, attest.Errorf(attest.ErrSignature, "signature of the CoRIM is not valid: %w", err)
	}
	return Decode(m.Payload)
}

func algorithmOf(key *ecdsa.PublicKey) (cose.Algorithm, error) {
	switch key.Curve {
	case elliptic.P256():
		return cose.AlgorithmES256, nil
	case elliptic.P384():
		return cose.AlgorithmES384, nil
	}
	return 0, fmt.Errorf("key for CoRIM is not on P-256 or P-384")
}
