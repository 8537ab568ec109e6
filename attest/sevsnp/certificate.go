package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// Extensions of the certificates, below 1.3.6.1.4.1.3704.1 (AMD 57230, table "VCEK certificate").
const (
	oidPrefix  = "1.3.6.1.4.1.3704.1."
	oidProduct = oidPrefix + "2"
	oidChip    = oidPrefix + "4"
	oidCSP     = oidPrefix + "5"
)

func partOIDs() map[string]string {
	return map[string]string{
		"bootloader": oidPrefix + "3.1", "tee": oidPrefix + "3.2", "snp": oidPrefix + "3.3", "microcode": oidPrefix + "3.8", "fmc": oidPrefix + "3.9",
	}
}

// endorsement is what the certificate of a VCEK or VLEK says.
type endorsement struct {
	certificate *x509.Certificate
	key         *ecdsa.PublicKey
	signer      signer
	line        line
	chip        []byte // of a VCEK
	parts       map[string]uint8
}

func parseEndorsement(der []byte) (*endorsement, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("its key is not on P-384")
	}
	values := map[string][]byte{}
	for _, e := range c.Extensions {
		id := e.Id.String()
		if values[id] != nil {
			return nil, fmt.Errorf("extension %s is there twice", id)
		}
		values[id] = e.Value
	}
	e := &endorsement{certificate: c, key: key, parts: map[string]uint8{}}
	product, err := text(values[oidProduct])
	if err != nil {
		return nil, fmt.Errorf("product name: %w", err)
	}
	if e.line, err = lineOf(product); err != nil {
		return nil, err
	}
	if err := e.readSigner(values); err != nil {
		return nil, err
	}
	return e, e.readParts(values)
}

// readSigner tells VCEK and VLEK apart: the one names a chip, the other a provider.
func (e *endorsement) readSigner(values map[string][]byte) error {
	chip, csp := values[oidChip], values[oidCSP]
	switch {
	case (chip == nil) == (csp == nil):
		return errors.New("it names neither chip nor provider, or both")
	case csp != nil:
		e.signer = vlek
		return nil
	}
	// AMD leaves out the octet string's tag.
	if len(chip) != e.line.chip {
		var inner []byte
		if rest, err := asn1.Unmarshal(chip, &inner); err != nil || len(rest) > 0 || len(inner) != e.line.chip {
			return fmt.Errorf("the chip's id has not %d bytes", e.line.chip)
		}
		chip = inner
	}
	e.chip = chip
	return nil
}

func (e *endorsement) readParts(values map[string][]byte) error {
	for name, id := range partOIDs() {
		if _, ok := e.line.parts[name]; !ok {
			continue
		}
		var n int
		if rest, err := asn1.Unmarshal(values[id], &n); err != nil || len(rest) > 0 || n < 0 || n > 255 {
			return fmt.Errorf("the version of %s is missing, or no byte", name)
		}
		e.parts[name] = uint8(n)
	}
	return nil
}

func text(der []byte) (s string, err error) {
	if len(der) == 0 || der[0] != asn1.TagIA5String {
		return "", errors.New("it is missing, or no IA5String")
	}
	rest, err := asn1.UnmarshalWithParams(der, &s, "ia5")
	if err == nil && len(rest) > 0 {
		err = errors.New("there is something behind it")
	}
	return s, err
}

// matches says why the certificate is not that of the key which has signed a report, nil if it is.
func (e *endorsement) matches(r *report) error {
	switch {
	case e.signer != r.signer:
		return fmt.Errorf("the report says that a %s has signed it, and the certificate is of a %s", r.signer, e.signer)
	case !e.line.has(r):
		return fmt.Errorf("the report is not of a processor of the line %s, for which the certificate is", e.line.name)
	case e.signer == vcek && !e.names(r):
		return errors.New("the certificate is for another chip than the report")
	}
	for name := range e.line.parts {
		if got := e.line.part(r.reported, name); got != e.parts[name] {
			return fmt.Errorf("the certificate is for version %d of %s, the report says %d", e.parts[name], name, got)
		}
	}
	return nil
}

// names reports whether the chip of the certificate is that of the report, which has room for 64 bytes. A report in which the chip's id is
// masked says nothing.
func (e *endorsement) names(r *report) bool {
	if r.maskChip && zero(r.chipID) {
		return true
	}
	return bytes.Equal(r.chipID[:len(e.chip)], e.chip) && zero(r.chipID[len(e.chip):])
}
