package tee

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/azure"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/nitro"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// Auto is the kind that stands for the best TEE that is there.
const Auto = "auto"

// Options say which TEE is to be opened, and what it attests with. Paths are as seen from the working directory; "" is none.
type Options struct {
	Kind              string            // Auto, or the name of a platform
	Intel             *collateral.Store // collateral that goes with quotes of SGX and TDX; nil: none
	TPM               TPM
	SEVSNPCertificate string // file of the certificate of the VCEK or VLEK, PEM or DER, for hosts that do not give it
	CCAPlatformKey    string // file of the public half of the platform's attestation key, PEM or DER
	Sim               Sim
	Log               *slog.Logger // says what was found; nil is nowhere
}

// TPM says which TPM attests, and to what.
type TPM struct {
	Device      string   // path of the device, or of the socket of one in software; "" is that of the kernel
	Bank        string   // of PCRs: sha256, which is also "", or sha384
	PCRs        []uint32 // none are 0 to 7 and 14
	Certificate string   // file of the certificate of its attestation key and of the CA, PEM
	EventLog    string   // file of the firmware's event log
}

// Sim is a simulated TEE.
type Sim struct {
	Key       *sim.Key
	Runtime   attest.Digest // of this program
	QuoteTime time.Duration // that a quote takes
}

// Timeout bounds how long a TEE may take to say that it is there.
const Timeout = time.Minute

// kind is a kind of TEE.
type kind struct {
	platform attest.Platform
	open     func(context.Context, *Options) (attest.Attester, error)
	absent   error // what open says where there is none
}

// kinds are in the order in which Auto looks for them: what protects most comes first. Auto never takes the simulated one.
func kinds() []kind {
	return []kind{
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

// Open opens the TEE that the options name. Where there is none the error says what was looked for.
func Open(ctx context.Context, o Options) (attest.Attester, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if o.Kind == Auto {
		return o.find(ctx)
	}
	for _, k := range kinds() {
		if string(k.platform) == o.Kind {
			return o.use(ctx, &k)
		}
	}
	return nil, fmt.Errorf("%q is no TEE that this program knows", o.Kind)
}

// find looks for a TEE. One that is there and does not work is an error: to go on to the next would be to protect less than was
// meant.
func (o *Options) find(ctx context.Context) (attest.Attester, error) {
	var looked []string
	for _, k := range kinds() {
		if k.platform.Simulated() {
			continue
		}
		a, err := o.use(ctx, &k)
		if err == nil || !k.isAbsent(err) {
			return a, err
		}
		looked = append(looked, fmt.Sprintf("%s: %v", k.platform, err))
	}
	return nil, fmt.Errorf("no TEE was found (%s); a simulated one, for development, is sim", strings.Join(looked, "; "))
}

// isAbsent reports whether an error of open says that there is none, and not that one is there and does not work.
func (k *kind) isAbsent(err error) bool {
	return k.absent != nil && errors.Is(err, k.absent) && !errors.As(err, new(*FileError))
}

func (o *Options) use(ctx context.Context, k *kind) (attest.Attester, error) {
	a, err := k.open(ctx, o)
	if err != nil {
		return nil, err
	}
	if o.Log != nil {
		o.Log.Info("TEE found", "platform", string(k.platform), "chosen_by", o.Kind)
	}
	return a, nil
}

// Measure has the platform measure a program or module, where it can. That something else was measured before is a warning in the log.
func Measure(ctx context.Context, attester attest.Attester, module attest.Digest, log *slog.Logger) error {
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
