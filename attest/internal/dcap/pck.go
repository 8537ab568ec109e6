package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"
)

// CA says which of Intel's two authorities issued a PCK certificate.
type CA string

// The authorities, as Intel's service names them.
const (
	CAProcessor CA = "processor" // platforms of one package
	CAPlatform  CA = "platform"  // platforms of several packages
)

// FMSPC names a kind of platform: family, model, stepping, platform type and custom SKU.
type FMSPC [6]byte

// String returns upper-case hexadecimal digits, as Intel's service wants them.
func (f FMSPC) String() string { return strings.ToUpper(hex.EncodeToString(f[:])) }

// ParseFMSPC reads 12 hexadecimal digits of either case.
func ParseFMSPC(text string) (FMSPC, error) {
	var f FMSPC
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(f) {
		return f, fmt.Errorf("FMSPC %q is not %d hexadecimal digits", shorten(text), 2*len(f))
	}
	return FMSPC(b), nil
}

// PCK is a processor's provisioning certification key with what its certificate says of the platform (Intel SGX
// PCK Certificate and CRL Profile, section 1.3.5).
type PCK struct {
	CA         CA
	PPID       [16]byte // names the processor
	Components [16]uint8
	PCESVN     uint16
	PCEID      [2]byte
	FMSPC      FMSPC
	InstanceID [16]byte // names the platform, with CAPlatform

	chain chain
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

type attribute struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// verifyPCK verifies a PCK chain against the root, but for time and revocation.
func verifyPCK(text []byte, root Root) (*PCK, error) {
	c, err := verifyChain(text, root, []string{namePCK}, []string{nameProcessor, namePlatform}, []string{nameRoot})
	if err != nil {
		return nil, err
	}
	if c.leaf().IsCA {
		return nil, fail(FaultChain, "PCK certificate says that it is an authority")
	}
	p := &PCK{CA: caOf(c[1]), chain: c}
	return p, p.readExtension()
}

func caOf(c *x509.Certificate) CA {
	if c.Subject.CommonName == nameProcessor {
		return CAProcessor
	}
	return CAPlatform
}

func (p *PCK) readExtension() error {
	for _, e := range p.chain.leaf().Extensions {
		if e.Id.Equal(oidSGX) {
			return p.readAttributes(e.Value)
		}
	}
	return fail(FaultFormat, "PCK certificate has no SGX extension (%v)", oidSGX)
}

// Numbers below oidSGX, and below the TCB attribute.
const (
	attrPPID, attrTCB, attrPCEID, attrFMSPC = 1, 2, 3, 4
	attrInstance                            = 6
	tcbPCESVN                               = 17
	tcbComponents                           = 16
)

func (p *PCK) readAttributes(der []byte) error {
	attributes, err := readAttributes(der, oidSGX)
	if err != nil {
		return err
	}
	for id, field := range map[int][]byte{attrPPID: p.PPID[:], attrPCEID: p.PCEID[:], attrFMSPC: p.FMSPC[:]} {
		value := attributes[id]
		if value.Tag != asn1.TagOctetString || len(value.Bytes) != len(field) {
			return fail(FaultFormat, "PCK certificate: SGX attribute %d is not a string of %d bytes", id, len(field))
		}
		copy(field, value.Bytes)
	}
	if instance := attributes[attrInstance]; len(instance.Bytes) == len(p.InstanceID) {
		copy(p.InstanceID[:], instance.Bytes)
	}
	return p.readTCB(attributes[attrTCB].FullBytes)
}

func (p *PCK) readTCB(der []byte) error {
	attributes, err := readAttributes(der, append(oidSGX[:len(oidSGX):len(oidSGX)], attrTCB))
	if err != nil {
		return err
	}
	for i := 1; i <= tcbPCESVN; i++ {
		limit := 0xFF
		if i == tcbPCESVN {
			limit = 0xFFFF
		}
		var n int
		rest, err := asn1.Unmarshal(attributes[i].FullBytes, &n)
		if err != nil || len(rest) > 0 || n < 0 || n > limit {
			return fail(FaultFormat, "PCK certificate: TCB attribute %d is not a number from 0 to %d", i, limit)
		}
		if i <= tcbComponents {
			p.Components[i-1] = uint8(n)
		} else {
			p.PCESVN = uint16(n)
		}
	}
	return nil
}

// readAttributes reads a sequence of numbered values below an identifier, each at most once.
func readAttributes(der []byte, below asn1.ObjectIdentifier) (map[int]asn1.RawValue, error) {
	var list []attribute
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return nil, fail(FaultFormat, "PCK certificate: SGX extension is not a sequence of attributes")
	}
	out := make(map[int]asn1.RawValue, len(list))
	for _, a := range list {
		if len(a.ID) != len(below)+1 || !a.ID[:len(below)].Equal(below) {
			return nil, fail(FaultFormat, "PCK certificate: SGX extension has an attribute %v", a.ID)
		}
		n := a.ID[len(below)]
		if _, twice := out[n]; twice {
			return nil, fail(FaultFormat, "PCK certificate: SGX extension has attribute %v twice", a.ID)
		}
		out[n] = a.Value
	}
	return out, nil
}

// hardwareID names the machine: by its processor, or where that is withheld by its platform; "" if neither is told.
func (p *PCK) hardwareID(tee TEE) string {
	for _, id := range [][16]byte{p.PPID, p.InstanceID} {
		if !bytes.Equal(id[:], make([]byte, len(id))) {
			return string(tee.Platform()) + ":" + hex.EncodeToString(id[:])
		}
	}
	return ""
}
