package tee

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/azure"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/nitro"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/sgx"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/attest/tdx"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Devices by which the kernel shows that it runs in a confidential VM; quotes are asked for over configfs.
const (
	deviceTDX    = "/dev/tdx_guest"
	deviceSEVSNP = "/dev/sev-guest"
)

// opened makes of a driver's attester, which is nil with an error, one that is nil with an error.
func opened[A attest.Attester](a A, err error) (attest.Attester, error) {
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openSim(_ context.Context, o *Options) (attest.Attester, error) {
	if o.Sim.Key == nil {
		return nil, errors.New("the simulated TEE needs a key")
	}
	if o.Sim.QuoteTime > 0 && o.Log != nil {
		o.Log.Warn("SLOW SIMULATED TEE: each quote is held back, for measurements", "quote_time", o.Sim.QuoteTime)
	}
	return sim.NewAttester(o.Sim.Key, o.Sim.Runtime).WithQuoteTime(o.Sim.QuoteTime), nil
}

func openSGX(_ context.Context, o *Options) (attest.Attester, error) {
	return opened(sgx.NewAttester("", o.Intel))
}

func openTDX(_ context.Context, o *Options) (attest.Attester, error) {
	if _, err := os.Stat(deviceTDX); err != nil {
		return nil, fmt.Errorf("this is no TDX guest: %w", err)
	}
	return opened(tdx.NewAttester(o.Intel))
}

func openSEVSNP(_ context.Context, o *Options) (attest.Attester, error) {
	if _, err := os.Stat(deviceSEVSNP); err != nil {
		return nil, fmt.Errorf("this is no SEV-SNP guest: %w", err)
	}
	if err := checkFile(keySEVSNPCertificate, o.SEVSNPCertificate, sevsnp.CheckCertificate); err != nil {
		return nil, err
	}
	return opened(sevsnp.NewAttester(o.SEVSNPCertificate))
}

func openCCA(_ context.Context, o *Options) (attest.Attester, error) {
	a, err := cca.NewAttester(o.CCAPlatformKey)
	if err != nil && !errors.Is(err, cca.ErrNoRealm) {
		if wrong := checkFile(keyCCAPlatformKey, o.CCAPlatformKey, cca.CheckPlatformKey); wrong != nil {
			return nil, wrong
		}
	}
	return opened(a, err)
}

func openAzure(ctx context.Context, o *Options) (attest.Attester, error) {
	a, err := azure.NewAttester(ctx, azure.Options{Device: o.TPM.Device, Store: o.Intel})
	if errors.Is(err, tpm.ErrNoDevice) {
		return nil, fmt.Errorf("%w: %w", azure.ErrNoAzure, err)
	}
	return opened(a, err)
}

func openNitro(context.Context, *Options) (attest.Attester, error) {
	return opened(nitro.NewAttester())
}

func openTPM(ctx context.Context, o *Options) (attest.Attester, error) {
	options := tpm.Options{Device: o.TPM.Device, Hash: crypto.SHA256, EventLog: o.TPM.EventLog}
	if o.TPM.Bank == bankSHA384 {
		options.Hash = crypto.SHA384
	}
	for _, i := range o.TPM.PCRs {
		options.PCRs = append(options.PCRs, int(i))
	}
	if file := o.TPM.Certificate; file != "" {
		var err error
		if options.Certificates, err = readAKCertificates(file); err != nil {
			return nil, &FileError{keyTPMCertificate, err}
		}
	}
	a, err := tpm.NewAttester(ctx, options)
	if errors.Is(err, tpm.ErrOtherKey) {
		return nil, &FileError{keyTPMCertificate, err}
	}
	return opened(a, err)
}
