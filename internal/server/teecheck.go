package server

import (
	"errors"

	"github.com/vouchmq/vouchmq/attest"
)

// checkTEE reads the files that a TEE attests with. It asks no device: the broker may be meant for another machine.
func (o *opener) checkTEE() {
	options := o.teeOptions()
	for _, wrong := range options.CheckFiles() {
		o.wrong(wrong.Key, wrong)
	}
	if o.settings.TEE == string(attest.CCA) && o.settings.CCA.PlatformKey == "" {
		o.wrong("tee", errors.New("cca.platform_key is missing: the platform's attestation key (CPAK) does not come with tokens"))
	}
}
