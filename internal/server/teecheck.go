package server

import (
	"errors"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/internal/tee"
)

// checkTEE reads the files that a TEE attests with. It asks no device: the broker may be meant for another machine.
func (o *opener) checkTEE() {
	for _, f := range []struct {
		key, file string
		check     func(file string) error
	}{
		{"tpm.certificate", o.settings.TPM.Certificate, func(file string) error { _, err := tee.ReadAKCertificates(file); return err }},
		{"sevsnp.certificate", o.settings.SEVSNP.Certificate, sevsnp.CheckCertificate},
		{"cca.platform_key", o.settings.CCA.PlatformKey, cca.CheckPlatformKey},
	} {
		if f.file == "" {
			continue
		}
		if err := f.check(o.path(f.file)); err != nil {
			o.wrong(f.key, err)
		}
	}
	if o.settings.TEE == string(attest.CCA) && o.settings.CCA.PlatformKey == "" {
		o.wrong("tee", errors.New("cca.platform_key is missing: the platform's attestation key (CPAK) does not come with tokens"))
	}
}
