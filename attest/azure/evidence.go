package azure

import (
	"fmt"

	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// maxEvidence bounds evidence: an HCL report, a quote with PCRs of less than 2,000 bytes, and a TD quote of usually 5,006 bytes or, with what
// some hosts pad it, 8,000.
const (
	maxEvidence = 32 << 10
	version     = 1
)

// evidence is what the machine sends, in deterministic CBOR.
type evidence struct {
	Version   uint64   `cbor:"v"`
	HCL       []byte   `cbor:"hcl"`
	Attested  []byte   `cbor:"attest"` // TPMS_ATTEST
	Signature []byte   `cbor:"sig"`    // TPMT_SIGNATURE
	PCRs      [][]byte `cbor:"pcrs"`   // in the order of the quote's selection
	TDQuote   []byte   `cbor:"td,omitempty"`
}

func (e *evidence) quote() *tpm.SignedQuote {
	return &tpm.SignedQuote{Attested: e.Attested, Signature: e.Signature, PCRs: e.PCRs}
}

// parse reads evidence, and the HCL report in it. Nothing is verified.
func parse(data []byte) (*evidence, *report, error) {
	if len(data) > maxEvidence {
		return nil, nil, fmt.Errorf("it has %d bytes, at most %d are read", len(data), maxEvidence)
	}
	var e evidence
	if err := dcbor.Decode(data, &e); err != nil {
		return nil, nil, err
	}
	if e.Version != version {
		return nil, nil, fmt.Errorf("it is of version %d, not %d", e.Version, version)
	}
	r, err := parseReport(e.HCL)
	if err != nil {
		return nil, nil, fmt.Errorf("HCL report: %w", err)
	}
	if (r.kind == tdx) != (len(e.TDQuote) > 0) {
		return nil, nil, fmt.Errorf("it must have a TD quote with TDX, and none with SEV-SNP")
	}
	return &e, r, nil
}
