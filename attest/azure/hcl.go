package azure

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// The layout of an HCL report; all numbers are little-endian.
//
//	0     "HCLA", version, size of all but the zeros at the end, request type, status (u32 each), 12 bytes reserved
//	32    hardware report, in an area of 1,184 bytes
//	1216  size from here on, version, report type, hash type, size of the text (u32 each)
//	1236  the text, and zeros up to the size of the NV index
const (
	magic       = "HCLA"
	reportAt    = 32
	reportSize  = 1184
	tdReport    = 1024 // bytes of the area that a TD report fills
	runtimeAt   = reportAt + reportSize
	runtimeHead = 20
	textAt      = runtimeAt + runtimeHead

	attestationRequest = 2 // request type
	runtimeVersion     = 1
	hashSHA256         = 1
)

// maxReport bounds an HCL report; its NV index has 2,600 bytes.
const maxReport = 8 << 10

// kind is what the hardware report is of.
type kind uint32

const (
	snp kind = 2
	tdx kind = 4
)

// report is a parsed HCL report. Nothing is verified.
type report struct {
	kind     kind
	hardware []byte // 1,184 bytes
	text     []byte // runtime data, JSON
	key      *rsa.PublicKey
}

func parseReport(b []byte) (*report, error) {
	if len(b) < textAt || len(b) > maxReport {
		return nil, fmt.Errorf("it has %d bytes, not %d to %d", len(b), textAt, maxReport)
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	size := u32(runtimeAt + 16)
	if uint64(size) > uint64(len(b)-textAt) {
		return nil, fmt.Errorf("it is cut short: its text is to have %d bytes", size)
	}
	end := textAt + int(size)
	switch {
	case string(b[:4]) != magic:
		return nil, fmt.Errorf("it begins with %q, not %q", b[:4], magic)
	case u32(4) < 1 || u32(4) > 2:
		return nil, fmt.Errorf("version %d is neither 1 nor 2", u32(4))
	case u32(12) != attestationRequest || u32(16) != 0 || !zero(b[20:reportAt]):
		return nil, fmt.Errorf("it is no answer to a request for attestation (type %d, status %d)", u32(12), u32(16))
	case u32(runtimeAt+4) != runtimeVersion || u32(runtimeAt+12) != hashSHA256:
		return nil, fmt.Errorf("its text is of version %d, bound by hash %d; known are %d and SHA-256 (%d)", u32(runtimeAt+4), u32(runtimeAt+12), runtimeVersion, hashSHA256)
	case uint64(u32(8)) != uint64(end) || uint64(u32(runtimeAt)) != uint64(size)+runtimeHead:
		return nil, errors.New("the sizes in it contradict each other")
	case !zero(b[end:]):
		return nil, errors.New("there is something behind its end")
	}
	r := &report{kind: kind(u32(runtimeAt + 8)), hardware: b[reportAt:runtimeAt], text: b[textAt:end]}
	if r.kind != snp && r.kind != tdx {
		return nil, fmt.Errorf("hardware report of type %d is neither of SEV-SNP (%d) nor of TDX (%d)", r.kind, snp, tdx)
	}
	var err error
	if r.key, err = attestationKey(r.text); err != nil {
		return nil, fmt.Errorf("runtime data: %w", err)
	}
	return r, nil
}

// jwk is a key of the runtime data (RFC 7517).
type jwk struct {
	ID   string `json:"kid"`
	Type string `json:"kty"`
	E    string `json:"e"`
	N    string `json:"n"`
}

const keyID = "HCLAkPub"

// attestationKey finds the one key of the vTPM in the runtime data.
func attestationKey(text []byte) (*rsa.PublicKey, error) {
	var data struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &data); err != nil {
		return nil, err
	}
	var found *jwk
	for i, k := range data.Keys {
		if k.ID == keyID && found != nil {
			return nil, fmt.Errorf("it has %s twice", keyID)
		}
		if k.ID == keyID {
			found = &data.Keys[i]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("it has no %s", keyID)
	}
	return found.rsa()
}

func (k *jwk) rsa() (*rsa.PublicKey, error) {
	const usual, exponent = "AQAB", 65537
	n, err := base64.RawURLEncoding.Strict().DecodeString(k.N)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}
	bits := key.N.BitLen()
	if err != nil || k.Type != "RSA" || k.E != usual || bits < 2048 || bits > 4096 {
		return nil, fmt.Errorf("%s is not an RSA key of 2,048 to 4,096 bits with the exponent %d", keyID, exponent)
	}
	return key, nil
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
