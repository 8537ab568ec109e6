package nitro

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/vouchmq/vouchmq/attest"
)

// Bounds of a document, from attestation_process.md; real ones have less than 5,000 bytes.
const (
	maxDocumentSize = 32 << 10
	maxPCRs         = 32
	maxChain        = 8    // certificates in cabundle
	maxFree         = 1024 // bytes of user_data, nonce and public_key
	digestName      = "SHA384"
)

// document is the payload of a document. Times are in milliseconds since 1970.
type document struct {
	ModuleID    string           `cbor:"module_id"` // of the enclave, i-0123456789abcdef0-enc0123456789abcdef
	Timestamp   uint64           `cbor:"timestamp"`
	Digest      string           `cbor:"digest"` // of the PCRs
	PCRs        map[uint8][]byte `cbor:"pcrs"`
	Certificate []byte           `cbor:"certificate"` // of the key that has signed, DER
	CABundle    [][]byte         `cbor:"cabundle"`    // from the root down to its issuer, DER
	PublicKey   []byte           `cbor:"public_key"`
	UserData    []byte           `cbor:"user_data"`
	Nonce       []byte           `cbor:"nonce"`
}

// strict is how bytes of a peer are read.
func strict() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 4, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
}

// parse reads a message and its payload. Nothing is verified.
func parse(data []byte) (*cose.Sign1Message, *document, error) {
	if len(data) > maxDocumentSize {
		return nil, nil, fmt.Errorf("it has %d bytes, at most %d are read", len(data), maxDocumentSize)
	}
	m, err := message(data)
	if err != nil {
		return nil, nil, err
	}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil || alg != cose.AlgorithmES384 || len(m.Headers.Protected) != 1 || len(m.Headers.Unprotected) != 0 {
		return nil, nil, fmt.Errorf("its only COSE header must be the algorithm ES384")
	}
	mode, err := strict()
	if err != nil {
		return nil, nil, err
	}
	var d document
	if err := mode.Unmarshal(m.Payload, &d); err != nil {
		return nil, nil, err
	}
	return m, &d, d.check()
}

// message reads a COSE_Sign1 message, which the documentation shows tagged and the device makes untagged.
func message(data []byte) (*cose.Sign1Message, error) {
	const tagged = 0xd2 // tag 18 (RFC 9052, section 2)
	if len(data) > 0 && data[0] == tagged {
		var m cose.Sign1Message
		return &m, m.UnmarshalCBOR(data)
	}
	var m cose.UntaggedSign1Message
	err := m.UnmarshalCBOR(data)
	return (*cose.Sign1Message)(&m), err
}

// check checks what the documentation says of the fields.
func (d *document) check() error {
	switch {
	case d.ModuleID == "":
		return fmt.Errorf("module_id is missing")
	case d.Digest != digestName:
		return fmt.Errorf("digest of its PCRs is %.20q, not %s", d.Digest, digestName)
	case d.Timestamp == 0 || d.Timestamp > 1<<53:
		return fmt.Errorf("timestamp is missing or out of range")
	case len(d.PCRs) == 0 || len(d.PCRs) > maxPCRs:
		return fmt.Errorf("it has %d PCRs, not 1 to %d", len(d.PCRs), maxPCRs)
	case len(d.Certificate) == 0 || len(d.CABundle) == 0 || len(d.CABundle) > maxChain:
		return fmt.Errorf("certificate or cabundle is missing or too long")
	case len(d.UserData) > maxFree || len(d.Nonce) > maxFree || len(d.PublicKey) > maxFree:
		return fmt.Errorf("user_data, nonce or public_key has more than %d bytes", maxFree)
	}
	for i, v := range d.PCRs {
		if i >= maxPCRs || len(v) != attest.DigestSize {
			return fmt.Errorf("PCR%d has %d bytes, not %d, or there is no such PCR", i, len(v), attest.DigestSize)
		}
	}
	return nil
}

func (d *document) time() time.Time { return time.UnixMilli(int64(d.Timestamp)).UTC() }
