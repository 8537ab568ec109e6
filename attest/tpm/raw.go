package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Key is an attestation key as it comes in a file.
type Key struct {
	Public []byte // TPMT_PUBLIC; nil if only the key itself is known
	key    crypto.PublicKey
	scheme uint16
	hash   crypto.Hash
}

// ParseKey reads a public area, with its size before it (TPM2B_PUBLIC, as tpm2_createak writes it) or not (TPMT_PUBLIC), or a key alone
// (SubjectPublicKeyInfo, DER). Of a key alone nobody can tell that it is one for attestation: it may sign whatever its owner likes.
func ParseKey(data []byte) (*Key, error) {
	if len(data) > 0 && data[0] == 0x30 { // SEQUENCE
		return parseSPKI(data)
	}
	data = withoutSize(data)
	p, err := parsePublic(data)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "attestation key: %w", err)
	}
	return &Key{Public: data, key: p.key, scheme: p.scheme, hash: p.hash}, nil
}

func parseSPKI(der []byte) (*Key, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "attestation key: %w", err)
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= 2048 && bits <= maxRSABits {
			return KeyOfRSA(k), nil
		}
	case *ecdsa.PublicKey:
		if hash, ok := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384}[k.Curve.Params().BitSize]; ok {
			return &Key{key: k, scheme: algECDSA, hash: hash}, nil
		}
	}
	return nil, attest.Errorf(attest.ErrFormat, "attestation key: it is neither RSA of 2048 to %d bits nor on P-256 or P-384", maxRSABits)
}

// KeyOfRSA returns a key alone, whose signatures are taken for RSASSA with SHA-256 where they do not say what they are.
func KeyOfRSA(key *rsa.PublicKey) *Key {
	return &Key{key: key, scheme: algRSASSA, hash: crypto.SHA256}
}

// withoutSize takes off the size of a TPM2B.
func withoutSize(b []byte) []byte {
	if len(b) > 2 && int(binary.BigEndian.Uint16(b)) == len(b)-2 {
		return b[2:]
	}
	return b
}

// ReadQuote makes a quote of what tools for TPMs write (tpm2_quote --message, --signature, --pcrs). The message is a TPMS_ATTEST, the signature
// a TPMT_SIGNATURE, or bare; values are as [ParsePCRs] gives them. Nothing is verified.
func ReadQuote(message, signature []byte, values [][]byte, key *Key) (*SignedQuote, error) {
	signature, err := key.structured(signature)
	if err != nil {
		return nil, err
	}
	return &SignedQuote{Attested: withoutSize(message), Signature: signature, PCRs: values}, nil
}

// structured makes a TPMT_SIGNATURE of a bare signature: what PKCS #1 makes, or for ECDSA the DER of RFC 3279, section 2.2.3.
func (k *Key) structured(signature []byte) ([]byte, error) {
	if len(signature) > maxPart {
		return nil, attest.Errorf(attest.ErrFormat, "signature of the quote: it has %d bytes, at most %d are read", len(signature), maxPart)
	}
	head := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, k.scheme), algOf(k.hash))
	if key, ok := k.key.(*rsa.PublicKey); ok && len(signature) == key.Size() {
		return appendSized(head, signature), nil
	}
	var point struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &point); err == nil && len(rest) == 0 && k.scheme == algECDSA && point.R.Sign() > 0 && point.S.Sign() > 0 {
		return appendSized(appendSized(head, point.R.Bytes()), point.S.Bytes()), nil
	}
	return signature, nil
}

func algOf(hash crypto.Hash) uint16 {
	if hash == crypto.SHA384 {
		return algSHA384
	}
	return algSHA256
}

// Evidence returns a quote as evidence, for [Verifier]. It takes the public area of the key.
func (q *SignedQuote) Evidence(key *Key) (attest.Quote, error) {
	encoded, err := dcbor.Encode(evidence{Version: evidenceVersion, Attested: q.Attested, Signature: q.Signature, Public: key.Public, PCRs: q.PCRs})
	if err != nil {
		return attest.Quote{}, attest.Errorf(attest.ErrFormat, "TPM evidence: %w", err)
	}
	return attest.Quote{Platform: attest.TPM, Data: encoded}, nil
}

// Claims verifies a quote by a key alone. It says nothing of whose key it is, so that no policy can accept it.
func (q *SignedQuote) Claims(key *Key) (attest.PlatformClaims, error) {
	p := &public{key: key.key, scheme: key.scheme, hash: key.hash}
	if r := (&reader{rest: q.Signature}); key.Public == nil { // the signature says which of the key's schemes it is by
		scheme, alg := r.u16(), r.u16()
		if hash, ok := hashOf(alg); ok && (scheme == algRSASSA || scheme == algRSAPSS || scheme == algECDSA) {
			p.scheme, p.hash = scheme, hash
		}
	}
	extra, pcrs, err := q.verify(p)
	if err != nil {
		return attest.PlatformClaims{}, err
	}
	return attest.PlatformClaims{Platform: attest.TPM, ReportData: extra, TCB: attest.TCBNotApplicable, Measurements: pcrs}, nil
}

// What tpm2-tools writes to the file of --pcrs unless told otherwise: structures of the TPM2 software stack as they are in memory on a little-endian
// machine. TPML_PCR_SELECTION with 16 places, then a number, then as many TPML_DIGEST with 8 places each (tpm2-tools, lib/pcr.c).
const (
	selectionPlaces = 16
	selectionSize   = 8 // hash (2), size (1), bitmap (4), 1 to fill up
	selectionsSize  = 4 + selectionPlaces*selectionSize
	digestPlaces    = 8
	digestSize      = 2 + 64
	digestsSize     = 4 + digestPlaces*digestSize
)

// ParsePCRs reads the values that a message is over from a file of tpm2_quote --pcrs, in either of its formats: serialized, or values, which are the
// digests one after the other.
func ParsePCRs(message, data []byte) ([][]byte, error) {
	a, err := parseAttested(withoutSize(message))
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "quote: %w", err)
	}
	var sizes []int
	total := 0
	for _, b := range a.banks {
		for range b.PCRs {
			sizes, total = append(sizes, b.Hash.Size()), total+b.Hash.Size()
		}
	}
	if len(data) != total {
		return serializedPCRs(data)
	}
	var values [][]byte
	for _, n := range sizes {
		values, data = append(values, data[:n]), data[n:]
	}
	return values, nil
}

var errPCRs = errors.New("it is neither of the format that tpm2_quote calls serialized, nor the values of the PCRs of the quote one after the other")

func serializedPCRs(data []byte) (values [][]byte, err error) {
	wrong := attest.Errorf(attest.ErrFormat, "values of the PCRs: %w", errPCRs)
	if len(data) < selectionsSize+4 || binary.LittleEndian.Uint32(data) > selectionPlaces {
		return nil, wrong
	}
	count, lists := binary.LittleEndian.Uint32(data[selectionsSize:]), data[selectionsSize+4:]
	if uint64(len(lists)) != uint64(count)*digestsSize {
		return nil, wrong
	}
	for ; len(lists) > 0; lists = lists[digestsSize:] {
		n := binary.LittleEndian.Uint32(lists)
		if n > digestPlaces {
			return nil, wrong
		}
		for i := range int(n) {
			place := lists[4+i*digestSize:]
			size := binary.LittleEndian.Uint16(place)
			if size > digestSize-2 {
				return nil, wrong
			}
			values = append(values, bytes.Clone(place[2:2+size]))
		}
	}
	return values, nil
}

// describe says what kind of key it is.
func (k *Key) describe() string {
	scheme := map[uint16]string{algRSASSA: "RSASSA", algRSAPSS: "RSAPSS", algECDSA: "ECDSA"}[k.scheme]
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA of %d bits, %s with %s", key.N.BitLen(), scheme, k.hash)
	case *ecdsa.PublicKey:
		return fmt.Sprintf("%s, %s with %s", key.Curve.Params().Name, scheme, k.hash)
	}
	return "unknown"
}
