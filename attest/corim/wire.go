package corim

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/vouchmq/vouchmq/attest"
)

// MaxSize is the largest CoRIM in bytes.
const MaxSize = 1 << 20

// Tags of CBOR.
const (
	tagCoRIM       = 501
	tagCoMID       = 506
	tagExactSVN    = 552
	tagLeastSVN    = 553
	tagThumbprint  = 557
	vendor         = "vouchmq"
	modelOfProgram = "program"
)

type corimWire struct {
	ID   string            `cbor:"0,keyasint"`
	Tags []cbor.RawMessage `cbor:"1,keyasint"`
}

type comidWire struct {
	Identity tagIdentityWire `cbor:"1,keyasint"`
	Triples  triplesWire     `cbor:"4,keyasint"`
}

type tagIdentityWire struct {
	ID string `cbor:"0,keyasint"`
}

type triplesWire struct {
	References []referenceWire `cbor:"0,keyasint,omitempty"`
	Keys       []keysWire      `cbor:"3,keyasint,omitempty"`
}

type referenceWire struct {
	_            struct{} `cbor:",toarray"`
	Environment  environmentWire
	Measurements []measurementWire
}

type keysWire struct {
	_           struct{} `cbor:",toarray"`
	Environment environmentWire
	Keys        []cbor.RawTag
}

type environmentWire struct {
	Class classWire `cbor:"0,keyasint"`
}

type classWire struct {
	Vendor string  `cbor:"1,keyasint"`
	Model  string  `cbor:"2,keyasint"`
	Layer  *uint64 `cbor:"3,keyasint,omitempty"`
}

type measurementWire struct {
	Key   string     `cbor:"0,keyasint"`
	Value valuesWire `cbor:"1,keyasint"`
}

type valuesWire struct {
	SVN       *cbor.RawTag            `cbor:"1,keyasint,omitempty"`
	Digests   []digestWire            `cbor:"2,keyasint,omitempty"`
	Name      string                  `cbor:"11,keyasint,omitempty"`
	Registers map[uint64][]digestWire `cbor:"14,keyasint,omitempty"`
}

type digestWire struct {
	_         struct{} `cbor:",toarray"`
	Algorithm int
	Value     []byte
}

// algorithms are the numbers of IANA's registry of named information, by size of the digest in bytes.
var algorithms = map[int]int{32: 1, 48: 7, 64: 8}

func digestOf(value []byte) (digestWire, error) {
	algorithm, ok := algorithms[len(value)]
	if !ok {
		return digestWire{}, fmt.Errorf("value of %d bytes is no digest", len(value))
	}
	return digestWire{Algorithm: algorithm, Value: value}, nil
}

func (d *digestWire) check() error {
	if want, ok := algorithms[len(d.Value)]; !ok || want != d.Algorithm {
		return fmt.Errorf("digest of %d bytes is not one of algorithm %d", len(d.Value), d.Algorithm)
	}
	return nil
}

type modes struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func coding() (m modes, err error) {
	if m.enc, err = cbor.CoreDetEncOptions().EncMode(); err != nil {
		return m, err
	}
	m.dec, err = cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 16, MaxArrayElements: 4096, MaxMapPairs: 4096,
	}.DecMode()
	return m, err
}

// tagged encodes a tag and its content.
func (m modes) tagged(number uint64, content any) ([]byte, error) {
	inner, err := m.enc.Marshal(content)
	if err != nil {
		return nil, err
	}
	return m.enc.Marshal(cbor.RawTag{Number: number, Content: inner})
}

// untag reads a tag of that number and its content, which must be encoded as tagged would.
func (m modes) untag(data []byte, number uint64, content any) error {
	var tag cbor.RawTag
	if err := m.dec.Unmarshal(data, &tag); err != nil {
		return err
	}
	if tag.Number != number {
		return fmt.Errorf("tag %d in place of %d", tag.Number, number)
	}
	if err := m.dec.Unmarshal(tag.Content, content); err != nil {
		return err
	}
	again, err := m.tagged(number, content)
	if err == nil && !bytes.Equal(again, data) {
		err = errors.New("CBOR is not in its deterministic encoding")
	}
	return err
}

func malformed(err error) error { return attest.Errorf(attest.ErrFormat, "CoRIM: %w", err) }
