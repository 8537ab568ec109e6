package dcap

import (
	"encoding/binary"
	"time"
)

const qeIdentityVersion = 2

// QEIdentity is Intel's statement of how its quoting enclaves look, with its signature verified.
type QEIdentity struct {
	document
	TEE            TEE
	MiscSelect     uint32
	MiscSelectMask uint32
	Attributes     [16]byte
	AttributesMask [16]byte
	MRSigner       [32]byte
	ISVProdID      uint16
	Levels         []Level // highest first, at least one
}

type qeIdentityWire struct {
	MiscSelect     hexBytes    `json:"miscselect"`
	MiscSelectMask hexBytes    `json:"miscselectMask"`
	Attributes     hexBytes    `json:"attributes"`
	AttributesMask hexBytes    `json:"attributesMask"`
	MRSigner       hexBytes    `json:"mrsigner"`
	ISVProdID      *uint16     `json:"isvprodid"`
	Levels         []levelWire `json:"tcbLevels"`
}

// qeID is the id of the quoting enclave that makes quotes of a TEE.
func qeID(t TEE) string {
	if t == TDX {
		return "TD_QE"
	}
	return "QE"
}

// OpenQEIdentity verifies the signature of a QE identity and reads it. It looks at no clock.
func OpenQEIdentity(s Signed, root Root) (*QEIdentity, error) {
	issuer, err := s.verify("QE identity", root)
	if err != nil {
		return nil, err
	}
	q, err := readQEIdentity(s.Body)
	if err != nil {
		return nil, err
	}
	q.issuer = issuer
	return q, nil
}

func readQEIdentity(body []byte) (*QEIdentity, error) {
	var w qeIdentityWire
	d, err := readDocument("QE identity", body, &w)
	if err != nil {
		return nil, err
	}
	q := &QEIdentity{document: d}
	if d.ID == qeID(TDX) {
		q.TEE = TDX
	}
	if err := d.checkKind(qeID(q.TEE), qeIdentityVersion); err != nil {
		return nil, err
	}
	if len(w.MiscSelect) != 4 || len(w.MiscSelectMask) != 4 || len(w.Attributes) != len(q.Attributes) ||
		len(w.AttributesMask) != len(q.AttributesMask) || len(w.MRSigner) != len(q.MRSigner) || w.ISVProdID == nil {
		return nil, fail(FaultFormat, "QE identity lacks a field, or has one of the wrong length")
	}
	// The digits are those of the bytes in the report, hence little endian.
	q.MiscSelect, q.MiscSelectMask = binary.LittleEndian.Uint32(w.MiscSelect), binary.LittleEndian.Uint32(w.MiscSelectMask)
	copy(q.Attributes[:], w.Attributes)
	copy(q.AttributesMask[:], w.AttributesMask)
	copy(q.MRSigner[:], w.MRSigner)
	q.ISVProdID = *w.ISVProdID
	q.Levels, err = partLevels("QE identity", w.Levels)
	return q, err
}

// CheckTime refuses a QE identity that has expired at the time now, or is from the future.
func (q *QEIdentity) CheckTime(now time.Time) error { return q.checkTime(now) }

// check wants the report to be of a quoting enclave that looks so.
func (q *QEIdentity) check(r *EnclaveReport) error {
	if r.MiscSelect&q.MiscSelectMask != q.MiscSelect {
		return fail(FaultQEIdentity, "quoting enclave has MISCSELECT %08x, not Intel's %08x", r.MiscSelect, q.MiscSelect)
	}
	for i := range r.Attributes {
		if r.Attributes[i]&q.AttributesMask[i] != q.Attributes[i] {
			return fail(FaultQEIdentity, "quoting enclave has attributes %x, not Intel's %x", r.Attributes, q.Attributes)
		}
	}
	if r.MRSigner != q.MRSigner {
		return fail(FaultQEIdentity, "quoting enclave is signed by %x, not by Intel", r.MRSigner[:8])
	}
	if r.ISVProdID != q.ISVProdID {
		return fail(FaultQEIdentity, "quoting enclave has product id %d, not Intel's %d", r.ISVProdID, q.ISVProdID)
	}
	return nil
}
