//go:build !linux

package nitro

import (
	"context"
	"errors"

	"github.com/vouchmq/vouchmq/attest"
)

// ErrNoDevice says that this program does not run in a Nitro enclave.
var ErrNoDevice = errors.New("Nitro enclaves run Linux: this is not one")

// Attester is not there on this system.
type Attester struct{}

// NewAttester returns ErrNoDevice.
func NewAttester() (*Attester, error) { return nil, ErrNoDevice }

// Close does nothing.
func (*Attester) Close() error { return nil }

// Platform returns attest.Nitro.
func (*Attester) Platform() attest.Platform { return attest.Nitro }

// Attest returns ErrNoDevice.
func (*Attester) Attest(context.Context, attest.ReportData) (attest.Quote, error) {
	return attest.Quote{}, ErrNoDevice
}

// Measure returns ErrNoDevice.
func (*Attester) Measure(context.Context, attest.Digest) error { return ErrNoDevice }
