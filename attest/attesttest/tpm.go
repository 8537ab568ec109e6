package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

var be = binary.BigEndian

// sized appends a TPM2B: two bytes of size, then as many.
func sized(b, value []byte) []byte { return append(be.AppendUint16(b, uint16(len(value))), value...) }

func numbers(values ...uint16) (b []byte) {
	for _, v := range values {
		b = be.AppendUint16(b, v)
	}
	return b
}

// Algorithms (TPM 2.0 library, part 2, 6.3).
const (
	algNull, algSHA256, algECDSA, algECC, curveP256 = 0x10, 0x0b, 0x18, 0x23, 3
)

// onTPM makes a quote over PCRs 0 to 7 and 14 by an attestation key that a CA has certified, all on P-256.
func onTPM() Evidence {
	key := newKey(elliptic.P256())
	ak := publicArea(key)
	quote, pcrs := quoteOf()
	digest := sha256.Sum256(quote)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	must(0, err)
	signature := sized(sized(numbers(algECDSA, algSHA256), r.Bytes()), s.Bytes())
	data := must(dcbor.Encode(struct {
		Version   uint64   `cbor:"v"`
		Attested  []byte   `cbor:"attest"`
		Signature []byte   `cbor:"sig"`
		Public    []byte   `cbor:"ak"`
		PCRs      [][]byte `cbor:"pcrs"`
	}{1, quote, signature, ak, pcrs}))
	return Evidence{
		Name: "TPM", Quote: attest.Quote{Platform: attest.TPM, Data: data, Endorsements: enrol(ak)}, Verifier: tpm.NewVerifier(), Now: now,
	}
}

// publicArea is a TPMT_PUBLIC of a key that signs only what the TPM has made.
func publicArea(key *ecdsa.PrivateKey) []byte {
	const attributes = 1<<1 | 1<<4 | 1<<5 | 1<<16 | 1<<18 // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign
	point := must(key.PublicKey.Bytes())[1:]
	b := be.AppendUint32(numbers(algECC, algSHA256), attributes)
	b = append(b, numbers(0, algNull, algECDSA, algSHA256, curveP256, algNull)...)
	return sized(sized(b, point[:32]), point[32:])
}

// quoteOf is a TPMS_ATTEST (part 2, 10.12.12), and the PCRs that it is over.
func quoteOf() (quote []byte, pcrs [][]byte) {
	const generated, kind = 0xff544347, 0x8018
	for i := range byte(9) {
		pcrs = append(pcrs, slices.Repeat([]byte{i}, sha256.Size))
	}
	short, digest := reportData.Short(), sha256.Sum256(slices.Concat(pcrs...))
	quote = append(be.AppendUint32(nil, generated), numbers(kind)...)
	quote = sized(sized(quote, []byte("qualified signer")), short[:])
	quote = append(quote, make([]byte, 8+4+4+1+8)...) // clock, resets, restarts, safe, firmware's version
	quote[len(quote)-9] = 1
	quote = append(be.AppendUint32(quote, 1), numbers(algSHA256)...)
	quote = append(quote, 3, 0xff, 0x40, 0) // PCRs 0 to 7 and 14
	return sized(quote, digest[:]), pcrs
}

// enrol has a CA certify an attestation key, as it does a TPM's.
func enrol(ak []byte) []byte {
	ca := issue(authorityTemplate("machines"), newKey(elliptic.P256()), nil)
	ek := must(newKey(elliptic.P256()).PublicKey.Bytes())[1:]
	public := tpm2.Marshal(tpm2.ECCEKTemplate)
	public = sized(sized(public[:len(public)-68], ek[:32]), ek[32:]) // in place of two coordinates of 32 bytes
	request := must(tpm.ParseRequest(must((&tpm.Request{EK: public, AK: ak}).Encode())))
	challenge, pending, err := request.Challenge(rand.Reader)
	must(0, err)
	text, _, err := pending.Certify(&tpm.Response{AK: challenge.AK, Secret: pending.Secret}, ca.certificate, ca.key, now, 24*time.Hour)
	must(0, err)
	return must(tpm.DecodeCertificates(text))
}
