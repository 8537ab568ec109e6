package dcap

import (
	"fmt"

	"github.com/vouchmq/vouchmq/attest"
)

// Fault says which check failed. Each is an error, for errors.Is; it comes together with the [attest.Kind] that
// it is a case of.
type Fault uint8

// The faults.
const (
	// FaultFormat: quote, certificate or collateral is not what its format says.
	FaultFormat Fault = iota + 1
	// FaultUnsupported: a version, TEE, key type or certification data that is not accepted.
	FaultUnsupported
	// FaultChain: a certificate chain with wrong names, uses or signatures.
	FaultChain
	// FaultRoot: a chain that ends in another root than Intel's.
	FaultRoot
	// FaultRevoked: a certificate that Intel has revoked.
	FaultRevoked
	// FaultExpired: a certificate or collateral whose time is over.
	FaultExpired
	// FaultFuture: a certificate or collateral whose time has not come.
	FaultFuture
	// FaultNoCollateral: there is no collateral, or a part of it is missing.
	FaultNoCollateral
	// FaultCollateralSignature: TCB info, QE identity or a revocation list that Intel did not sign so.
	FaultCollateralSignature
	// FaultCollateralMismatch: genuine collateral of another kind, version or platform.
	FaultCollateralMismatch
	// FaultRollback: collateral of a lower evaluation number, or a revocation list of an earlier issue, than has been seen.
	FaultRollback
	// FaultModule: a TDX module that the TCB info does not know, or with other signer or attributes.
	FaultModule
	// FaultQESignature: the quoting enclave's report is not signed by the PCK.
	FaultQESignature
	// FaultQEBinding: the quoting enclave vouches for another attestation key.
	FaultQEBinding
	// FaultQEIdentity: the quoting enclave is not Intel's.
	FaultQEIdentity
	// FaultQuoteSignature: the quote is not signed by the attestation key.
	FaultQuoteSignature
	// FaultTCBLevel: no TCB level matches: the platform is older than everything that Intel knows.
	FaultTCBLevel
)

type faultInfo struct {
	text string
	kind attest.Kind
}

var faults = [...]faultInfo{
	FaultFormat:              {"malformed", attest.ErrFormat},
	FaultUnsupported:         {"not supported", attest.ErrFormat},
	FaultChain:               {"certificate chain does not hold", attest.ErrSignature},
	FaultRoot:                {"not Intel's root", attest.ErrSignature},
	FaultRevoked:             {"revoked", attest.ErrSignature},
	FaultExpired:             {"expired", attest.ErrFreshness},
	FaultFuture:              {"not yet valid", attest.ErrFreshness},
	FaultNoCollateral:        {"no collateral", attest.ErrTCB},
	FaultCollateralSignature: {"signature of collateral is not valid", attest.ErrSignature},
	FaultCollateralMismatch:  {"collateral is for something else", attest.ErrTCB},
	FaultRollback:            {"collateral was rolled back", attest.ErrFreshness},
	FaultModule:              {"TDX module is not known", attest.ErrTCB},
	FaultQESignature:         {"signature of the quoting enclave's report is not valid", attest.ErrSignature},
	FaultQEBinding:           {"attestation key is not that of the quoting enclave", attest.ErrSignature},
	FaultQEIdentity:          {"quoting enclave is not Intel's", attest.ErrSignature},
	FaultQuoteSignature:      {"signature of the quote is not valid", attest.ErrSignature},
	FaultTCBLevel:            {"no TCB level matches", attest.ErrTCB},
}

// Error returns the fault in a few words.
func (f Fault) Error() string {
	if f == 0 || int(f) >= len(faults) {
		return fmt.Sprintf("fault %d", uint8(f))
	}
	return faults[f].text
}

// failure is a text with its fault.
type failure struct {
	fault Fault
	err   error
}

func (f *failure) Error() string   { return f.err.Error() }
func (f *failure) Unwrap() []error { return []error{f.fault, f.err} }

// fail makes an *attest.Error of the fault's kind. The format is as for fmt.Errorf.
func fail(f Fault, format string, args ...any) error {
	return attest.Errorf(faults[f].kind, "%w", &failure{f, fmt.Errorf(format, args...)})
}
