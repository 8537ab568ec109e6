package tpm

import (
	"context"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Verifier verifies evidence of TPMs. It needs nothing but the evidence and what travels with it.
type Verifier struct{}

// NewVerifier returns a verifier.
func NewVerifier() Verifier { return Verifier{} }

// Platform returns attest.TPM.
func (Verifier) Platform() attest.Platform { return attest.TPM }

// Verify checks that a key with the attributes of an AK has signed the values of the PCRs. Whether this key is in a TPM, only a
// policy can know: by the measurement ak, or by ak_ca, which is there if the certificate that travels with the evidence is
// for this key and valid at the time now. Then HardwareID is "tpm:" and the digest of the TPM's endorsement key, as that CA says.
func (Verifier) Verify(_ context.Context, q attest.Quote, _ attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	var none attest.PlatformClaims
	p, err := parse(q.Data)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "TPM evidence: %w", err)
	}
	if err := p.check(); err != nil {
		return none, err
	}
	claims := p.claims()
	if q.Endorsements == nil {
		return claims, nil
	}
	c, err := parseCertificates(q.Endorsements)
	if err != nil {
		return none, attest.Errorf(attest.ErrFormat, "TPM evidence: certificate of the attestation key: %w", err)
	}
	if err := c.check(p.Public, p.public.key, now); err != nil {
		return none, err
	}
	ca := attest.Sum(c.ca.RawSubjectPublicKeyInfo)
	claims.Measurements["ak_ca"], claims.HardwareID, claims.Expiry = ca[:], c.hardware(), c.expiry()
	return claims, nil
}

func (p *parsed) claims() attest.PlatformClaims {
	ak := KeyDigest(p.Public)
	c := attest.PlatformClaims{
		Platform: attest.TPM, ReportData: p.attested.extra, TCB: attest.TCBNotApplicable,
		Measurements: map[string][]byte{"ak": ak[:]},
	}
	for r, value := range p.pcrs {
		c.Measurements[r.name()] = value
	}
	return c
}
