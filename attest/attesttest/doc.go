// Package attesttest makes evidence of each kind of platform under roots of its own, with verifiers that trust these roots. It is for measurements and for
// tests of what handles evidence: nothing of it is genuine, and no other verifier accepts it.
//
// Structures, keys and chains have the sizes and algorithms of the real ones, so that to verify them costs the same.
package attesttest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// Evidence is a quote, and what verifies it.
type Evidence struct {
	Name     string // such as "SEV-SNP Milan"
	Quote    attest.Quote
	Verifier attest.Verifier
	Data     attest.ReportData // that the quote is over
	Now      time.Time         // when it is valid
}

// now is when everything is valid that is made here.
var now = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// reportData is what quotes are over.
var reportData = attest.ReportData(slices.Repeat([]byte{7}, attest.ReportDataSize))

// All makes evidence of each kind: SGX, TDX of both versions of quotes, each line of SEV-SNP, TPM, Nitro, and the simulated TEE. It takes some seconds,
// for AMD's authorities have long keys.
func All() (all []Evidence, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			all, err = nil, fmt.Errorf("make evidence: %w", r.error)
		default:
			panic(r)
		}
	}()
	all = append(all, intel()...)
	all = append(all, amd()...)
	all = append(all, onTPM(), inNitro(), simulated())
	for i := range all {
		all[i].Data = reportData
	}
	return all, nil
}

// failure is an error on the way of a maker, none of which depends on anything that comes from outside.
type failure struct{ error }

func must[T any](v T, err error) T {
	if err != nil {
		panic(failure{err})
	}
	return v
}

// quiet is a test that fails by panicking, for makers that want one.
type quiet struct{}

func (quiet) Helper() {}

func (quiet) Fatal(args ...any) { panic(failure{errors.New(fmt.Sprint(args...))}) }
