package cca

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

const provider = "arm_cca_guest" // as the kernel names its driver

// Attester makes tokens of the realm that it runs in.
type Attester struct {
	kernel tsm.Source
	cpak   []byte // DER
}

// NewAttester returns an attester over the kernel's configfs-tsm (Linux 6.13 and later), or says why there is none. The platform's attestation key
// (CPAK) does not come with tokens: file names its public half (PEM or DER, SubjectPublicKeyInfo), which its maker has published.
func NewAttester(file string) (*Attester, error) {
	client, err := tsm.Client()
	if err != nil {
		return nil, err
	}
	return newAttester(client, file)
}

func newAttester(client configfsi.Client, file string) (*Attester, error) {
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "the platform's attestation key (CPAK): %w", err)
	}
	if block, _ := pem.Decode(key); block != nil {
		key = block.Bytes
	}
	if _, err := platformKey(key); err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "%s: %w", file, err)
	}
	return &Attester{kernel: tsm.Source{Client: client, Provider: provider, Check: checkToken}, cpak: key}, nil
}

// Platform returns attest.CCA.
func (a *Attester) Platform() attest.Platform { return attest.CCA }

// Attest makes a token. If ctx ends before the kernel answers, the answer is thrown away when it comes.
func (a *Attester) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	out, _, err := a.kernel.Report(ctx, data)
	if err != nil {
		return attest.Quote{}, err
	}
	return attest.Quote{Platform: attest.CCA, Data: out, Endorsements: a.cpak}, nil
}

func checkToken(out []byte, data attest.ReportData) error {
	t, err := parse(out)
	if err != nil {
		return fmt.Errorf("the kernel's token: %w", err)
	}
	if !bytes.Equal(t.realmClaims.Challenge, data[:]) {
		return tsm.ErrInterfered
	}
	return nil
}
