package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/internal/dcbor"
)

// Where the paravisor leaves things in the vTPM.
const (
	ReportIndex = 0x01400001 // NV index of the HCL report
	KeyHandle   = 0x81000003 // persistent handle of the attestation key
)

// ErrNoAzure says that the TPM of the machine is not that of a confidential VM of Azure.
var ErrNoAzure = errors.New("this is not a confidential VM of Azure: its TPM has no HCL report")

// Host gives what the vTPM does not have.
type Host interface {
	// VCEK returns the certificate of the key with which the chip of the machine signs, DER.
	VCEK(ctx context.Context) ([]byte, error)
	// Quote has a TD report of 1,024 bytes made a quote.
	Quote(ctx context.Context, tdReport []byte) ([]byte, error)
}

// Options say what an attester uses. The zero value will do.
type Options struct {
	Device string            // of the vTPM; "" is tpm.Device
	Host   Host              // nil: Azure's metadata service
	Store  *collateral.Store // whose collateral goes with quotes of TDX; nil: none
}

// Attester makes evidence of the VM that it runs in. It may be used by many goroutines; the vTPM serves one at a time.
type Attester struct {
	tpm   *tpm.VTPM
	host  Host
	store *collateral.Store

	mu       sync.Mutex
	hardware *hardware // nil until it has been asked for: it says the same of every quote until the next start
}

// hardware is what the hardware says of the vTPM.
type hardware struct {
	hcl, tdQuote, endorsements []byte
}

// NewAttester looks whether the machine is a confidential VM of Azure: ErrNoAzure if it is not.
func NewAttester(ctx context.Context, o Options) (*Attester, error) {
	a := &Attester{tpm: tpm.NewVTPM(o.Device), host: o.Host, store: o.Store}
	if a.host == nil {
		a.host = NewMetadata()
	}
	if _, _, err := a.report(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// report reads the HCL report.
func (a *Attester) report(ctx context.Context) (hcl []byte, r *report, err error) {
	hcl, err = a.tpm.ReadNV(ctx, ReportIndex)
	if err != nil {
		return nil, nil, fmt.Errorf("read the HCL report: %w", err)
	}
	if hcl == nil {
		return nil, nil, ErrNoAzure
	}
	if r, err = parseReport(hcl); err != nil {
		return nil, nil, fmt.Errorf("HCL report of the vTPM: %w", err)
	}
	return hcl, r, nil
}

// Platform returns attest.Azure.
func (a *Attester) Platform() attest.Platform { return attest.Azure }

// Measure puts the digest of the module into PCR 14 of the vTPM, see [tpm.Attester.Measure].
func (a *Attester) Measure(ctx context.Context, module attest.Digest) error {
	return a.tpm.Measure(ctx, module)
}

// Attest has the vTPM sign the PCRs and the short form of the report data.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	h, err := a.known(ctx)
	if err != nil {
		return attest.Quote{}, err
	}
	short := data.Short()
	q, err := a.tpm.Quote(ctx, KeyHandle, short[:])
	if err != nil {
		return attest.Quote{}, err
	}
	encoded, err := dcbor.Encode(evidence{
		Version: version, HCL: h.hcl, TDQuote: h.tdQuote, Attested: q.Attested, Signature: q.Signature, PCRs: q.PCRs,
	})
	if err != nil {
		return attest.Quote{}, err
	}
	return attest.Quote{Platform: attest.Azure, Data: encoded, Endorsements: a.endorsements(h)}, nil
}

// endorsements are the VCEK's certificate, or with TDX what the store has now.
func (a *Attester) endorsements(h *hardware) []byte {
	if h.tdQuote == nil {
		return h.endorsements
	}
	return a.store.Endorse(attest.Quote{Platform: attest.TDX, Data: h.tdQuote}).Endorsements
}

// known returns what the hardware says, and asks for it if that is not known.
func (a *Attester) known(ctx context.Context) (*hardware, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hardware != nil {
		return a.hardware, nil
	}
	h, err := a.ask(ctx)
	if err != nil {
		return nil, err
	}
	a.hardware = h
	return h, nil
}

func (a *Attester) ask(ctx context.Context) (*hardware, error) {
	hcl, r, err := a.report(ctx)
	if err != nil {
		return nil, err
	}
	h := &hardware{hcl: hcl}
	if r.kind == snp {
		if h.endorsements, err = a.host.VCEK(ctx); err != nil {
			return nil, fmt.Errorf("certificate of the chip's key (VCEK): %w", err)
		}
		return h, nil
	}
	if h.tdQuote, err = a.host.Quote(ctx, r.hardware[:tdReport]); err != nil {
		return nil, fmt.Errorf("quote of the TD: %w", err)
	}
	if digest := sha256.Sum256(r.text); !bytes.Contains(h.tdQuote, digest[:]) {
		return nil, errors.New("quote of the TD: it is over another report than was asked for")
	}
	return h, nil
}
