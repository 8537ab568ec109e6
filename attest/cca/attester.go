package cca

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
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

// ErrNoRealm says that this program does not run in a realm.
var ErrNoRealm = errors.New("this is no Arm CCA realm")

// NewAttester returns an attester over the kernel's configfs-tsm (Linux 6.13 and later), or ErrNoRealm. The platform's attestation key
// (CPAK) does not come with tokens: file names its public half (PEM or DER, SubjectPublicKeyInfo), which its maker has published.
func NewAttester(file string) (*Attester, error) {
	client, err := tsm.Client()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRealm, err)
	}
	return newAttester(client, file)
}

func newAttester(client configfsi.Client, file string) (*Attester, error) {
	if err := checkRealm(client); err != nil {
		return nil, err
	}
	key, err := readPlatformKey(file)
	if err != nil {
		return nil, attest.Errorf(attest.ErrAttester, "the platform's attestation key (CPAK): %w", err)
	}
	return &Attester{kernel: tsm.Source{Client: client, Provider: provider, Check: checkToken}, cpak: key}, nil
}

// checkRealm asks the kernel what it attests by. That it may not be asked does not mean that this is no realm.
func checkRealm(client configfsi.Client) error {
	name, err := tsm.Provider(client)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return attest.Errorf(attest.ErrAttester, "ask the kernel for what it attests by, which takes root: %w", err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoRealm, err)
	case name != provider:
		return fmt.Errorf("%w: the kernel attests by %q, not by %q", ErrNoRealm, name, provider)
	}
	return nil
}

// CheckPlatformKey says what is wrong with a file that NewAttester is to be given. It asks no kernel.
func CheckPlatformKey(file string) error {
	_, err := readPlatformKey(file)
	return err
}

func readPlatformKey(file string) ([]byte, error) {
	if file == "" {
		return nil, errors.New("it does not come with tokens, and no file with it is named")
	}
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(key); block != nil {
		key = block.Bytes
	}
	if _, err := platformKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
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
