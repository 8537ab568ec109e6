package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/tee"
)

// attestFlags say with what a command attests itself to a broker that wants to know its clients.
type attestFlags struct {
	tee     string // "" for not at all
	measure bool
}

func (f *attestFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.tee, "attest", "", "attest to the broker, too, with this TEE: "+tee.Syntax)
	fs.BoolVar(&f.measure, "attest-measure", false, "with --attest: have the TEE measure this program first, into RTMR3 or PCR 14 or 16, where a policy may look for it")
}

func (f *attestFlags) wanted() bool { return f.tee != "" }

// apply puts what is to attest into the options of a connection. Evidence claims the digest of this program's executable for its module, and the
// name of the instance. Collateral of Intel's goes with quotes if there is some.
func (f *attestFlags) apply(ctx context.Context, o *client.Options, instance string, intel collateralFlag, log *slog.Logger) error {
	if !f.wanted() {
		if f.measure {
			return fmt.Errorf("--attest-measure needs a TEE to measure with: --attest")
		}
		return nil
	}
	self, err := server.RuntimeDigest()
	if err != nil {
		return err
	}
	if err := makeSimulated(f.tee, self, log); err != nil {
		return err
	}
	options, err := tee.Parse(f.tee)
	if err != nil {
		return fmt.Errorf("--attest: %w", err)
	}
	options.Sim.Runtime, options.Log = self, log
	if options.Intel, err = intel.store(); err != nil {
		return err
	}
	if o.Attester, err = tee.Open(ctx, options); err != nil {
		return fmt.Errorf("--attest %s: %w", options.Kind, err)
	}
	o.Identity = attest.Identity{Module: self, Runtime: self, Instance: instance}
	if f.measure {
		return tee.Measure(ctx, o.Attester, self, log)
	}
	return nil
}

// makeSimulated makes the key that sim:FILE names, if there is none, and says by which values a policy can know it.
func makeSimulated(asked string, program attest.Digest, log *slog.Logger) error {
	path, ok := strings.CutPrefix(asked, "sim:")
	if _, err := os.Lstat(path); !ok || path == "" || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	key, err := sim.NewKey()
	if err != nil {
		return err
	}
	content, err := key.Marshal()
	if err != nil {
		return err
	}
	if err := atomicfile.Create(path, content, atomicfile.Secret); err != nil {
		return fmt.Errorf("--attest: key of a simulated TEE: %w", err)
	}
	log.Warn("made the key of a simulated TEE, which protects nothing; what a policy says of it:",
		"file", path, "module", program.String(), "sim.key", key.Digest().String())
	return nil
}
