package tee

import (
	"fmt"
	"os"

	"github.com/vouchmq/vouchmq/attest/cca"
	"github.com/vouchmq/vouchmq/attest/sevsnp"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// FileError says what is wrong with a file that a TEE attests with.
type FileError struct {
	Key string // of a broker's configuration, that names the file
	Err error
}

func (e *FileError) Error() string { return e.Err.Error() }

func (e *FileError) Unwrap() error { return e.Err }

// Keys of files that a TEE attests with.
const (
	keyTPMCertificate    = "tpm.certificate"
	keySEVSNPCertificate = "sevsnp.certificate"
	keyCCAPlatformKey    = "cca.platform_key"
)

// CheckFiles reads the files that the options name, and says what is wrong with them. It asks no device: they may be meant for another machine.
func (o *Options) CheckFiles() (wrong []*FileError) {
	for _, f := range []struct {
		key, file string
		check     func(file string) error
	}{
		{keyTPMCertificate, o.TPM.Certificate, func(file string) error { _, err := readAKCertificates(file); return err }},
		{keySEVSNPCertificate, o.SEVSNPCertificate, sevsnp.CheckCertificate},
		{keyCCAPlatformKey, o.CCAPlatformKey, cca.CheckPlatformKey},
	} {
		if err := checkFile(f.key, f.file, f.check); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// checkFile says what is wrong with a file, if there is one.
func checkFile(key, file string, check func(file string) error) *FileError {
	if file == "" {
		return nil
	}
	if err := check(file); err != nil {
		return &FileError{key, err}
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
