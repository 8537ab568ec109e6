// Package flipped tests that evidence with a flipped bit is refused as forged.
package flipped

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
)

// Each flips bits of data, one at a time, and wants verify to refuse each as malformed, as not signed so, as out of its time, or as of a platform that
// cannot be (Intel's order of checks has that before the signature): whatever else would mean that a forgery was believed. It tries one bit of every step, of many more in short tests, from a random one on, so that many runs see all bits; with
// VOUCHMQ_EVERY_BIT set it tries all. skip says which bytes nothing vouches for; nil: none.
func Each(t testing.TB, data []byte, step int, skip func(at int) bool, verify func(bad []byte) error) {
	t.Helper()
	if testing.Short() {
		step *= 11
	}
	if os.Getenv("VOUCHMQ_EVERY_BIT") != "" {
		step = 1
	}
	for i := rand.IntN(step); i < 8*len(data); i += step {
		if skip != nil && skip(i/8) {
			continue
		}
		bad := bytes.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		if err := verify(bad); !asForged(err) {
			t.Errorf("with bit %d of byte %#x flipped: %v", i%8, i/8, err)
		}
	}
}

func asForged(err error) bool {
	return errors.Is(err, attest.ErrTCB) && !errors.Is(err, attest.ErrDebug) || errors.Is(err, attest.ErrFormat) || errors.Is(err, attest.ErrSignature) || errors.Is(err, attest.ErrFreshness)
}
