// Package redact hides what clients chose, or are known by, from those who read logs: client ids, user names and
// topics are shown as a short keyed hash. The same name gives the same hash under the same key, so lines that belong
// together can still be found.
//
// It is pure: the key comes from outside. A key for each process makes the hashes of one run useless for the next; a
// configured one keeps them comparable, for whoever has it.
package redact

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// KeySize is the size of a key that NewKey makes, in bytes.
const KeySize = 32

// MinKeySize is the size in bytes that a key must have at least: a shorter one could be found by trying.
const MinKeySize = 16

// HashDigits is how many hexadecimal digits of the hash are shown: enough to tell a million names apart.
const HashDigits = 12

// Mark begins what stands for a hidden name.
const Mark = "#"

// maxPlain bounds what a log line shows of a name that is not hidden, in bytes.
const maxPlain = 256

// ErrShortKey says that a key has less than MinKeySize bytes.
var ErrShortKey = errors.New("the key for hiding names in logs is too short")

// NewKey makes a key of KeySize bytes from a source of randomness.
func NewKey(random io.Reader) ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("make a key for hiding names in logs: %w", err)
	}
	return key, nil
}

// Func shows a name, hidden or not. It may be called by any goroutine.
type Func = func(name string) string

// With returns a Func that hides names under a key: Mark and HashDigits hexadecimal digits of HMAC-SHA-256. The empty
// name stays empty: that there is none is no secret.
func With(key []byte) (Func, error) {
	if len(key) < MinKeySize {
		return nil, fmt.Errorf("%w: it has %d bytes, and needs %d", ErrShortKey, len(key), MinKeySize)
	}
	key = append([]byte(nil), key...)
	return func(name string) string { return hide(key, name) }, nil
}

func hide(key []byte, name string) string {
	if name == "" {
		return ""
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(name)) // never fails, see its documentation
	return Mark + hex.EncodeToString(mac.Sum(nil)[:HashDigits/2])
}

// Plain shows a name as it is, cut to 256 bytes at a border of characters. It is a Func for those who ask for it.
// Quoting it is for the log's handler.
func Plain(name string) string {
	if len(name) <= maxPlain {
		return name
	}
	end := maxPlain
	for end > 0 && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + "..."
}
