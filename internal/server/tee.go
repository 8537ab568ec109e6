package server

import (
	"context"
	"errors"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/tee"
)

// tee gives a configuration the TEE that the settings name. A broker that runs keeps its own.
func (o *opener) tee(state *State, c *Config) (err error) {
	if running := o.opening.running; running != nil {
		c.Attester = running.Config.Attester
	} else if c.Attester, err = o.attester(state, c.Runtime); err != nil {
		return o.failTEE(err)
	}
	t := &c.Limits.Transport.HandshakeTimeout
	*t = max(*t, c.Attester.Platform().Patience())
	return nil
}

// failTEE is fail, at the key that names the file that is wrong, where it is one.
func (o *opener) failTEE(err error) error {
	var file *tee.FileError
	if errors.As(err, &file) {
		return o.fail(file.Key, err)
	}
	return o.fail("tee", err)
}

func (o *opener) attester(state *State, runtime attest.Digest) (attest.Attester, error) {
	options := o.teeOptions()
	options.Sim = tee.Sim{Key: state.Sim, Runtime: runtime, QuoteTime: o.settings.Sim.QuoteTime}
	return tee.Open(context.Background(), options)
}

// teeOptions are what the settings say of the TEE, but for a simulated one.
func (o *opener) teeOptions() tee.Options {
	f := &o.settings.File
	options := tee.Options{
		Kind: f.TEE, Intel: o.intel, TPM: tee.TPM(f.TPM), Log: o.opening.Log,
		SEVSNPCertificate: o.path(f.SEVSNP.Certificate), CCAPlatformKey: o.path(f.CCA.PlatformKey),
	}
	for _, path := range []*string{&options.TPM.Device, &options.TPM.Certificate, &options.TPM.EventLog} {
		*path = o.path(*path)
	}
	return options
}
