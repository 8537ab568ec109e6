package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Constants of part 2: 6.2, 6.3, 6.4, 6.9.
const (
	generated  = 0xff544347 // TPM_GENERATED_VALUE
	typeQuote  = 0x8018     // TPM_ST_ATTEST_QUOTE
	algRSA     = 0x0001
	algNull    = 0x0010
	algSHA256  = 0x000b
	algSHA384  = 0x000c
	algRSASSA  = 0x0014
	algRSAPSS  = 0x0016
	algECDSA   = 0x0018
	algECC     = 0x0023
	curveP256  = 0x0003
	curveP384  = 0x0004
	maxRSABits = 4096
)

// Registers is the number of PCRs of a bank.
const Registers = 24

// Attributes of an object (TPMA_OBJECT; part 2, 8.3).
const (
	attrFixedTPM            = 1 << 1
	attrFixedParent         = 1 << 4
	attrSensitiveDataOrigin = 1 << 5
	attrRestricted          = 1 << 16
	attrDecrypt             = 1 << 17
	attrSign                = 1 << 18
)

// akAttributes are what makes a key an AK: made in this TPM, bound to it, and signing nothing but what the TPM itself has made.
const akAttributes = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin | attrRestricted | attrSign

var errShort = errors.New("it is cut short")

// reader reads structures of a TPM, which are big-endian. After an error it gives zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.err = errShort
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) number(size int) (n uint64) {
	for _, b := range r.take(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *reader) u8() uint8   { return uint8(r.number(1)) }
func (r *reader) u16() uint16 { return uint16(r.number(2)) }
func (r *reader) u32() uint32 { return uint32(r.number(4)) }

// sized reads a TPM2B: two bytes of size, then as many.
func (r *reader) sized() []byte { return r.take(int(r.u16())) }

// end says whether all was read, and nothing is left.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		return fmt.Errorf("%d bytes follow its end", len(r.rest))
	}
	return r.err
}

// hashOf returns the hash function of an algorithm, and whether it is good enough.
func hashOf(alg uint16) (crypto.Hash, bool) {
	switch alg {
	case algSHA256:
		return crypto.SHA256, true
	case algSHA384:
		return crypto.SHA384, true
	}
	return 0, false
}

// Bank is a selection of PCRs of one hash function.
type Bank struct {
	Hash crypto.Hash // crypto.SHA256 or crypto.SHA384
	PCRs []int       // ascending, 0 to 23
}

// attested is a quote (TPMS_ATTEST; part 2, 10.12.12).
type attested struct {
	signer    []byte // qualified name of the key
	extra     []byte // qualifying data
	clock     uint64 // in milliseconds of running, since the TPM was cleared
	resets    uint32
	restarts  uint32
	safe      bool // the clock was never set back
	firmware  uint64
	banks     []Bank
	pcrDigest []byte
}

func parseAttested(data []byte) (*attested, error) {
	r := &reader{rest: data}
	if magic := r.u32(); r.err == nil && magic != generated {
		return nil, fmt.Errorf("it was not made by a TPM: it begins with %08x, not %08x", magic, uint32(generated))
	}
	if kind := r.u16(); r.err == nil && kind != typeQuote {
		return nil, fmt.Errorf("it is of type %#04x, not a quote", kind)
	}
	a := &attested{signer: r.sized(), extra: r.sized(), clock: r.number(8), resets: r.u32(), restarts: r.u32()}
	safe := r.u8()
	if safe > 1 {
		return nil, fmt.Errorf("safe is %d, not 0 or 1", safe)
	}
	a.safe, a.firmware = safe == 1, r.number(8)
	var err error
	if a.banks, err = parseSelection(r); err != nil {
		return nil, err
	}
	a.pcrDigest = r.sized()
	return a, r.end()
}

// parseSelection reads a TPML_PCR_SELECTION (part 2, 10.9.7).
func parseSelection(r *reader) ([]Bank, error) {
	const mostBanks, bitmap = 2, Registers / 8
	count := r.u32()
	if r.err != nil {
		return nil, r.err
	}
	if count == 0 || count > mostBanks {
		return nil, fmt.Errorf("it is over %d banks of PCRs, not 1 or 2", count)
	}
	var banks []Bank
	for range count {
		alg, size := r.u16(), r.u8()
		selected := r.take(bitmap)
		if r.err != nil {
			return nil, r.err
		}
		hash, ok := hashOf(alg)
		if !ok {
			return nil, fmt.Errorf("bank %#04x of PCRs is neither SHA-256 nor SHA-384", alg)
		}
		if size != bitmap || slices.ContainsFunc(banks, func(b Bank) bool { return b.Hash == hash }) {
			return nil, errors.New("its selection of PCRs is of another form than that of 24 PCRs of distinct banks")
		}
		b := Bank{Hash: hash, PCRs: chosen(selected)}
		if len(b.PCRs) == 0 {
			return nil, fmt.Errorf("it selects no PCR of bank %#04x", alg)
		}
		banks = append(banks, b)
	}
	return banks, nil
}

// chosen gives the numbers of the bits that are set: PCR 0 is the lowest bit of the first byte.
func chosen(bitmap []byte) (pcrs []int) {
	for i := range 8 * len(bitmap) {
		if bitmap[i/8]&(1<<(i%8)) != 0 {
			pcrs = append(pcrs, i)
		}
	}
	return pcrs
}

// public is what matters of the public area of an AK (TPMT_PUBLIC; part 2, 12.2.4).
type public struct {
	key    crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	scheme uint16
	hash   crypto.Hash
}

// parsePublic reads a public area and checks that it is that of an AK, and strong enough.
func parsePublic(data []byte) (*public, error) {
	r := &reader{rest: data}
	kind, nameAlg, attributes := r.u16(), r.u16(), r.u32()
	r.sized() // policy
	symmetric, scheme, hashAlg := r.u16(), r.u16(), r.u16()
	if r.err != nil {
		return nil, r.err
	}
	if _, ok := hashOf(nameAlg); !ok {
		return nil, fmt.Errorf("its name is made with %#04x, neither SHA-256 nor SHA-384", nameAlg)
	}
	if attributes&akAttributes != akAttributes || attributes&attrDecrypt != 0 || symmetric != algNull {
		return nil, fmt.Errorf("it is not the key of a TPM for attestation: its attributes are %#08x and must have %#08x, without %#08x",
			attributes, akAttributes, attrDecrypt)
	}
	hash, ok := hashOf(hashAlg)
	if !ok {
		return nil, fmt.Errorf("it signs with the hash %#04x, neither SHA-256 nor SHA-384", hashAlg)
	}
	p := &public{scheme: scheme, hash: hash}
	var err error
	switch kind {
	case algRSA:
		p.key, err = parseRSA(r, scheme)
	case algECC:
		p.key, err = parseECC(r, scheme)
	default:
		err = fmt.Errorf("it is of type %#04x, neither RSA nor ECC", kind)
	}
	if err != nil {
		return nil, err
	}
	return p, r.end()
}

func parseRSA(r *reader, scheme uint16) (*rsa.PublicKey, error) {
	const usual = 65537
	bits, exponent, modulus := int(r.u16()), r.u32(), r.sized()
	n := new(big.Int).SetBytes(modulus)
	switch {
	case r.err != nil:
		return nil, r.err
	case scheme != algRSASSA && scheme != algRSAPSS:
		return nil, fmt.Errorf("its scheme is %#04x, neither RSASSA nor RSAPSS", scheme)
	case exponent != 0 && exponent != usual:
		return nil, fmt.Errorf("its exponent is %d, not %d", exponent, usual)
	case bits < 2048 || bits > maxRSABits || n.BitLen() != bits || len(modulus)*8 != bits:
		return nil, fmt.Errorf("its RSA key of %d bits is not one of 2048 to %d", n.BitLen(), maxRSABits)
	}
	return &rsa.PublicKey{N: n, E: usual}, nil
}

func parseECC(r *reader, scheme uint16) (*ecdsa.PublicKey, error) {
	id, kdf, x, y := r.u16(), r.u16(), r.sized(), r.sized()
	if r.err != nil {
		return nil, r.err
	}
	if scheme != algECDSA || kdf != algNull {
		return nil, fmt.Errorf("its scheme is %#04x, not ECDSA", scheme)
	}
	curve := map[uint16]elliptic.Curve{curveP256: elliptic.P256(), curveP384: elliptic.P384()}[id]
	if curve == nil {
		return nil, fmt.Errorf("its curve is %#04x, neither P-256 nor P-384", id)
	}
	size := (curve.Params().BitSize + 7) / 8
	if len(x) > size || len(y) > size {
		return nil, errors.New("its point is too long")
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed (SEC 1, 2.3.3)
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("its point is not on the curve: %w", err)
	}
	return key, nil
}

// checkSignature verifies a TPMT_SIGNATURE (part 2, 11.3.4) over data. It must be of the scheme that the key is bound to.
func (p *public) checkSignature(data, signature []byte) error {
	r := &reader{rest: signature}
	scheme, hashAlg := r.u16(), r.u16()
	hash, ok := hashOf(hashAlg)
	if r.err != nil || !ok || scheme != p.scheme || hash != p.hash {
		return errors.New("it is not of the scheme of its key")
	}
	h := hash.New()
	h.Write(data)
	digest := h.Sum(nil)
	if key, ok := p.key.(*rsa.PublicKey); ok {
		return checkRSA(key, hash, digest, scheme, r)
	}
	a, b := r.sized(), r.sized()
	if err := r.end(); err != nil {
		return err
	}
	key, ok := p.key.(*ecdsa.PublicKey)
	if !ok || !ecdsa.Verify(key, digest, new(big.Int).SetBytes(a), new(big.Int).SetBytes(b)) {
		return errors.New("it was not made by the key")
	}
	return nil
}

func checkRSA(key *rsa.PublicKey, hash crypto.Hash, digest []byte, scheme uint16, r *reader) error {
	signature := r.sized()
	if err := r.end(); err != nil {
		return err
	}
	if scheme == algRSAPSS {
		return rsa.VerifyPSS(key, hash, digest, signature, nil)
	}
	return rsa.VerifyPKCS1v15(key, hash, digest, signature)
}

// appendSized appends a TPM2B.
func appendSized(to, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(b))), b...)
}
