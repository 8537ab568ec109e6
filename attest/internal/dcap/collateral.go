package dcap

import (
	"encoding/hex"
	"encoding/json"
	"time"
)

// Collateral is what it takes besides the quote, each part with its signature verified.
type Collateral struct {
	TCBInfo    *TCBInfo
	QEIdentity *QEIdentity
	RootCRL    *CRL // nil if there is none
	PCKCRL     *CRL // nil if there is none
}

// Need says what collateral a quote needs.
type Need struct {
	TEE   TEE
	FMSPC FMSPC
	CA    CA
}

// NeedOf reads what collateral a quote needs. It verifies the PCK certificate chain up to the root, and nothing else.
func NeedOf(quote []byte, root Root) (Need, error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return Need{}, err
	}
	p, err := verifyPCK(q.PCKChain, root)
	if err != nil {
		return Need{}, err
	}
	return Need{q.TEE, p.FMSPC, p.CA}, nil
}

// Source is a verifier's own collateral.
type Source interface {
	// Collateral returns what fits, or nil if the source has nothing for this platform. It never returns documents of a lower
	// evaluation number than it returned before.
	Collateral(n Need) (*Collateral, error)
	// MinEvaluation returns the highest evaluation number that the source has seen for the TEE, 0 if none.
	MinEvaluation(t TEE) uint32
}

// MaxDocumentsSize is the largest encoded set of documents that is read, in bytes.
const MaxDocumentsSize = 128 << 10

// Documents are Intel's statements about one platform as they came, nothing verified.
type Documents struct {
	TCBInfo     Signed
	QEIdentity  Signed
	RootCRL     []byte // DER; empty: none
	PCKCRL      []byte // DER; empty: none
	PCKCRLChain []byte // PEM: issuer of PCKCRL, root
}

// documentsWire is the form that several tools have in common: one JSON object of strings. TCB info and QE identity are
// texts within the text, so that their bytes stay as they were signed.
type documentsWire struct {
	PCKCRLChain         string `json:"pck_crl_issuer_chain"`
	RootCRL             string `json:"root_ca_crl"` // hexadecimal, as all that is binary
	PCKCRL              string `json:"pck_crl"`
	TCBInfoChain        string `json:"tcb_info_issuer_chain"`
	TCBInfo             string `json:"tcb_info"`
	TCBInfoSignature    string `json:"tcb_info_signature"`
	QEIdentityChain     string `json:"qe_identity_issuer_chain"`
	QEIdentity          string `json:"qe_identity"`
	QEIdentitySignature string `json:"qe_identity_signature"`
}

// ParseDocuments reads what Encode writes, and members that it does not know it passes over.
func ParseDocuments(data []byte) (*Documents, error) {
	if len(data) > MaxDocumentsSize {
		return nil, fail(FaultFormat, "collateral of %d bytes is too large (at most %d)", len(data), MaxDocumentsSize)
	}
	var w documentsWire
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, fail(FaultFormat, "collateral is not a JSON object: %w", err)
	}
	d := &Documents{
		TCBInfo:     Signed{Body: []byte(w.TCBInfo), Chain: []byte(w.TCBInfoChain)},
		QEIdentity:  Signed{Body: []byte(w.QEIdentity), Chain: []byte(w.QEIdentityChain)},
		PCKCRLChain: []byte(w.PCKCRLChain),
	}
	for _, f := range []struct {
		name, digits string
		to           *[]byte
	}{
		{"tcb_info_signature", w.TCBInfoSignature, &d.TCBInfo.Signature},
		{"qe_identity_signature", w.QEIdentitySignature, &d.QEIdentity.Signature},
		{"root_ca_crl", w.RootCRL, &d.RootCRL},
		{"pck_crl", w.PCKCRL, &d.PCKCRL},
	} {
		decoded, err := hex.DecodeString(f.digits)
		if err != nil {
			return nil, fail(FaultFormat, "collateral: %s is not hexadecimal", f.name)
		}
		*f.to = decoded
	}
	return d, nil
}

// Encode returns the documents as one JSON object, for evidence and for files.
func (d *Documents) Encode() ([]byte, error) {
	return json.Marshal(documentsWire{
		PCKCRLChain:         string(d.PCKCRLChain),
		RootCRL:             hex.EncodeToString(d.RootCRL),
		PCKCRL:              hex.EncodeToString(d.PCKCRL),
		TCBInfoChain:        string(d.TCBInfo.Chain),
		TCBInfo:             string(d.TCBInfo.Body),
		TCBInfoSignature:    hex.EncodeToString(d.TCBInfo.Signature),
		QEIdentityChain:     string(d.QEIdentity.Chain),
		QEIdentity:          string(d.QEIdentity.Body),
		QEIdentitySignature: hex.EncodeToString(d.QEIdentity.Signature),
	})
}

// Open verifies every signature. It looks at no clock: times are checked when a quote is.
func (d *Documents) Open(root Root) (*Collateral, error) {
	c := &Collateral{}
	var err error
	if len(d.RootCRL) > 0 {
		if c.RootCRL, err = OpenRootCRL(d.RootCRL, d.TCBInfo.Chain, root); err != nil {
			return nil, err
		}
	}
	if len(d.PCKCRL) > 0 {
		if c.PCKCRL, err = OpenPCKCRL(d.PCKCRL, d.PCKCRLChain, root); err != nil {
			return nil, err
		}
	}
	if c.TCBInfo, err = OpenTCBInfo(d.TCBInfo, root); err != nil {
		return nil, err
	}
	c.QEIdentity, err = OpenQEIdentity(d.QEIdentity, root)
	return c, err
}

// expiry returns when the first part expires, its issuers' certificates included; revocation lists only if they count.
func (c *Collateral) expiry(crls bool) time.Time {
	e := earlier(c.TCBInfo.expiry(), c.QEIdentity.expiry())
	for _, l := range []*CRL{c.RootCRL, c.PCKCRL} {
		if crls && l != nil {
			e = earlier(e, l.expiry())
		}
	}
	return e
}
