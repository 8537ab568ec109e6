package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"maps"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	inteltdx "github.com/vouchmq/vouchmq/attest/tdx"
)

// Verifier verifies evidence. It may be used by many goroutines.
type Verifier struct {
	hardware map[kind]attest.Verifier
}

// NewVerifier returns a verifier that trusts the roots of AMD and Intel. It takes Intel's collateral from a store, or from the evidence where the
// store has none; store may be nil.
func NewVerifier(store *collateral.Store) *Verifier {
	return newVerifier(sevsnp.NewVerifier(), inteltdx.NewVerifier(store))
}

func newVerifier(amd, intel attest.Verifier) *Verifier {
	return &Verifier{map[kind]attest.Verifier{snp: amd, tdx: intel}}
}

// Platform returns attest.Azure.
func (*Verifier) Platform() attest.Platform { return attest.Azure }

// Verify checks, from the root up, the hardware's evidence, that it is over the runtime data, and that the key in there has signed the quote of
// the vTPM.
func (v *Verifier) Verify(ctx context.Context, q attest.Quote, want attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	var none attest.PlatformClaims
	e, r, err := parse(q.Data)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "Azure evidence: %w", err)
	}
	claims, err := v.verifyHardware(ctx, e, r, q.Endorsements, now)
	if err != nil {
		return none, err
	}
	extra, pcrs, err := e.quote().Verify(r.key)
	if err != nil {
		return none, err
	}
	claims.Platform, claims.ReportData = attest.Azure, extra
	maps.Copy(claims.Measurements, pcrs)
	return claims, nil
}

// verifyHardware verifies the report of the paravisor, and that it is over the runtime data.
func (v *Verifier) verifyHardware(ctx context.Context, e *evidence, r *report, endorsements []byte, now time.Time) (attest.PlatformClaims, error) {
	q := attest.Quote{Platform: attest.SEVSNP, Data: r.hardware, Endorsements: endorsements}
	if r.kind == tdx {
		q.Platform, q.Data = attest.TDX, e.TDQuote
	}
	digest := sha256.Sum256(r.text)
	bound := attest.ReportData(append(digest[:], make([]byte, 32)...))
	claims, err := v.hardware[r.kind].Verify(ctx, q, bound, now)
	switch {
	case err != nil:
		return claims, err
	case !bytes.Equal(claims.ReportData, bound[:]):
		return claims, attest.Errorf(attest.ErrSignature, "Azure evidence: the hardware vouches for another runtime data, and so for another vTPM, than is shown")
	case claims.Versions["vmpl"] != 0:
		return claims, attest.Errorf(attest.ErrSignature, "Azure evidence: the report was made at VMPL %d, and the paravisor runs at 0", claims.Versions["vmpl"])
	}
	return claims, nil
}
