package tdx

import (
	"context"
	"fmt"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	"github.com/vouchmq/vouchmq/attest/internal/tsm"
)

const provider = "tdx_guest" // as the kernel names its driver

// errInterfered: the quote is over other report data than was written.
var errInterfered = tsm.ErrInterfered

// Attester makes quotes of the TD that it runs in.
type Attester struct {
	kernel tsm.Source
	store  *collateral.Store
}

// NewAttester returns an attester over the kernel's configfs-tsm (Linux 6.7 and later), or says why there is none. The store's collateral
// for this machine goes with each quote; it may be nil.
func NewAttester(store *collateral.Store) (*Attester, error) {
	client, err := tsm.Client()
	if err != nil {
		return nil, err
	}
	return newAttester(client, store), nil
}

func newAttester(client configfsi.Client, store *collateral.Store) *Attester {
	return &Attester{kernel: tsm.Source{Client: client, Provider: provider, Check: checkQuote}, store: store}
}

// Platform returns attest.TDX.
func (a *Attester) Platform() attest.Platform { return attest.TDX }

// Attest makes a quote. If ctx ends before the kernel answers, the answer is thrown away when it comes.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	quote, _, err := a.kernel.Report(ctx, data)
	if err != nil {
		return attest.Quote{}, err
	}
	return a.store.Endorse(attest.Quote{Platform: attest.TDX, Data: quote}), nil
}

func checkQuote(quote []byte, data attest.ReportData) error {
	parsed, err := dcap.ParseQuote(quote)
	if err != nil {
		return fmt.Errorf("the kernel's quote: %w", err)
	}
	if parsed.TEE != dcap.TDX || [64]byte(parsed.ReportData()) != data {
		return errInterfered
	}
	return nil
}
