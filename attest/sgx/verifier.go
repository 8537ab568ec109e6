package sgx

import (
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

type (
	// Verifier verifies quotes; see its With methods for what else it can ask for.
	Verifier = dcap.Verifier
	// Report is all that was found out about a quote; see [Verifier.Appraise].
	Report = dcap.Report
)

// NewVerifier returns a verifier that takes collateral from a store, or from the evidence where the store has none; store may be nil.
func NewVerifier(store *collateral.Store) *Verifier {
	return &Verifier{TEE: dcap.SGX, Root: dcap.IntelRoot(), Source: store.Source()}
}
