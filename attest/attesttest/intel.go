package attesttest

import (
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	"github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

// warm is collateral that has been opened already, as a broker has it that runs for a while.
type warm struct{ collateral *dcap.Collateral }

func (w warm) Collateral(dcap.Need) (*dcap.Collateral, error) { return w.collateral, nil }

func (warm) MinEvaluation(dcap.TEE) uint32 { return 0 }

// intel makes quotes of SGX and TDX.
func intel() (all []Evidence) {
	w := dcaptest.New(quiet{})
	for _, kind := range []struct {
		name    string
		version int
		tee     dcap.TEE
	}{{"SGX", 3, dcap.SGX}, {"TDX v4", 4, dcap.TDX}, {"TDX v5", 5, dcap.TDX}} {
		documents := w.Documents(dcaptest.Collateral{SGX: kind.tee == dcap.SGX})
		verifier := &dcap.Verifier{TEE: kind.tee, Root: w.Trust(), Source: warm{must(documents.Open(w.Trust()))}}
		quote := w.Quote(dcaptest.Quote{Version: kind.version, ReportData: reportData})
		all = append(all, Evidence{Name: kind.name, Quote: attest.Quote{Platform: kind.tee.Platform(), Data: quote}, Verifier: verifier, Now: dcaptest.Now})
	}
	return all
}
