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

// Keys of files that a TEE attests with.
const (
	keyTPMCertificate    = "tpm.certificate"
	keySEVSNPCertificate = "sevsnp.certificate"
	keyCCAPlatformKey    = "cca.platform_key"
)

// checkTEE reads the files that a TEE attests with. It asks no device: the broker may be meant for another machine.
func (o *opener) checkTEE() {
	for _, f := range []struct {
		key, file string
		check     func(file string) error
	}{
		{keyTPMCertificate, o.settings.TPM.Certificate, func(file string) error { _, err := readAKCertificates(file); return err }},
		{keySEVSNPCertificate, o.settings.SEVSNP.Certificate, sevsnp.CheckCertificate},
		{keyCCAPlatformKey, o.settings.CCA.PlatformKey, cca.CheckPlatformKey},
	} {
		if err := checkTEEFile(f.key, o.path(f.file), f.check); err != nil {
			o.wrong(f.key, err)
		}
	}
	if o.settings.TEE == string(attest.CCA) && o.settings.CCA.PlatformKey == "" {
		o.wrong("tee", errors.New("cca.platform_key is missing: the platform's attestation key (CPAK) does not come with tokens"))
	}
}

// checkTEEFile says what is wrong with a file, if there is one, as a teeFileError.
func checkTEEFile(key, file string, check func(file string) error) error {
	if file == "" {
		return nil
	}
	if err := check(file); err != nil {
		return teeFileError{key, err}
	}
	return nil
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
