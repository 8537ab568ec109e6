package tdx

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/rtmr"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
)

// rtmr3File is the kernel's file (Linux 6.16 and later): each write of 48 bytes is one extension.
const rtmr3File = "/sys/class/misc/tdx_guest/measurements/rtmr3:sha384"

// moduleRegister is the RTMR for what is loaded at run time; RTMR0 to RTMR2 belong to firmware and operating system.
const moduleRegister = 3

// Measure puts the digest of the Wasm module into RTMR3, which becomes SHA-384 of its old value and the digest. An RTMR keeps its value until
// the TD ends: if it holds this module and nothing else already, since the broker was started before, it stays as it is. What it holds is
// taken from quotes, which show what verifiers will see.
func (a *Attester) Measure(ctx context.Context, module attest.Digest) error {
	return a.measure(ctx, rtmr3File, module)
}

func (a *Attester) measure(ctx context.Context, file string, module attest.Digest) error {
	before, err := a.register(ctx)
	if err != nil || before == ExtendedOnce(module) {
		return err
	}
	if err := a.extend(file, module); err != nil {
		return err
	}
	after, err := a.register(ctx)
	switch want := extended(before, module); {
	case err != nil:
		return err
	case after != want:
		return attest.Errorf(attest.ErrAttester, "RTMR3 is %x after it was extended, not %x: something else extends it at the same time, or the kernel does not", after[:], want[:])
	case before != attest.Digest{}:
		return attest.NotAlone("RTMR3", before[:], after[:])
	}
	return nil
}

// register reads RTMR3 from a quote over zeros, which no verifier accepts.
func (a *Attester) register(ctx context.Context) (attest.Digest, error) {
	out, _, err := a.kernel.Report(ctx, attest.ReportData{})
	if err != nil {
		return attest.Digest{}, fmt.Errorf("read RTMR3: %w", err)
	}
	quote, err := dcap.ParseQuote(out)
	if err != nil {
		return attest.Digest{}, fmt.Errorf("read RTMR3: %w", err)
	}
	return attest.Digest(quote.TD.RTMR[moduleRegister]), nil
}

// extend writes to the kernel's file, or where there is none to configfs, as kernels had it before.
func (a *Attester) extend(file string, digest attest.Digest) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		err := a.kernel.Do(func(client configfsi.Client) error { return rtmr.ExtendDigest(client, moduleRegister, digest[:]) })
		if err != nil {
			return attest.Errorf(attest.ErrAttester, "extend RTMR3: the kernel offers neither %s nor RTMRs in configfs: %w", file, err)
		}
		return nil
	}
	if err != nil {
		return attest.Errorf(attest.ErrAttester, "extend RTMR3: %w", err)
	}
	_, err = f.Write(digest[:])
	if err = errors.Join(err, f.Close()); err != nil {
		return attest.Errorf(attest.ErrAttester, "extend RTMR3: %w", err)
	}
	return nil
}

// ExtendedOnce returns the value that RTMR3 has after one extension from zero: the reference value for a policy where nothing else extends it.
func ExtendedOnce(module attest.Digest) attest.Digest { return extended(attest.Digest{}, module) }

func extended(before, digest attest.Digest) attest.Digest {
	return attest.Sum(append(before[:], digest[:]...))
}
