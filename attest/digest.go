package attest

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
)

// DigestSize is the size of a Digest in bytes.
const DigestSize = sha512.Size384

const digestPrefix = "sha384:"

// Digest is a SHA-384 digest. Its text form is "sha384:" and 96 lower-case hexadecimal digits.
type Digest [DigestSize]byte

// Sum returns the SHA-384 digest of data.
func Sum(data []byte) Digest { return sha512.Sum384(data) }

// ParseDigest reads the text form.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	digits, ok := strings.CutPrefix(text, digestPrefix)
	if !ok {
		return d, fmt.Errorf("digest %q does not start with %q", abbreviate(text), digestPrefix)
	}
	if len(digits) != 2*DigestSize || strings.ToLower(digits) != digits {
		return d, fmt.Errorf("digest %q is not %q and %d lower-case hexadecimal digits", abbreviate(text), digestPrefix, 2*DigestSize)
	}
	if _, err := hex.Decode(d[:], []byte(digits)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", abbreviate(text), err)
	}
	return d, nil
}

// String returns the text form.
func (d Digest) String() string { return digestPrefix + hex.EncodeToString(d[:]) }

// Short returns the beginning of the text form, enough for a person to tell two digests apart. It is not
// for comparing: an attacker can make digests that begin alike.
func (d Digest) Short() string { return digestPrefix + hex.EncodeToString(d[:6]) + "…" }

// IsZero reports whether d is all zeros, that is, was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns the text form.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form.
func (d *Digest) UnmarshalText(text []byte) error {
	parsed, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}

// bytesOrNil returns the digest for a CBOR field that is null when there is none.
func (d *Digest) bytesOrNil() []byte {
	if d == nil {
		return nil
	}
	return d[:]
}

func equalDigests(a, b *Digest) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a[:], b[:])
}

func abbreviate(s string) string {
	if len(s) > 24 {
		return s[:24] + "…"
	}
	return s
}
