// Package ear makes and reads EAT Attestation Results (EAR): what a verifier found about evidence, signed by the verifier, for those who
// rely on it instead of verifying themselves.
//
// The form is that of draft-ietf-rats-ear-03 in CBOR, as a COSE_Sign1 message (RFC 9052, tag 18) with ES256 or ES384 and without external data. Of
// the draft it has: profile, iat, exp, nonce, verifier id, and submodules with status, trustworthiness vector and policy ids. Raw evidence and
// key attestation are not carried. [Parse] accepts deterministic CBOR only, and no claims besides these.
package ear

import (
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Profile is the EAT profile (RFC 9711, claim 265) of draft-ietf-rats-ear-03.
const Profile = "tag:ietf.org,2026:rats/ear#03"

// Bounds of a result, in bytes and entries.
const (
	MaxSize       = 16 << 10
	maxSubmodules = 16
	maxPolicies   = 16
	maxText       = 512
	minNonce      = 8
	maxNonce      = 64
)

// Tier is a level of trust; a claim of a vector within a tier is a number up to the next.
type Tier int8

// The tiers.
const (
	None            Tier = 0
	Affirming       Tier = 2
	Warning         Tier = 32
	Contraindicated Tier = 96
)

// String returns the tier's name.
func (t Tier) String() string {
	switch {
	case t >= Contraindicated:
		return "contraindicated"
	case t >= Warning:
		return "warning"
	case t >= Affirming:
		return "affirming"
	}
	return "none"
}

// Vector is a trustworthiness vector (draft-ietf-rats-ar4si). Zero values make no claim.
type Vector struct {
	InstanceIdentity Tier `cbor:"0,keyasint,omitempty"`
	Configuration    Tier `cbor:"1,keyasint,omitempty"`
	Executables      Tier `cbor:"2,keyasint,omitempty"`
	FileSystem       Tier `cbor:"3,keyasint,omitempty"`
	Hardware         Tier `cbor:"4,keyasint,omitempty"`
	RuntimeOpaque    Tier `cbor:"5,keyasint,omitempty"`
	StorageOpaque    Tier `cbor:"6,keyasint,omitempty"`
	SourcedData      Tier `cbor:"7,keyasint,omitempty"`
}

func (v *Vector) tiers() []Tier {
	return []Tier{v.InstanceIdentity, v.Configuration, v.Executables, v.FileSystem, v.Hardware, v.RuntimeOpaque, v.StorageOpaque, v.SourcedData}
}

// worst returns the worst tier that is claimed.
func (v *Vector) worst() (worst Tier) {
	for _, t := range v.tiers() {
		worst = max(worst, t)
	}
	return worst
}

// Appraisal is the result for one attester.
type Appraisal struct {
	Status   Tier     `cbor:"1000,keyasint"`
	Vector   *Vector  `cbor:"1001,keyasint,omitempty"`
	Policies []string `cbor:"1003,keyasint,omitempty"` // ids of the policies that were applied
}

// Verifier says who appraised.
type Verifier struct {
	Developer string `cbor:"0,keyasint"`
	Build     string `cbor:"1,keyasint"`
}

// Result is an attestation result.
type Result struct {
	Profile    string               `cbor:"265,keyasint"`
	IssuedAt   int64                `cbor:"6,keyasint"`            // seconds since 1970
	Expires    int64                `cbor:"4,keyasint,omitempty"`  // seconds since 1970; 0: never
	Nonce      []byte               `cbor:"10,keyasint,omitempty"` // that the relying party chose
	Verifier   Verifier             `cbor:"1004,keyasint"`
	Submodules map[string]Appraisal `cbor:"266,keyasint"`
}

// Appraise puts the outcome of an appraisal into tiers, see the package's table in docs/verify.md. accepted says whether a policy accepts
// the platform, modules whether it also judged the module.
func Appraise(c *attest.PlatformClaims, accepted, modules bool) Appraisal {
	v := &Vector{Hardware: hardware(c.TCB), Configuration: Affirming, RuntimeOpaque: opaque(c.Platform)}
	if len(c.Conditions) > 0 {
		v.Configuration = Warning
	}
	if c.HardwareID != "" && accepted {
		v.InstanceIdentity = Affirming
	}
	if accepted && modules {
		v.Executables = Affirming
	} else if accepted {
		v.Executables = Warning
	}
	if c.Debug || c.Platform.Simulated() {
		v = &Vector{Hardware: Contraindicated, Configuration: Contraindicated, RuntimeOpaque: Contraindicated}
	}
	a := Appraisal{Status: v.worst(), Vector: v}
	if !accepted {
		a.Status = Contraindicated
	}
	return a
}

func hardware(s attest.TCBStatus) Tier {
	switch s {
	case attest.TCBUpToDate, attest.TCBNotApplicable:
		return Affirming
	case attest.TCBSWHardeningNeeded, attest.TCBConfigurationNeeded, attest.TCBConfigurationAndSWHardeningNeeded:
		return Warning
	}
	return Contraindicated
}

// opaque says whether others on the machine cannot read the memory: where it is encrypted. Nitro isolates it only, and a TPM does neither.
func opaque(p attest.Platform) Tier {
	switch p {
	case attest.SGX, attest.TDX, attest.SEVSNP, attest.CCA:
		return Affirming
	case attest.Nitro:
		return Warning
	}
	return None
}

// Failed is the appraisal of evidence that did not verify.
func Failed() Appraisal { return Appraisal{Status: Contraindicated} }

// CheckTime refuses a result that is from the future or has expired.
func (r *Result) CheckTime(now time.Time) error {
	const skew = 5 * time.Minute
	if time.Unix(r.IssuedAt, 0).After(now.Add(skew)) {
		return attest.Errorf(attest.ErrFreshness, "attestation result is from the future: it was made at %s", time.Unix(r.IssuedAt, 0).UTC().Format(time.RFC3339))
	}
	if r.Expires != 0 && !now.Before(time.Unix(r.Expires, 0)) {
		return attest.Errorf(attest.ErrFreshness, "attestation result expired at %s", time.Unix(r.Expires, 0).UTC().Format(time.RFC3339))
	}
	return nil
}
