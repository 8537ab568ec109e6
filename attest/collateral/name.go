package collateral

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// The terms of quotes that collateral is looked up by.
type (
	// TEE is SGX or TDX.
	TEE = dcap.TEE
	// FMSPC names a kind of platform.
	FMSPC = dcap.FMSPC
	// CA is an authority of PCK certificates.
	CA = dcap.CA
	// Need says what collateral a quote needs.
	Need = dcap.Need
	// Fault says which check failed; it is found in errors with errors.Is and errors.As.
	Fault = dcap.Fault
)

// Values of TEE and CA.
const (
	SGX         = dcap.SGX
	TDX         = dcap.TDX
	CAProcessor = dcap.CAProcessor
	CAPlatform  = dcap.CAPlatform
)

// FaultNoCollateral is the fault of a quote that was verified as far as that goes without collateral.
const FaultNoCollateral = dcap.FaultNoCollateral

// ParseFMSPC reads 12 hexadecimal digits.
func ParseFMSPC(text string) (FMSPC, error) { return dcap.ParseFMSPC(text) }

// Needed reads what collateral a raw quote needs. It verifies that the PCK certificate is Intel's, and nothing else.
func Needed(quote []byte) (Need, error) { return dcap.NeedOf(quote, dcap.IntelRoot()) }

// Kind is a kind of document.
type Kind string

// The kinds.
const (
	TCBInfo    Kind = "TCB info"
	QEIdentity Kind = "QE identity"
	PCKCRL     Kind = "PCK revocation list"
	RootCRL    Kind = "root revocation list"
)

// Name names a document: which fields count depends on the kind.
type Name struct {
	Kind  Kind
	TEE   TEE   // of TCBInfo, QEIdentity
	FMSPC FMSPC // of TCBInfo
	CA    CA    // of PCKCRL
}

// Names returns the documents that a need consists of.
func Names(n Need) []Name {
	return []Name{{Kind: TCBInfo, TEE: n.TEE, FMSPC: n.FMSPC}, {Kind: QEIdentity, TEE: n.TEE}, {Kind: PCKCRL, CA: n.CA}, {Kind: RootCRL}}
}

// String returns the name of the document's file without its ending.
func (n Name) String() string {
	tee := strings.ToLower(n.TEE.String())
	switch n.Kind {
	case TCBInfo:
		return tee + "-tcb-" + n.FMSPC.String()
	case QEIdentity:
		return tee + "-qe"
	case PCKCRL:
		return "pck-" + string(n.CA)
	}
	return "root"
}

// file is the name of the document's file.
func (n Name) file() string {
	if n.Kind == TCBInfo || n.Kind == QEIdentity {
		return n.String() + ".json"
	}
	return n.String() + ".crl"
}

func (n Name) chainFile() string { return n.String() + ".pem" }

// parseName is the opposite of file.
func parseName(file string) (Name, bool) {
	candidates := []Name{
		{Kind: RootCRL}, {Kind: PCKCRL, CA: CAProcessor}, {Kind: PCKCRL, CA: CAPlatform},
		{Kind: QEIdentity, TEE: SGX}, {Kind: QEIdentity, TEE: TDX},
	}
	if tee, digits, ok := strings.Cut(strings.TrimSuffix(file, ".json"), "-tcb-"); ok {
		if fmspc, err := dcap.ParseFMSPC(digits); err == nil {
			candidates = append(candidates, Name{Kind: TCBInfo, TEE: map[string]TEE{"tdx": TDX}[tee], FMSPC: fmspc})
		}
	}
	for _, n := range candidates {
		if n.file() == file {
			return n, true
		}
	}
	return Name{}, false
}

// Document is a document as Intel's service gives it, nothing verified.
type Document struct {
	Name  Name
	Body  []byte // JSON with its signature, or a revocation list in DER
	Chain []byte // PEM: who signed it, up to the root
}

// opened is a document whose signature has been verified.
type opened struct {
	tcbInfo    *dcap.TCBInfo
	qeIdentity *dcap.QEIdentity
	crl        *dcap.CRL
	signed     dcap.Signed // of TCBInfo and QEIdentity
}

// open verifies the signature, and that the document is what its name says.
func (d *Document) open(root dcap.Root) (o opened, err error) {
	is := d.Name
	switch d.Name.Kind {
	case TCBInfo:
		if o.signed, err = dcap.SplitTCBInfo(d.Body, d.Chain); err == nil {
			o.tcbInfo, err = dcap.OpenTCBInfo(o.signed, root)
		}
		if err == nil {
			is.TEE, is.FMSPC = o.tcbInfo.TEE, o.tcbInfo.FMSPC
		}
	case QEIdentity:
		if o.signed, err = dcap.SplitQEIdentity(d.Body, d.Chain); err == nil {
			o.qeIdentity, err = dcap.OpenQEIdentity(o.signed, root)
		}
		if err == nil {
			is.TEE = o.qeIdentity.TEE
		}
	case PCKCRL:
		if o.crl, err = dcap.OpenPCKCRL(d.Body, d.Chain, root); err == nil {
			is.CA = o.crl.CA
		}
	default:
		o.crl, err = dcap.OpenRootCRL(d.Body, d.Chain, root)
	}
	if err != nil {
		return opened{}, fmt.Errorf("%s: %w", d.Name, err)
	}
	if is != d.Name {
		return opened{}, fmt.Errorf("%s: the document is %s: %w", d.Name, is, dcap.FaultCollateralMismatch)
	}
	return o, nil
}

// evaluation returns the evaluation number, 0 of revocation lists.
func (o *opened) evaluation() uint32 {
	switch {
	case o.tcbInfo != nil:
		return o.tcbInfo.Evaluation
	case o.qeIdentity != nil:
		return o.qeIdentity.Evaluation
	}
	return 0
}

// edition returns the number by which an older document is told from a newer one of its name: of revocation lists it is the time of
// issue, in seconds since 1970. Their own number (RFC 5280, 5.2.3) tells nothing: that of all Intel's lists is 1.
func (o *opened) edition() uint32 {
	if o.crl == nil {
		return o.evaluation()
	}
	return uint32(min(max(o.crl.ThisUpdate().Unix(), 0), math.MaxUint32))
}

// edition puts the number of an edition into words.
func (n Name) edition(number uint32) string {
	if n.Kind == TCBInfo || n.Kind == QEIdentity {
		return fmt.Sprintf("of evaluation %d", number)
	}
	return "of " + time.Unix(int64(number), 0).UTC().Format(time.RFC3339)
}

func (o *opened) validity() (from, to time.Time) {
	switch {
	case o.tcbInfo != nil:
		return o.tcbInfo.Issued, o.tcbInfo.Expires
	case o.qeIdentity != nil:
		return o.qeIdentity.Issued, o.qeIdentity.Expires
	}
	return o.crl.ThisUpdate(), o.crl.NextUpdate()
}

func (o *opened) checkTime(now time.Time) error {
	switch {
	case o.tcbInfo != nil:
		return o.tcbInfo.CheckTime(now)
	case o.qeIdentity != nil:
		return o.qeIdentity.CheckTime(now)
	}
	return o.crl.CheckTime(now)
}
