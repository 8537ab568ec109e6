package tdx

import (
	"errors"
	"os"

	"github.com/google/go-configfs-tsm/rtmr"

	"github.com/vouchmq/vouchmq/attest"
)

// rtmr3File is the kernel's file (Linux 6.16 and later): each write of 48 bytes is one extension.
const rtmr3File = "/sys/class/misc/tdx_guest/measurements/rtmr3:sha384"

// moduleRegister is the RTMR for what is loaded at run time; RTMR0 to RTMR2 belong to firmware and operating system.
const moduleRegister = 3

// ExtendModule extends RTMR3 with the digest of the Wasm module: RTMR3 becomes SHA-384 of its old value and the digest.
// A TD does so once for each module that it loads; it cannot be taken back before the next start.
func (a *Attester) ExtendModule(module attest.Digest) error { return a.extend(rtmr3File, module) }

// extend writes to the kernel's file, or where there is none to configfs, as kernels had it before.
func (a *Attester) extend(file string, digest attest.Digest) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		client := &tracing{Client: a.client}
		if err := rtmr.ExtendDigest(client, moduleRegister, digest[:]); err != nil {
			return attest.Errorf(attest.ErrAttester, "extend RTMR3: the kernel offers neither %s nor RTMRs in configfs: %w", file, client.explain(err))
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
func ExtendedOnce(module attest.Digest) attest.Digest {
	return attest.Sum(append(make([]byte, attest.DigestSize), module[:]...))
}
