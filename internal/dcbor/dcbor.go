// Package dcbor encodes and strictly decodes deterministic CBOR (RFC 8949, section 4.2.1).
//
// Everything VouchMQ hashes or signs is in this form: a value has exactly one encoding. Decode refuses
// whatever Encode would not have written, so two readers cannot understand the same bytes differently.
package dcbor

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

// The bounds of what Decode accepts. They are far above any structure of VouchMQ and small enough that a
// hostile input costs little.
const (
	maxNesting = 12
	maxItems   = 4096
)

// ErrNotDeterministic says that the input is CBOR, but not in its deterministic form.
var ErrNotDeterministic = errors.New("CBOR is not in its deterministic encoding (RFC 8949, section 4.2.1)")

type modes struct {
	enc cbor.EncMode
	dec cbor.DecMode
	// lenient allows unknown keys
	lenient cbor.DecMode
	err     error
}

// modesOnce builds the two immutable modes on first use: the CBOR library wants them prepared.
var modesOnce = sync.OnceValue(func() modes {
	var m modes
	if m.enc, m.err = cbor.CoreDetEncOptions().EncMode(); m.err != nil {
		return m
	}
	strict := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxItems,
		MaxMapPairs:      maxItems,
		UTF8:             cbor.UTF8RejectInvalid,
	}
	if m.lenient, m.err = strict.DecMode(); m.err != nil {
		return m
	}
	strict.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	m.dec, m.err = strict.DecMode()
	return m
})

// Encode returns the deterministic encoding of v.
func Encode(v any) ([]byte, error) {
	m := modesOnce()
	if m.err != nil {
		return nil, m.err
	}
	return m.enc.Marshal(v)
}

// Decode reads data, which must be one deterministic CBOR item and nothing more, into v. Unknown and
// repeated map keys, tags, indefinite lengths and any other encoding of the same value are errors.
func Decode(data []byte, v any) error {
	m := modesOnce()
	if m.err != nil {
		return m.err
	}
	if err := m.dec.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := m.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode again: %w", err)
	}
	if !bytes.Equal(again, data) {
		return ErrNotDeterministic
	}
	return nil
}

// DecodeLenient reads data into v as Decode does, but skips map keys that v does not know. It serves to read
// the version of a structure before the rest.
func DecodeLenient(data []byte, v any) error {
	m := modesOnce()
	if m.err != nil {
		return m.err
	}
	return m.lenient.Unmarshal(data, v)
}
