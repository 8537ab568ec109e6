package server

import (
	"errors"
	"fmt"
	"os"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// checkTEE reads the files that a TEE attests with. It asks no device: the broker may be meant for another machine.
func (o *opener) checkTEE() {
	for _, f := range []struct {
		key, file string
		check     func(file string) error
	}{
		{"tpm.certificate", o.settings.TPM.Certificate, func(file string) error { _, err := readAKCertificates(file); return err }},
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

// readAKCertificates reads what vouchmq tpm certify has made.
func readAKCertificates(file string) (der []byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if der, err = tpm.DecodeCertificates(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return der, nil
}
