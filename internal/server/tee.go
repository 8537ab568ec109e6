package server

import (
	"context"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/tee"
)

// tee gives a configuration the TEE that the settings name. A broker that runs keeps its own.
func (o *opener) tee(state *State, c *Config) (err error) {
	if running := o.opening.running; running != nil {
		c.Attester = running.Config.Attester
	} else if c.Attester, err = o.attester(state, c.Runtime); err != nil {
		return o.fail("tee", err)
	}
	t := &c.Limits.Transport.HandshakeTimeout
	*t = max(*t, c.Attester.Platform().Patience())
	return nil
}

func (o *opener) attester(state *State, runtime attest.Digest) (attest.Attester, error) {
	f := &o.settings.File
	options := tee.Options{
		Kind: f.TEE, Intel: o.intel, TPM: tee.TPM(f.TPM), Log: o.opening.Log,
		SEVSNPCertificate: o.path(f.SEVSNP.Certificate), CCAPlatformKey: o.path(f.CCA.PlatformKey),
		Sim: tee.Sim{Key: state.Sim, Runtime: runtime, QuoteTime: f.Sim.QuoteTime},
	}
	for _, path := range []*string{&options.TPM.Device, &options.TPM.Certificate, &options.TPM.EventLog} {
		*path = o.path(*path)
	}
	return tee.Open(context.Background(), options)
}
