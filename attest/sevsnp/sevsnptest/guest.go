package sevsnptest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"strings"
)

// Guest is what is said of a chip, and of a guest on it.
type Guest struct {
	Product       string           // as the chip's certificate names it: "Milan-B0"
	Chip          []byte           // its id: 64 bytes, of Turin 8; nil: a provider's key signs (VLEK)
	Parts         map[string]uint8 // versions of the firmware: "bootloader", "tee", "snp", "microcode", of Turin also "fmc"
	Version       uint32           // of the report's format
	Family, Model uint8            // of the processor; reports before version 3 do not tell
	Policy        uint64           // of the guest
	Data          []byte           // report data

	ChangeReport      func(report []byte)              // before it is signed
	ChangeCertificate func(template *x509.Certificate) // before it is issued
	Issuer            *Authority                       // of the certificate; nil: that of chips' keys
}

// alwaysSet is the bit of a guest's policy that is always 1.
const alwaysSet = 1 << 17

// Milan is a guest on a processor of this line.
func Milan(data []byte) Guest {
	return Guest{
		Product: "Milan-B0", Chip: slices.Repeat([]byte{0xc1}, 64), Parts: map[string]uint8{"bootloader": 4, "tee": 0, "snp": 22, "microcode": 213},
		Version: 2, Policy: alwaysSet, Data: data,
	}
}

// Genoa is a guest on a processor of this line.
func Genoa(data []byte) Guest {
	g := Milan(data)
	g.Product, g.Version, g.Family, g.Model = "Genoa-B1", 3, 0x19, 0x11
	return g
}

// Turin is a guest on a processor of this line.
func Turin(data []byte) Guest {
	return Guest{
		Product: "Turin", Chip: slices.Repeat([]byte{0xc2}, 8),
		Parts:   map[string]uint8{"fmc": 1, "bootloader": 2, "tee": 3, "snp": 4, "microcode": 5},
		Version: 5, Family: 0x1a, Model: 0x02, Policy: alwaysSet, Data: data,
	}
}

// Line is the line of processors: "Milan" of the product "Milan-B0".
func (g *Guest) Line() string {
	line, _, _ := strings.Cut(g.Product, "-")
	return line
}

// place is where a part of the firmware has its version.
type place struct {
	extension int // of a certificate: the last number of the OID
	at        int // of a TCB version: the byte, least significant first
}

func (g *Guest) places() map[string]place {
	if g.Line() == "Turin" {
		return map[string]place{"fmc": {9, 0}, "bootloader": {1, 1}, "tee": {2, 2}, "snp": {3, 3}, "microcode": {8, 7}}
	}
	return map[string]place{"bootloader": {1, 0}, "tee": {2, 1}, "snp": {3, 6}, "microcode": {8, 7}}
}

// Certificate is that of the key which signs the guest's reports, VCEK or VLEK (DER).
func (w *World) Certificate(g Guest, key *ecdsa.PrivateKey) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "SEV-VCEK"}, NotBefore: Now, NotAfter: Now.AddDate(Years, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: g.extensions(),
	}
	if g.ChangeCertificate != nil {
		g.ChangeCertificate(template)
	}
	by := w.VCEKs
	if g.Issuer != nil {
		by = g.Issuer
	}
	return x509.CreateCertificate(rand.Reader, template, by.Certificate, &key.PublicKey, by.key)
}

func (g *Guest) extensions() []pkix.Extension {
	all := []pkix.Extension{extension(IA5(g.Product), 2)}
	for name, p := range g.places() {
		all = append(all, extension(integer(g.Parts[name]), 3, p.extension))
	}
	if g.Chip == nil {
		return append(all, extension(IA5("cloud"), 5))
	}
	return append(all, extension(g.Chip, 4)) // without a tag, as AMD has it
}

// extension is one of AMD's, by the last numbers of its OID.
func extension(value []byte, last ...int) pkix.Extension {
	return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, last...), Value: value}
}

// IA5 is a short text as an IA5String (DER), as a certificate has the product's name.
func IA5(text string) []byte { return append([]byte{asn1.TagIA5String, byte(len(text))}, text...) }

// integer is an INTEGER (DER), whose first bit is its sign.
func integer(v uint8) []byte {
	if v < 0x80 {
		return []byte{asn1.TagInteger, 1, v}
	}
	return []byte{asn1.TagInteger, 2, 0, v}
}

// Places of a report, in bytes.
const (
	signedSize = 0x2a0
	reportSize = 0x4a0
)

// Report makes the guest's report and signs it: numbers are little-endian, those of the signature have 72 bytes each.
func (g *Guest) Report(key *ecdsa.PrivateKey) ([]byte, error) {
	b := g.unsigned()
	if g.ChangeReport != nil {
		g.ChangeReport(b)
	}
	digest := sha512.Sum384(b[:signedSize])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	for i, n := range []*big.Int{r, s} {
		value := n.FillBytes(make([]byte, 72))
		slices.Reverse(value)
		copy(b[signedSize+72*i:], value)
	}
	return b, nil
}

func (g *Guest) unsigned() []byte {
	const vlek = 1 << 2 // which key signs
	b, le := make([]byte, reportSize), binary.LittleEndian
	le.PutUint32(b, g.Version)
	le.PutUint32(b[0x04:], 9) // guest SVN
	le.PutUint64(b[0x08:], g.Policy)
	le.PutUint32(b[0x34:], 1) // ECDSA on P-384 with SHA-384
	if g.Chip == nil {
		le.PutUint32(b[0x48:], vlek)
	}
	copy(b[0x50:], g.Data)
	copy(b[0x90:], slices.Repeat([]byte{0x11}, 48)) // measurement
	copy(b[0xc0:], slices.Repeat([]byte{0x22}, 32)) // host data
	for _, tcb := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		for name, p := range g.places() {
			b[tcb+p.at] = g.Parts[name]
		}
	}
	b[0x188], b[0x189] = g.Family, g.Model
	copy(b[0x1a0:], g.Chip)
	return b
}
