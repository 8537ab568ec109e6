package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
)

// chip is a processor of a line, all of whose versions are chipVersion.
type chip struct {
	line, product string
	report        uint32 // version
	family, model byte
	id            []byte
	parts         map[int]int // by the last number of their OID, the byte of a TCB version
}

const chipVersion = 7

// chips is one of each line.
func chips() []chip {
	id, zen := slices.Repeat([]byte{0xc1}, 64), map[int]int{1: 0, 2: 1, 3: 6, 8: 7}
	return []chip{
		{"Milan", "Milan-B0", 2, 0x19, 0x01, id, zen},
		{"Genoa", "Genoa-B1", 3, 0x19, 0x11, id, zen},
		{"Turin", "Turin", 5, 0x1a, 0x02, id[:8], map[int]int{9: 0, 1: 1, 2: 2, 3: 3, 8: 7}},
	}
}

// amd makes reports of each line, under authorities with keys as long as AMD's.
func amd() (all []Evidence) {
	const bits = 4096
	long := func(name string, by *authority) *authority {
		t := authorityTemplate(name)
		t.SignatureAlgorithm = x509.SHA384WithRSAPSS
		return issue(t, must(rsa.GenerateKey(rand.Reader, bits)), by)
	}
	root := long("ARK", nil)
	signer := long("ASK", root)
	for _, c := range chips() {
		key := newKey(elliptic.P384())
		quote := attest.Quote{Platform: attest.SEVSNP, Data: c.sign(key), Endorsements: c.certificate(key, signer)}
		verifier := sevsnp.NewVerifier().WithAuthorities(c.line, root.certificate, signer.certificate, signer.certificate)
		all = append(all, Evidence{Name: "SEV-SNP " + c.line, Quote: quote, Verifier: verifier, Now: now})
	}
	return all
}

// certificate is that of the chip's key, a VCEK (AMD 57230).
func (c *chip) certificate(key *ecdsa.PrivateKey, by *authority) []byte {
	extension := func(value []byte, last ...int) pkix.Extension {
		return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, last...), Value: value}
	}
	t := template("SEV-VCEK")
	t.SignatureAlgorithm = x509.SHA384WithRSAPSS
	t.ExtraExtensions = []pkix.Extension{extension(must(asn1.MarshalWithParams(c.product, "ia5")), 2), extension(c.id, 4)}
	for number := range c.parts {
		t.ExtraExtensions = append(t.ExtraExtensions, extension(must(asn1.Marshal(chipVersion)), 3, number))
	}
	return issue(t, key, by).certificate.Raw
}

// sign makes a report (AMD 56860, table "ATTESTATION_REPORT Structure"), whose numbers are little-endian.
func (c *chip) sign(key *ecdsa.PrivateKey) []byte {
	const signed, size = 0x2a0, 0x4a0
	b, le := make([]byte, size), binary.LittleEndian
	le.PutUint32(b, c.report)
	le.PutUint64(b[0x8:], 1<<17) // guest policy: the bit that is always 1
	le.PutUint32(b[0x34:], 1)    // ECDSA on P-384 with SHA-384
	copy(b[0x50:], reportData[:])
	copy(b[0x90:], slices.Repeat([]byte{0x11}, 48)) // measurement
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		for _, place := range c.parts {
			b[at+place] = chipVersion
		}
	}
	if c.report >= 3 {
		b[0x188], b[0x189] = c.family, c.model
	}
	copy(b[0x1a0:], c.id)
	digest := sha512.Sum384(b[:signed])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	must(0, err)
	for i, n := range [][]byte{r.FillBytes(make([]byte, 72)), s.FillBytes(make([]byte, 72))} {
		slices.Reverse(n)
		copy(b[signed+72*i:], n)
	}
	return b
}
