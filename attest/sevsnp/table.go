package sevsnp

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// guid names a kind of certificate (AMD, Guest-Hypervisor Communication Block Standardization (56421), section 4.1.8.1, in the order of RFC 9562).
type guid [16]byte

// guidOf is that of the certificate of a key.
func guidOf(s signer) (g guid) {
	text := "63da758de6644564adc5f4b93be8accd"
	if s == vlek {
		text = "a8074bc2a25a483eaae639c045a0b8a1"
	}
	_, _ = hex.Decode(g[:], []byte(text)) // a constant
	return g
}

// The table of certificates: entries of a GUID, an offset from the beginning and a length (u32, little-endian), up to one of zeros.
const (
	entrySize  = 24
	maxEntries = 64
)

// parseTable reads what a host gives along with a report. It may be empty.
func parseTable(b []byte) (map[guid][]byte, error) {
	table := map[guid][]byte{}
	for rest := b; len(rest) > 0; rest = rest[entrySize:] {
		if len(rest) < entrySize {
			return nil, fmt.Errorf("it is cut short")
		}
		if zero(rest[:entrySize]) {
			return table, nil
		}
		g := guid(rest)
		at, n := uint64(binary.LittleEndian.Uint32(rest[16:])), uint64(binary.LittleEndian.Uint32(rest[20:]))
		if at+n > uint64(len(b)) {
			return nil, fmt.Errorf("an entry lies outside of it")
		}
		if _, twice := table[g]; twice || len(table) == maxEntries {
			return nil, fmt.Errorf("an entry is there twice, or it has more than %d", maxEntries)
		}
		table[g] = b[at : at+n]
	}
	return table, nil
}
