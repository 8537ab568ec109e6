package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Signed is a document of Intel's service with its signature; nothing is verified.
type Signed struct {
	Body      []byte // the JSON text that is signed, byte for byte
	Signature []byte // r and s, 32 bytes each, big endian
	Chain     []byte // PEM: TCB signing certificate, root
}

// Names of the members that a body of the service has besides "signature".
const (
	memberTCBInfo    = "tcbInfo"
	memberQEIdentity = "enclaveIdentity"
)

// SplitTCBInfo takes TCB info as the service gives it (JSON) apart. chain is its issuers' (PEM). Nothing is verified.
func SplitTCBInfo(body, chain []byte) (Signed, error) { return splitSigned(body, memberTCBInfo, chain) }

// SplitQEIdentity does that with a QE identity.
func SplitQEIdentity(body, chain []byte) (Signed, error) {
	return splitSigned(body, memberQEIdentity, chain)
}

// JoinTCBInfo is the opposite of SplitTCBInfo.
func (s Signed) JoinTCBInfo() []byte { return s.join(memberTCBInfo) }

// JoinQEIdentity is the opposite of SplitQEIdentity.
func (s Signed) JoinQEIdentity() []byte { return s.join(memberQEIdentity) }

// splitSigned takes a body of the service apart: {"tcbInfo":…,"signature":"…"}. The signature is over the
// exact bytes of the member.
func splitSigned(body []byte, member string, chain []byte) (Signed, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return Signed{}, fail(FaultFormat, "%s is not a JSON object: %w", member, err)
	}
	var digits string
	if err := json.Unmarshal(members["signature"], &digits); err != nil || members[member] == nil {
		return Signed{}, fail(FaultFormat, "document has not the members %q and \"signature\": it is not what Intel's service gives", member)
	}
	signature, err := hex.DecodeString(digits)
	if err != nil {
		return Signed{}, fail(FaultFormat, "signature of %s is not hexadecimal", member)
	}
	return Signed{Body: bytes.Clone(members[member]), Signature: signature, Chain: chain}, nil
}

// join is the opposite of splitSigned.
func (s Signed) join(member string) []byte {
	return slices.Concat([]byte(`{"`+member+`":`), s.Body, []byte(`,"signature":"`+hex.EncodeToString(s.Signature)+`"}`))
}

// document is what TCB info and QE identity have in common.
type document struct {
	ID         string
	Version    int
	Issued     time.Time // issueDate
	Expires    time.Time // nextUpdate
	Evaluation uint32    // tcbEvaluationDataNumber

	name   string
	issuer chain
}

type documentWire struct {
	ID         *string    `json:"id"`
	Version    int        `json:"version"`
	IssueDate  *time.Time `json:"issueDate"`
	NextUpdate *time.Time `json:"nextUpdate"`
	Evaluation *uint32    `json:"tcbEvaluationDataNumber"`
}

// verify verifies who signed the document. It looks at no clock.
func (s Signed) verify(name string, root Root) (issuer chain, err error) {
	if issuer, err = verifyChain(s.Chain, root, []string{nameTCBSigning}, []string{nameRoot}); err != nil {
		return nil, err
	}
	if !verifyP256(issuer.key(), s.Body, s.Signature) {
		return nil, fail(FaultCollateralSignature, "%s is not signed by %q", name, nameTCBSigning)
	}
	return issuer, nil
}

// readDocument reads what all documents have, and the rest into wire.
func readDocument(name string, body []byte, wire any) (document, error) {
	var w documentWire
	if err := json.Unmarshal(body, &w); err != nil {
		return document{}, fail(FaultFormat, "%s: %w", name, err)
	}
	if w.ID == nil || w.IssueDate == nil || w.NextUpdate == nil || w.Evaluation == nil {
		return document{}, fail(FaultCollateralMismatch, "%s of version %d lacks id, dates or evaluation number: it is too old", name, w.Version)
	}
	if err := json.Unmarshal(body, wire); err != nil {
		return document{}, fail(FaultFormat, "%s: %w", name, err)
	}
	return document{ID: *w.ID, Version: w.Version, Issued: *w.IssueDate, Expires: *w.NextUpdate, Evaluation: *w.Evaluation, name: name}, nil
}

// checkKind wants the document to be of a kind and version.
func (d *document) checkKind(id string, version int) error {
	if d.ID != id || d.Version != version {
		return fail(FaultCollateralMismatch, "%s is of id %q and version %d, not of id %q and version %d", d.name, shorten(d.ID), d.Version, id, version)
	}
	return nil
}

// checkTime also looks at the issuer's certificates.
func (d *document) checkTime(now time.Time) error {
	if err := (window{d.name, d.Issued, d.Expires}).check(now); err != nil {
		return err
	}
	return d.issuer.checkTime(now)
}

func (d *document) expiry() time.Time { return earlier(d.Expires, d.issuer.expiry()) }

// verifyP256 verifies r and s, 32 bytes each, over the SHA-256 digest of message.
func verifyP256(key *ecdsa.PublicKey, message, signature []byte) bool {
	if key == nil || len(signature) != signatureSize {
		return false
	}
	digest := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key, digest[:], r, s)
}

// levelWire is an entry of tcbLevels, of any of the three kinds.
type levelWire struct {
	TCB struct {
		ISVSVN *uint16         `json:"isvsvn"`
		PCESVN *uint16         `json:"pcesvn"`
		SGX    []componentWire `json:"sgxtcbcomponents"`
		TDX    []componentWire `json:"tdxtcbcomponents"`
	} `json:"tcb"`
	Status     attest.TCBStatus `json:"tcbStatus"`
	Date       time.Time        `json:"tcbDate"`
	Advisories []string         `json:"advisoryIDs"`
}

type componentWire struct {
	SVN *uint8 `json:"svn"`
}

// Statuses that a platform may have, and those that a QE or TDX module may have.
var (
	platformStatuses = []attest.TCBStatus{
		attest.TCBUpToDate, attest.TCBSWHardeningNeeded, attest.TCBConfigurationNeeded, attest.TCBConfigurationAndSWHardeningNeeded,
		attest.TCBOutOfDate, attest.TCBOutOfDateConfigurationNeeded, attest.TCBRevoked,
	}
	partStatuses = []attest.TCBStatus{attest.TCBUpToDate, attest.TCBOutOfDate, attest.TCBRevoked}
)

// partLevels reads the levels of a QE or TDX module, highest first.
func partLevels(name string, wire []levelWire) ([]Level, error) {
	levels := make([]Level, 0, len(wire))
	for i, w := range wire {
		if w.TCB.ISVSVN == nil || !slices.Contains(partStatuses, w.Status) {
			return nil, fail(FaultFormat, "%s: TCB level %d has no ISVSVN, or the unknown status %q", name, i, shorten(string(w.Status)))
		}
		levels = append(levels, Level{ISVSVN: *w.TCB.ISVSVN, Status: w.Status, Date: w.Date, Advisories: w.Advisories})
	}
	if len(levels) == 0 {
		return nil, fail(FaultFormat, "%s has no TCB levels", name)
	}
	slices.SortStableFunc(levels, compareISVSVN)
	return levels, nil
}

// hexBytes is a JSON string of hexadecimal digits, of either case.
type hexBytes []byte

// UnmarshalText reads the digits.
func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}
