package detect

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// MaxSize is the largest input in bytes.
const MaxSize = 1 << 20

// Found is evidence whose kind is known.
type Found struct {
	Format   string           // what it is, in words
	Wrapping []string         // that was taken off, outermost first: hexadecimal digits, base64, ...
	Quote    attest.Quote     // of whatever it is
	Evidence *attest.Evidence // of VouchMQ's own evidence, else nil
	RATLS    *RATLS           // of an RA-TLS certificate, else nil
}

// detector knows one kind. read returns nil, nil for what is not of this kind.
type detector struct {
	name string
	read func([]byte) (*Found, error)
}

func detectors() []detector {
	return []detector{
		{"VouchMQ evidence (CMW collection)", readOwn},
		{"Intel SGX quote of version 3, Intel TDX quote of version 4 or 5", readDCAP},
		{"AMD SEV-SNP attestation report", readSNP},
		{"AWS Nitro Enclaves attestation document", readNitro},
		{"Arm CCA attestation token", readCCA},
		{"RA-TLS certificate (X.509)", readRATLS},
		{"tagged quote of RA-TLS (CBOR tag 60000)", readTagged},
	}
}

// Known lists the kinds of evidence that are known.
func Known() []string {
	var names []string
	for _, d := range detectors() {
		names = append(names, d.name)
	}
	return names
}

// Detect says what data is. Errors are attest.ErrFormat; that of unknown data lists what is known.
func Detect(data []byte) (*Found, error) {
	if len(data) > MaxSize {
		return nil, attest.Errorf(attest.ErrFormat, "%d bytes are too many for evidence (at most %d)", len(data), MaxSize)
	}
	inner, wrapping := unwrap(data)
	if len(inner) == 0 { // perhaps within PEM, or behind 0x
		return nil, attest.Errorf(attest.ErrFormat, "it is empty")
	}
	for _, d := range detectors() {
		f, err := d.read(inner)
		if err != nil {
			return nil, attest.Errorf(attest.ErrFormat, "it looks like %s, but: %w", d.name, err)
		}
		if f != nil {
			f.Wrapping = wrapping
			return f, nil
		}
	}
	return nil, attest.Errorf(attest.ErrFormat, "it is no evidence that is known here; known are: %s; each as it is, in hexadecimal digits, base64 or PEM", strings.Join(Known(), "; "))
}

func readOwn(data []byte) (*Found, error) {
	if !bytes.Contains(data[:min(len(data), 4096)], []byte("__cmwc_t")) && !bytes.HasSuffix(data, []byte(attest.Profile)) {
		return nil, nil
	}
	e, err := attest.DecodeEvidence(data)
	if err != nil {
		return nil, err
	}
	return &Found{Format: "VouchMQ evidence (CMW collection)", Quote: e.Quote, Evidence: e}, nil
}

// Places in a quote, in bytes.
const (
	quoteHeader  = 48
	enclaveSize  = 384
	vendorAt     = 12
	teeTDX       = 0x81
	oldestQuote  = 3
	newestQuote  = 5
	keyTypeP384  = 3
	reportSize   = 1184
	cborTag      = 0xd9 // of two bytes
	tagCCA       = 399
	tagRATLS     = 60000
	vendorLength = 16
)

var intelVendor = []byte{0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07}

// readDCAP knows quotes by version, type of key and TEE. Zeros behind an SGX quote are taken off: they are the rest of a buffer.
func readDCAP(data []byte) (*Found, error) {
	if len(data) < quoteHeader {
		return nil, nil
	}
	version, keyType, tee := binary.LittleEndian.Uint16(data), binary.LittleEndian.Uint16(data[2:]), binary.LittleEndian.Uint32(data[4:])
	genuine := bytes.Equal(data[vendorAt:vendorAt+vendorLength], intelVendor)
	plausible := keyType >= 2 && keyType <= keyTypeP384 && (tee == 0 || tee == teeTDX)
	if version < oldestQuote || version > newestQuote || !genuine && !plausible {
		return nil, nil
	}
	if tee == teeTDX {
		return &Found{Format: "Intel TDX quote", Quote: attest.Quote{Platform: attest.TDX, Data: data}}, nil
	}
	return &Found{Format: "Intel SGX quote", Quote: attest.Quote{Platform: attest.SGX, Data: withoutPadding(data)}}, nil
}

func withoutPadding(data []byte) []byte {
	const sizeAt = quoteHeader + enclaveSize
	if len(data) < sizeAt+4 {
		return data
	}
	end := uint64(sizeAt) + 4 + uint64(binary.LittleEndian.Uint32(data[sizeAt:]))
	if end < uint64(len(data)) && len(bytes.Trim(data[end:], "\x00")) == 0 {
		return data[:end]
	}
	return data
}

func readSNP(data []byte) (*Found, error) {
	if len(data) != reportSize {
		return nil, nil
	}
	if version := binary.LittleEndian.Uint32(data); version == 0 || version > 16 || binary.LittleEndian.Uint32(data[0x34:]) != 1 {
		return nil, nil
	}
	return &Found{Format: "AMD SEV-SNP attestation report", Quote: attest.Quote{Platform: attest.SEVSNP, Data: data}}, nil
}

// readNitro knows a COSE_Sign1 message, tagged or not, whose payload begins as a document's.
func readNitro(data []byte) (*Found, error) {
	body := bytes.TrimPrefix(data, []byte{0xd2})
	if len(body) == 0 || body[0] != 0x84 || !bytes.Contains(body[:min(len(body), 256)], []byte("module_id")) {
		return nil, nil
	}
	return &Found{Format: "AWS Nitro Enclaves attestation document", Quote: attest.Quote{Platform: attest.Nitro, Data: data}}, nil
}

func readCCA(data []byte) (*Found, error) {
	if !hasTag(data, tagCCA) {
		return nil, nil
	}
	return &Found{Format: "Arm CCA attestation token", Quote: attest.Quote{Platform: attest.CCA, Data: data}}, nil
}

func hasTag(data []byte, tag uint16) bool {
	return len(data) > 3 && data[0] == cborTag && binary.BigEndian.Uint16(data[1:]) == tag
}
