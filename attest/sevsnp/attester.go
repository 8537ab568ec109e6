package sevsnp

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/google/go-configfs-tsm/configfs/configfsi"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/tsm"
)

const provider = "sev_guest" // as the kernel names its driver

// Attester makes reports of the guest that it runs in.
type Attester struct {
	kernel      tsm.Source
	certificate []byte // for hosts that give none along, DER; nil: there is none
}

// NewAttester returns an attester over the kernel's configfs-tsm (Linux 6.7 and later), or says why there is none. The certificate of the key that
// signs (VCEK or VLEK) comes from the host with each report; for hosts that do not give one, file names one (PEM or DER). It may be "".
func NewAttester(file string) (*Attester, error) {
	client, err := tsm.Client()
	if err != nil {
		return nil, err
	}
	return newAttester(client, file)
}

func newAttester(client configfsi.Client, file string) (*Attester, error) {
	certificate, err := readCertificate(file)
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "certificate of VCEK or VLEK: %w", err)
	}
	return &Attester{kernel: tsm.Source{Client: client, Provider: provider, Aux: true, Check: checkReport}, certificate: certificate}, nil
}

// CheckCertificate says what is wrong with a file that NewAttester is to be given. It asks no kernel.
func CheckCertificate(file string) error {
	_, err := readCertificate(file)
	return err
}

func readCertificate(file string) (der []byte, err error) {
	if file == "" {
		return nil, nil
	}
	if der, err = os.ReadFile(file); err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(der); block != nil {
		der = block.Bytes
	}
	if _, err := parseEndorsement(der); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return der, nil
}

// Platform returns attest.SEVSNP.
func (a *Attester) Platform() attest.Platform { return attest.SEVSNP }

// Attest makes a report. If ctx ends before the kernel answers, the answer is thrown away when it comes.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	out, aux, err := a.kernel.Report(ctx, data)
	if err != nil {
		return attest.Quote{}, err
	}
	certificate, err := a.endorsement(out, aux)
	if err != nil {
		return attest.Quote{}, err
	}
	return attest.Quote{Platform: attest.SEVSNP, Data: out, Endorsements: certificate}, nil
}

func checkReport(out []byte, data attest.ReportData) error {
	r, err := parseReport(out)
	if err != nil {
		return fmt.Errorf("the kernel's report: %w", err)
	}
	if !bytes.Equal(r.data, data[:]) {
		return tsm.ErrInterfered
	}
	return nil
}

// endorsement finds the certificate of the key that has signed a report: the host's, or else our own.
func (a *Attester) endorsement(out, aux []byte) ([]byte, error) {
	r, err := parseReport(out)
	if err != nil {
		return nil, err
	}
	table, err := parseTable(aux)
	if err != nil {
		return nil, fmt.Errorf("the host's table of certificates: %w", err)
	}
	certificate := table[guidOf(r.signer)]
	if certificate == nil {
		certificate = a.certificate
	}
	if certificate == nil {
		return nil, fmt.Errorf("the host gives no certificate of the %s: fetch it from AMD, and say in the configuration where it is", r.signer)
	}
	e, err := parseEndorsement(certificate)
	if err == nil {
		err = e.matches(r)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate of the %s: %w: fetch the one for this machine as it is now", r.signer, err)
	}
	return certificate, nil
}
