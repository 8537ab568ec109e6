package server

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

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

// Values of the key tee that are no platforms.
const teeAuto = "auto"

// A tee is a kind of TEE that a broker can attest with.
type tee struct {
	platform attest.Platform
	open     func(context.Context, *opener, *State) (attest.Attester, error)
	absent   error // what open says where there is none
}

// tees are the kinds, in the order in which auto looks for them: what protects most comes first. auto never takes the simulated one.
func tees() []tee {
	return []tee{
		{attest.SGX, openSGX, fs.ErrNotExist},
		{attest.TDX, openTDX, fs.ErrNotExist},
		{attest.SEVSNP, openSEVSNP, fs.ErrNotExist},
		{attest.CCA, openCCA, cca.ErrNoRealm},
		{attest.Nitro, openNitro, nitro.ErrNoDevice},
		{attest.Azure, openAzure, azure.ErrNoAzure},
		{attest.TPM, openTPM, tpm.ErrNoDevice},
		{attest.Sim, openSim, nil},
	}
}

// teeTimeout bounds how long a TEE may take to say that it is there.
const teeTimeout = time.Minute

// tee gives a configuration the TEE that the settings name. A broker that runs keeps its own.
func (o *opener) tee(state *State, c *Config) (err error) {
	if running := o.opening.running; running != nil {
		c.Attester = running.Config.Attester
	} else if c.Attester, err = o.attester(state); err != nil {
		return o.failTEE(err)
	}
	t := &c.Limits.Transport.HandshakeTimeout
	*t = max(*t, c.Attester.Platform().Patience())
	return nil
}

// teeFileError is an error about a file that a TEE attests with.
type teeFileError struct {
	key string // that names the file
	error
}

func (e teeFileError) Unwrap() error { return e.error }

// failTEE is fail, at the key that names the file that is wrong, where it is one.
func (o *opener) failTEE(err error) error {
	var file teeFileError
	if errors.As(err, &file) {
		return o.fail(file.key, err)
	}
	return o.fail("tee", err)
}

func (o *opener) attester(state *State) (attest.Attester, error) {
	ctx, cancel := context.WithTimeout(context.Background(), teeTimeout)
	defer cancel()
	if o.settings.TEE == teeAuto {
		return o.find(ctx, state)
	}
	for _, t := range tees() {
		if string(t.platform) == o.settings.TEE {
			return o.openTEE(ctx, &t, state)
		}
	}
	return nil, fmt.Errorf("%q is no TEE that this program knows", o.settings.TEE)
}

// find looks for a TEE. One that is there and does not work is an error: to go on to the next would be to protect less than was
// meant.
func (o *opener) find(ctx context.Context, state *State) (attest.Attester, error) {
	var looked []string
	for _, t := range tees() {
		if t.platform.Simulated() {
			continue
		}
		a, err := o.openTEE(ctx, &t, state)
		if err == nil || !t.isAbsent(err) {
			return a, err
		}
		looked = append(looked, fmt.Sprintf("%s: %v", t.platform, err))
	}
	return nil, fmt.Errorf("no TEE was found (%s); \"tee: sim\" is a simulated one, for development", strings.Join(looked, "; "))
}

// isAbsent reports whether an error of open says that there is none, and not that one is there and does not work.
func (t *tee) isAbsent(err error) bool {
	return t.absent != nil && errors.Is(err, t.absent) && !errors.As(err, new(teeFileError))
}

func (o *opener) openTEE(ctx context.Context, t *tee, state *State) (attest.Attester, error) {
	a, err := t.open(ctx, o, state)
	if err != nil {
		return nil, err
	}
	if o.opening.Log != nil {
		o.opening.Log.Info("TEE found", "platform", string(t.platform), "chosen_by", o.settings.TEE)
	}
	return a, nil
}

func openSim(_ context.Context, o *opener, state *State) (attest.Attester, error) {
	runtime, err := RuntimeDigest()
	if err != nil {
		return nil, err
	}
	quoteTime := o.settings.Sim.QuoteTime
	if quoteTime > 0 && o.opening.Log != nil {
		o.opening.Log.Warn("SLOW SIMULATED TEE: each quote is held back, for measurements", "quote_time", quoteTime)
	}
	return sim.NewAttester(state.Sim, runtime).WithQuoteTime(quoteTime), nil
}

// Devices by which the kernel shows that it runs in a confidential VM; quotes are asked for over configfs.
const (
	deviceTDX    = "/dev/tdx_guest"
	deviceSEVSNP = "/dev/sev-guest"
)

func openSGX(_ context.Context, o *opener, _ *State) (attest.Attester, error) {
	a, err := sgx.NewAttester("", o.intel)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openTDX(_ context.Context, o *opener, _ *State) (attest.Attester, error) {
	if _, err := os.Stat(deviceTDX); err != nil {
		return nil, fmt.Errorf("this is no TDX guest: %w", err)
	}
	a, err := tdx.NewAttester(o.intel)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openSEVSNP(_ context.Context, o *opener, _ *State) (attest.Attester, error) {
	if _, err := os.Stat(deviceSEVSNP); err != nil {
		return nil, fmt.Errorf("this is no SEV-SNP guest: %w", err)
	}
	file := o.path(o.settings.SEVSNP.Certificate)
	if err := checkTEEFile(keySEVSNPCertificate, file, sevsnp.CheckCertificate); err != nil {
		return nil, err
	}
	a, err := sevsnp.NewAttester(file)
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openCCA(_ context.Context, o *opener, _ *State) (attest.Attester, error) {
	file := o.path(o.settings.CCA.PlatformKey)
	a, err := cca.NewAttester(file)
	if err != nil && !errors.Is(err, cca.ErrNoRealm) {
		return nil, cmp.Or(checkTEEFile(keyCCAPlatformKey, file, cca.CheckPlatformKey), err)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openAzure(ctx context.Context, o *opener, _ *State) (attest.Attester, error) {
	a, err := azure.NewAttester(ctx, azure.Options{Device: o.path(o.settings.TPM.Device), Store: o.intel})
	if errors.Is(err, tpm.ErrNoDevice) {
		return nil, fmt.Errorf("%w: %w", azure.ErrNoAzure, err)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openNitro(context.Context, *opener, *State) (attest.Attester, error) {
	a, err := nitro.NewAttester()
	if err != nil {
		return nil, err
	}
	return a, nil
}

func openTPM(ctx context.Context, o *opener, _ *State) (attest.Attester, error) {
	told := &o.settings.TPM
	options := tpm.Options{Device: o.path(told.Device), Hash: crypto.SHA256, EventLog: o.path(told.EventLog)}
	if told.Bank == "sha384" {
		options.Hash = crypto.SHA384
	}
	for _, i := range told.PCRs {
		options.PCRs = append(options.PCRs, int(i))
	}
	if told.Certificate != "" {
		var err error
		if options.Certificates, err = readAKCertificates(o.path(told.Certificate)); err != nil {
			return nil, teeFileError{keyTPMCertificate, err}
		}
	}
	a, err := tpm.NewAttester(ctx, options)
	if errors.Is(err, tpm.ErrOtherKey) {
		return nil, teeFileError{keyTPMCertificate, err}
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// measure has the platform measure the module, where it can.
func measure(ctx context.Context, attester attest.Attester, module attest.Digest, log *slog.Logger) error {
	m, ok := attester.(attest.Measurer)
	if !ok {
		return nil
	}
	platform := string(m.Platform())
	err := m.Measure(ctx, module)
	if errors.Is(err, attest.ErrNotAlone) {
		log.Warn("MODULE MEASURED ON TOP OF SOMETHING ELSE", "platform", platform, "module", module.String(), "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", platform, err)
	}
	log.Info("module measured", "platform", platform, "module", module.String())
	return nil
}
