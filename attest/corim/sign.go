package corim

import (
	"crypto/ecdsa"
	"fmt"
	"io"

	"github.com/vouchmq/vouchmq/attest/internal/signed"
	"github.com/vouchmq/vouchmq/attest/policy"
)

var message = signed.Kind{Name: "CoRIM", ContentType: "application/rim+cbor"}

// Sign wraps an encoded CoRIM in a COSE_Sign1 message by a key on P-256 or P-384.
func Sign(corim []byte, key *ecdsa.PrivateKey, random io.Reader) ([]byte, error) {
	return message.Sign(corim, key, random)
}

// Signed reports whether data looks like a signed CoRIM.
func Signed(data []byte) bool { return len(data) > 0 && data[0] == 0xd2 }

// Open verifies a signed CoRIM and reads it as [Decode] does.
func Open(data []byte, key *ecdsa.PublicKey) (id string, p *policy.Policy, err error) {
	if len(data) > MaxSize {
		return "", nil, malformed(fmt.Errorf("%d bytes are too many (at most %d)", len(data), MaxSize))
	}
	document, err := message.Open(data, key)
	if err != nil {
		return "", nil, err
	}
	return Decode(document)
}
