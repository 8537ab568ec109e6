package cca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"
)

// Bounds of a token; those that were published have less than 2,300 bytes.
const (
	maxTokenSize = 32 << 10
	tokenTag     = 399
)

// Sizes in bytes.
const (
	challengeSize      = 64
	implementationSize = 32
	instanceSize       = 33
	rawKeySize         = 97 // an uncompressed point on P-384
	measurements       = 4  // REMs
)

type tokenWire struct {
	Platform []byte `cbor:"44234,keyasint"`
	Realm    []byte `cbor:"44241,keyasint"`
}

// platformClaims are those of a platform token that are looked at.
type platformClaims struct {
	KeyDigest      []byte          `cbor:"10,keyasint"` // of the RAK
	Instance       []byte          `cbor:"256,keyasint"`
	Profile        string          `cbor:"265,keyasint"`
	Lifecycle      uint16          `cbor:"2395,keyasint"`
	Implementation []byte          `cbor:"2396,keyasint"`
	Firmware       cbor.RawMessage `cbor:"2399,keyasint"` // software components, as they are encoded
}

// realmClaims are those of a realm token that are looked at.
type realmClaims struct {
	Challenge  []byte          `cbor:"10,keyasint"`
	Digest     string          `cbor:"44236,keyasint"` // algorithm of RIM and REMs
	Key        cbor.RawMessage `cbor:"44237,keyasint"` // the RAK
	Initial    []byte          `cbor:"44238,keyasint"` // RIM
	Extensible [][]byte        `cbor:"44239,keyasint"` // REMs
	KeyDigest  string          `cbor:"44240,keyasint"` // algorithm of the digest in the platform token
}

// platformProfile is the one that is known here.
const platformProfile = "http://arm.com/CCA-SSD/1.0.0"

// token is a parsed token. Nothing is verified.
type token struct {
	platform, realm             *cose.Sign1Message
	platformClaims              platformClaims
	realmClaims                 realmClaims
	realmKey                    *ecdsa.PublicKey
	realmKeyBytes               []byte // over which the platform token has a digest
	platformSigned, realmSigned cose.Algorithm
}

func decoding() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 8, MaxArrayElements: 256, MaxMapPairs: 64,
	}.DecMode()
}

func parse(data []byte) (*token, error) {
	if len(data) > maxTokenSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(data), maxTokenSize)
	}
	mode, err := decoding()
	if err != nil {
		return nil, err
	}
	var tag cbor.RawTag
	if err := mode.Unmarshal(data, &tag); err != nil || tag.Number != tokenTag {
		return nil, fmt.Errorf("it is not a CBOR item with tag %d", tokenTag)
	}
	var w tokenWire
	if err := mode.Unmarshal(tag.Content, &w); err != nil {
		return nil, err
	}
	t := &token{}
	if t.platform, t.platformSigned, err = message(mode, w.Platform, &t.platformClaims); err != nil {
		return nil, fmt.Errorf("platform token: %w", err)
	}
	if t.realm, t.realmSigned, err = message(mode, w.Realm, &t.realmClaims); err != nil {
		return nil, fmt.Errorf("realm token: %w", err)
	}
	return t, t.check(mode)
}

// message reads one of the two messages, and its claims.
func message(mode cbor.DecMode, data []byte, claims any) (*cose.Sign1Message, cose.Algorithm, error) {
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(data); err != nil {
		return nil, 0, err
	}
	alg, err := m.Headers.Protected.Algorithm()
	if err != nil || alg != cose.AlgorithmES384 && alg != cose.AlgorithmES256 {
		return nil, 0, errors.New("it is signed with another algorithm than ES256 and ES384")
	}
	return &m, alg, mode.Unmarshal(m.Payload, claims)
}

func (t *token) check(mode cbor.DecMode) (err error) {
	p, r := &t.platformClaims, &t.realmClaims
	switch {
	case p.Profile != platformProfile:
		return fmt.Errorf("platform token: profile %.60q is not %s", p.Profile, platformProfile)
	case len(p.Implementation) != implementationSize || len(p.Instance) != instanceSize:
		return fmt.Errorf("platform token: implementation or instance id has not %d and %d bytes", implementationSize, instanceSize)
	case len(r.Challenge) != challengeSize:
		return fmt.Errorf("realm token: challenge has %d bytes, not %d", len(r.Challenge), challengeSize)
	case len(r.Extensible) != measurements:
		return fmt.Errorf("realm token: it has %d extensible measurements, not %d", len(r.Extensible), measurements)
	}
	size := map[string]int{"sha-256": 32, "sha-512": 64}[r.Digest]
	for _, m := range append([][]byte{r.Initial}, r.Extensible...) {
		if size == 0 || len(m) != size {
			return fmt.Errorf("realm token: a measurement of %d bytes is not of algorithm %.20q", len(m), r.Digest)
		}
	}
	if t.realmKeyBytes, t.realmKey, err = realmKey(mode, r.Key); err != nil {
		return fmt.Errorf("realm token: attestation key: %w", err)
	}
	return nil
}

// realmKey reads the RAK, which is a byte string: a raw point, or an encoded COSE_Key.
func realmKey(mode cbor.DecMode, claim []byte) (content []byte, key *ecdsa.PublicKey, err error) {
	if err := mode.Unmarshal(claim, &content); err != nil {
		return nil, nil, err
	}
	if len(content) == rawKeySize {
		key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P384(), content)
		return content, key, err
	}
	var k cose.Key
	if err := k.UnmarshalCBOR(content); err != nil {
		return nil, nil, err
	}
	public, err := k.PublicKey()
	if err != nil {
		return nil, nil, err
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, errors.New("it is no ECDSA key")
	}
	return content, key, nil
}

// keyDigest is the digest of the RAK that must stand in the platform token.
func (t *token) keyDigest() ([]byte, error) {
	switch t.realmClaims.KeyDigest {
	case "sha-256":
		sum := sha256.Sum256(t.realmKeyBytes)
		return sum[:], nil
	case "sha-384":
		sum := sha512.Sum384(t.realmKeyBytes)
		return sum[:], nil
	case "sha-512":
		sum := sha512.Sum512(t.realmKeyBytes)
		return sum[:], nil
	}
	return nil, fmt.Errorf("realm token: unknown algorithm %.20q of the key's digest", t.realmClaims.KeyDigest)
}
