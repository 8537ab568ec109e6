package broker

import (
	"encoding/binary"
	"math/bits"
)

// The hash is for tables only; it need not withstand an attacker more than by its seed, which comes with
// the entropy of the first batch.
const (
	hashMul1 = 0x9E3779B97F4A7C15
	hashMul2 = 0xD6E8FEB86659FD93
)

// hashBytes hashes b eight bytes at a time.
func hashBytes(seed uint64, b []byte) uint32 {
	h := seed ^ uint64(len(b))*hashMul2
	for len(b) >= 8 {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	var tail uint64
	for i := len(b) - 1; i >= 0; i-- {
		tail = tail<<8 | uint64(b[i])
	}
	h = mix(h ^ tail)
	return uint32(h ^ h>>32)
}

// hashPair hashes two numbers.
func hashPair(seed uint64, a, b uint32) uint32 {
	h := mix(seed ^ (uint64(a)<<32 | uint64(b)))
	return uint32(h ^ h>>32)
}

func mix(h uint64) uint64 {
	h *= hashMul1
	h = bits.RotateLeft64(h, 29)
	return h*hashMul2 ^ h>>32
}
