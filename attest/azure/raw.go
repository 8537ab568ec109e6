package azure

import (
	"context"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Key returns the key in an HCL report with which the vTPM signs its quotes. Nothing is verified.
func Key(hcl []byte) (*tpm.Key, error) {
	r, err := parseReport(hcl)
	if err != nil {
		return nil, attest.Errorf(attest.ErrFormat, "HCL report: %w", err)
	}
	return tpm.KeyOfRSA(r.key), nil
}

// IsTDX reports whether an HCL report is of a machine with TDX, whose TD quote must come with it.
func IsTDX(hcl []byte) bool {
	r, err := parseReport(hcl)
	return err == nil && r.kind == tdx
}

// Evidence puts together what a confidential VM of Azure attests with, for [Verifier]. tdQuote is nil with SEV-SNP.
func Evidence(hcl, tdQuote []byte, quote *tpm.SignedQuote) (attest.Quote, error) {
	encoded, err := dcbor.Encode(evidence{
		Version: version, HCL: hcl, TDQuote: tdQuote, Attested: quote.Attested, Signature: quote.Signature, PCRs: quote.PCRs,
	})
	if err != nil {
		return attest.Quote{}, attest.Errorf(attest.ErrFormat, "Azure evidence: %w", err)
	}
	return attest.Quote{Platform: attest.Azure, Data: encoded}, nil
}

// VerifyHCL verifies an HCL report without a quote of the vTPM: that the hardware vouches for the runtime data, and so for the key of the vTPM. This
// tells neither what has booted nor when: the report is the same from the start of the machine to its end. The report data is that of the
// hardware.
func (v *Verifier) VerifyHCL(ctx context.Context, hcl, tdQuote, endorsements []byte, now time.Time) (attest.PlatformClaims, error) {
	r, err := parseReport(hcl)
	if err != nil {
		return attest.PlatformClaims{}, attest.Errorf(attest.ErrFormat, "HCL report: %w", err)
	}
	if r.kind == tdx && len(tdQuote) == 0 {
		return attest.PlatformClaims{}, attest.Errorf(attest.ErrMissing, "HCL report: it is of TDX, and the TD quote is missing, which the hardware's word is in")
	}
	claims, err := v.verifyHardware(ctx, &evidence{TDQuote: tdQuote}, r, endorsements, now)
	claims.Platform = attest.Azure
	return claims, err
}

// TDQuote returns the TD quote in evidence, nil if there is none. Nothing is verified.
func TDQuote(q attest.Quote) []byte {
	e, _, err := parse(q.Data)
	if err != nil {
		return nil
	}
	return e.TDQuote
}
