package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/server"
)

// ErrNoTPM says that there is no TPM in software.
var ErrNoTPM = errors.New("swtpm is not installed (Debian: apt-get install swtpm)")

// TPM is a TPM in software, Debian's swtpm, in a process of its own.
type TPM struct {
	*bench.Process
	Socket string
	dir    string
}

// tpmValidity is how long what is made for a measurement is good.
const tpmValidity = 24 * time.Hour

// StartTPM makes a TPM and switches it on. Without swtpm the error is ErrNoTPM.
func StartTPM(ctx context.Context) (*TPM, error) {
	program, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, ErrNoTPM
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket has a short name
	if err != nil {
		return nil, err
	}
	t := &TPM{dir: dir, Socket: filepath.Join(dir, "tpm")}
	t.Process, err = bench.StartProcess(nil, program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+t.Socket,
		"--ctrl", "type=unixio,path="+filepath.Join(dir, "ctrl"), "--flags", "not-need-init,startup-clear")
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, errors.New("swtpm does not listen"))
	defer cancel()
	err = t.WaitFor(ctx, func() bool {
		_, err := os.Stat(t.Socket)
		return err == nil
	})
	if err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

// Stop ends the TPM, and forgets what was in it.
func (t *TPM) Stop() error { return errors.Join(t.Process.Stop(), os.RemoveAll(t.dir)) }

// StartWithTPM starts a broker that attests with a TPM, which it enrols before: a CA of its own challenges the TPM and certifies
// its attestation key, and clients demand that certificate and this broker's module.
func StartWithTPM(ctx context.Context, t *TPM, program, dir string, args ...string) (*Broker, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, certificate, err := t.enrol(ctx)
	if err != nil {
		return nil, fmt.Errorf("enrol the TPM: %w", err)
	}
	file := filepath.Join(dir, "ak.pem")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		return nil, err
	}
	b, err := t.launch(program, dir, file, args...)
	if err != nil {
		return nil, err
	}
	if err := b.Await(ctx); err != nil {
		b.Stop()
		return nil, err
	}
	if b.bundle, err = b.bundleFor(dir, owner.Fingerprint(ca.Certificate())); err != nil {
		b.Stop()
		return nil, err
	}
	return b, nil
}

// launch starts a development broker, but with this TPM for its TEE, as its environment says.
func (t *TPM) launch(program, dir, certificate string, args ...string) (*Broker, error) {
	b := &Broker{stats: &statsReader{got: make(chan Stats, 1)}, ready: filepath.Join(dir, "ready.json")}
	command := exec.Command(program, append([]string{
		"serve", "--ready-file", b.ready, "--state", dir, "--listen", "127.0.0.1:0", "--listen-plain", "127.0.0.1:0",
	}, args...)...)
	command.Env = append(os.Environ(), "VOUCHMQ_TEE=tpm", "VOUCHMQ_TPM__DEVICE="+t.Socket, "VOUCHMQ_TPM__CERTIFICATE="+certificate)
	var err error
	b.Process, err = bench.StartCommand(b.stats, command)
	return b, err
}

// enrol returns a CA, and its certificate of the TPM's attestation key. That the endorsement key is of this TPM is known: it has
// just been made.
func (t *TPM) enrol(ctx context.Context) (*owner.CA, []byte, error) {
	ca, err := owner.New("machines that are measured", time.Now(), tpmValidity)
	if err != nil {
		return nil, nil, err
	}
	request, err := tpm.NewRequest(ctx, t.Socket)
	if err != nil {
		return nil, nil, err
	}
	challenge, pending, err := request.Challenge(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	answer, err := tpm.Answer(ctx, t.Socket, challenge)
	if err != nil {
		return nil, nil, err
	}
	certificate, _, err := pending.Certify(answer, ca.Certificate(), ca.Key(), time.Now(), tpmValidity)
	return ca, certificate, err
}

// bundleFor is what clients need to know of a broker whose TPM a CA has certified.
func (b *Broker) bundleFor(dir string, ca attest.Digest) (*client.Bundle, error) {
	state, err := server.OpenState(dir, server.DevelopmentService, server.DefaultPublicName, time.Now())
	if err != nil {
		return nil, err
	}
	module, err := attest.ParseDigest(b.Module)
	if err != nil {
		return nil, err
	}
	p, err := policy.New([]policy.Identity{{
		Name: "broker", Modules: []attest.Digest{module},
		AnyOf: []policy.Requirement{{Platform: attest.TPM, Want: map[string][]string{"ak_ca": {hex.EncodeToString(ca[:])}}}},
	}}, nil)
	if err != nil {
		return nil, err
	}
	return &client.Bundle{
		Service: state.Service, OwnerCA: state.OwnerCertificate(), ECHConfigList: atls.ECHConfigList(state.ECHKeys...), Policy: p,
		Serial: 1, IssuedAt: time.Now(),
	}, nil
}
