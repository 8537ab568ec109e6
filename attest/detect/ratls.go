package detect

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/vouchmq/vouchmq/attest"
)

// RATLS is an X.509 certificate with a quote in an extension, and nothing of it verified.
type RATLS struct {
	Certificate *x509.Certificate
	ClaimsBytes []byte // that the report data is the digest of (CCC, Interoperable RA-TLS); nil: the report data is that of the key (Gramine, older)
}

var (
	oidTagged = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}
	oidLegacy = asn1.ObjectIdentifier{1, 2, 840, 113741, 1337, 6}
)

// readRATLS knows certificates that have one of the extensions.
func readRATLS(data []byte) (*Found, error) {
	if data[0] != 0x30 {
		return nil, nil
	}
	c, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, nil // some other DER
	}
	for _, e := range c.Extensions {
		switch {
		case e.Id.Equal(oidTagged):
			f, err := readTagged(e.Value)
			if err == nil && f == nil {
				err = errors.New("its extension 2.23.133.5.4.9 has not the CBOR tag 60000")
			}
			if err != nil {
				return nil, err
			}
			f.Format, f.RATLS.Certificate = "RA-TLS certificate with "+f.Format, c
			return f, nil
		case e.Id.Equal(oidLegacy):
			f, err := innerQuote(e.Value)
			if err != nil {
				return nil, err
			}
			f.Format, f.RATLS = "RA-TLS certificate (older form of Gramine) with "+f.Format, &RATLS{Certificate: c}
			return f, nil
		}
	}
	return nil, nil
}

func innerQuote(data []byte) (*Found, error) {
	f, err := readDCAP(data)
	if err == nil && f == nil {
		err = errors.New("what it holds is no quote of SGX or TDX")
	}
	return f, err
}

type taggedWire struct {
	_      struct{} `cbor:",toarray"`
	Quote  []byte
	Claims []byte
}

// decoding is how bytes of a peer are read.
func decoding() (cbor.DecMode, error) {
	return cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
}

// readTagged reads 60000([quote, claims]).
func readTagged(data []byte) (*Found, error) {
	if !hasTag(data, tagRATLS) {
		return nil, nil
	}
	mode, err := decoding()
	if err != nil {
		return nil, err
	}
	var w taggedWire
	if err := mode.Unmarshal(data[3:], &w); err != nil {
		return nil, err
	}
	f, err := innerQuote(w.Quote)
	if err != nil {
		return nil, err
	}
	f.Format, f.RATLS = "tagged "+f.Format, &RATLS{ClaimsBytes: w.Claims}
	return f, nil
}

// Bound checks that the report data is that of the certificate's key, so that whoever has this key is the TEE. It returns nil if so.
func (r *RATLS) Bound(reportData []byte) error {
	if r.Certificate == nil {
		return attest.Errorf(attest.ErrBinding, "there is no certificate whose key could be compared")
	}
	key := r.Certificate.RawSubjectPublicKeyInfo
	if r.ClaimsBytes == nil {
		if sum := sha256.Sum256(key); !equalPadded(reportData, sum[:]) {
			return attest.Errorf(attest.ErrBinding, "the report data is not the SHA-256 digest of the certificate's key")
		}
		return nil
	}
	if !digests(reportData, r.ClaimsBytes) {
		return attest.Errorf(attest.ErrBinding, "the report data is not a digest of the claims in the certificate")
	}
	return r.claimsNameKey(key)
}

// claimsNameKey checks the entry "pubkey-hash" of the claims: [algorithm, digest], with the numbers of IANA's registry of named information.
func (r *RATLS) claimsNameKey(key []byte) error {
	mode, err := decoding()
	if err != nil {
		return err
	}
	var claims struct {
		KeyDigest cbor.RawMessage `cbor:"pubkey-hash"`
	}
	if err := mode.Unmarshal(r.ClaimsBytes, &claims); err != nil {
		return attest.Errorf(attest.ErrFormat, "claims of the certificate: %w", err)
	}
	entry := []byte(claims.KeyDigest)
	var wrapped []byte
	if mode.Unmarshal(entry, &wrapped) == nil {
		entry = wrapped
	}
	var digest struct {
		_         struct{} `cbor:",toarray"`
		Algorithm int
		Value     []byte
	}
	if err := mode.Unmarshal(entry, &digest); err != nil {
		return attest.Errorf(attest.ErrFormat, "pubkey-hash in the claims of the certificate: %w", err)
	}
	want, err := sum(digest.Algorithm, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(want, digest.Value) {
		return attest.Errorf(attest.ErrBinding, "the claims in the certificate name another key than the certificate has")
	}
	return nil
}

func sum(algorithm int, data []byte) ([]byte, error) {
	s256, s384, s512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	switch algorithm {
	case 1:
		return s256[:], nil
	case 7:
		return s384[:], nil
	case 8:
		return s512[:], nil
	}
	return nil, attest.Errorf(attest.ErrFormat, "digest algorithm %s is none of SHA-256 (1), SHA-384 (7), SHA-512 (8)", fmt.Sprint(algorithm))
}

// digests reports whether the report data is a digest of data, padded with zeros.
func digests(reportData, data []byte) bool {
	s256, s384, s512 := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	return equalPadded(reportData, s256[:]) || equalPadded(reportData, s384[:]) || equalPadded(reportData, s512[:])
}

func equalPadded(reportData, value []byte) bool {
	return len(reportData) >= len(value) && bytes.Equal(reportData[:len(value)], value) && len(bytes.Trim(reportData[len(value):], "\x00")) == 0
}
