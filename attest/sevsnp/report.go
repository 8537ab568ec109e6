package sevsnp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// reportSize is the size of a report in bytes; signedSize of its part that is signed.
const (
	reportSize = 0x4a0
	signedSize = 0x2a0
)

// Versions of the report that are known here.
const (
	oldestVersion = 2
	newestVersion = 5
	cpuidVersion  = 3 // and later ones say which processor it is
)

// scheme is the only signature algorithm: ECDSA on P-384 with SHA-384.
const scheme = 1

// Bits of the guest policy.
const (
	policySMT       = 1 << 16
	policyReserved  = 1 << 17 // must be 1
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
)

// signer is the kind of key that has signed.
type signer uint8

const (
	vcek signer = 0
	vlek signer = 1
)

func (s signer) String() string {
	if s == vlek {
		return "VLEK"
	}
	return "VCEK"
}

// report is a parsed report. Nothing is verified. All numbers are little-endian.
type report struct {
	signed      []byte // over which the signature is
	r, s        []byte // of the signature, most significant byte first
	version     uint32
	guestSVN    uint32
	policy      uint64
	vmpl        uint32
	maskChip    bool // the chip id is not shown
	signer      signer
	data        []byte // 64 bytes of report data
	measurement []byte
	hostData    []byte
	idKeyDigest []byte
	family      uint8 // of the processor, from version 3 on
	model       uint8
	chipID      []byte
	current     uint64 // TCB versions, packed as the processor line has them
	reported    uint64
	committed   uint64
	launch      uint64
}

func parseReport(b []byte) (*report, error) {
	if len(b) != reportSize {
		return nil, fmt.Errorf("it has %d bytes, not %d", len(b), reportSize)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	keys := u32(0x48)
	r := &report{
		signed: b[:signedSize], r: reversed(b[0x2a0 : 0x2a0+72]), s: reversed(b[0x2e8 : 0x2e8+72]),
		version: u32(0), guestSVN: u32(4), policy: u64(8), vmpl: u32(0x30), maskChip: keys&2 != 0, signer: signer(keys >> 2 & 7),
		data: b[0x50:0x90], measurement: b[0x90:0xc0], hostData: b[0xc0:0xe0], idKeyDigest: b[0xe0:0x110],
		chipID: b[0x1a0:0x1e0], current: u64(0x38), reported: u64(0x180), committed: u64(0x1e0), launch: u64(0x1f0),
	}
	switch {
	case r.version < oldestVersion || r.version > newestVersion:
		return nil, fmt.Errorf("version %d is none of %d to %d", r.version, oldestVersion, newestVersion)
	case u32(0x34) != scheme:
		return nil, fmt.Errorf("signature algorithm %d is not ECDSA on P-384", u32(0x34))
	case r.signer != vcek && r.signer != vlek:
		return nil, fmt.Errorf("it is signed by no key (%d)", r.signer)
	case r.policy&policyReserved == 0:
		return nil, fmt.Errorf("the guest policy %#x lacks the bit that is always 1", r.policy)
	case !zero(b[0x330:]):
		return nil, fmt.Errorf("there is something behind the signature")
	}
	if r.version >= cpuidVersion {
		r.family, r.model = b[0x188], b[0x189]
	}
	return r, nil
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, x := range b {
		out[len(b)-1-i] = x
	}
	return out
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
