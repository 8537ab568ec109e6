// Package swtpm runs a TPM in software: Debian's swtpm, on a Unix socket, with an endorsement key whose certificate is by a maker of TPMs of its own. Tests
// and the demonstration use it. Whoever can read its folder has its keys.
package swtpm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// ErrMissing says that swtpm is not installed.
var ErrMissing = errors.New("swtpm is not installed (Debian: apt-get install swtpm swtpm-tools)")

// Machine is a machine with a TPM.
type Machine struct {
	Socket string // where the TPM listens
	Roots  string // file with the certificates of its maker (PEM)

	dir     string
	process *exec.Cmd
}

// Available says why there can be no machine, or nil.
func Available() error {
	for _, tool := range []string{"swtpm", "swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s: %w", tool, ErrMissing)
		}
	}
	return nil
}

// New makes a machine with its state in an existing folder, which nobody else should be able to read, and whose name is short enough for a socket in it. It
// is switched off.
func New(ctx context.Context, dir string) (*Machine, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	m := &Machine{dir: dir, Socket: filepath.Join(dir, "tpm"), Roots: filepath.Join(dir, "roots.pem")}
	if err := m.manufacture(ctx); err != nil {
		return nil, fmt.Errorf("make a TPM: %w", err)
	}
	return m, nil
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// manufacture makes the keys of the TPM and of its maker.
func (m *Machine) manufacture(ctx context.Context) error {
	ca := m.path("maker")
	for name, text := range map[string]string{
		"maker.conf":    fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/signkey.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", ca),
		"maker.options": "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n",
		"setup.conf": fmt.Sprintf("create_certs_tool = swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
			m.path("maker.conf"), m.path("maker.options")),
	} {
		if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Mkdir(ca, 0o700), os.Mkdir(m.path("state"), 0o700)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", m.path("state"), "--config", m.path("setup.conf"),
		"--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256,sha384", "--logfile", m.path("log"))
	if out, err := setup.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(m.path("log")) // there may be none
		return fmt.Errorf("swtpm_setup: %w\n%s\n%s", err, out, log)
	}
	return m.gatherRoots(ca)
}

func (m *Machine) gatherRoots(ca string) error {
	var roots []byte
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuer.pem"} {
		certificate, err := os.ReadFile(filepath.Join(ca, name))
		if err != nil {
			return err
		}
		roots = append(roots, certificate...)
	}
	return os.WriteFile(m.Roots, roots, 0o600)
}

// SwitchOn starts the machine: its PCRs are as they are after a start.
func (m *Machine) SwitchOn() error {
	m.process = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.path("state"), "--server", "type=unixio,path="+m.Socket,
		"--ctrl", "type=unixio,path="+m.path("ctrl"), "--flags", "not-need-init,startup-clear")
	if err := m.process.Start(); err != nil {
		m.process = nil
		return fmt.Errorf("start swtpm: %w", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("unix", m.Socket); err == nil { // the socket is there before anybody listens on it
			return conn.Close()
		}
		if time.Now().After(deadline) {
			m.SwitchOff()
			return errors.New("swtpm does not listen")
		}
	}
}

// Event is something that is measured into a PCR.
type Event struct {
	PCR  int // 0 to 23
	Data string
}

// Measure extends PCRs, in all banks, as what boots does before it hands over (TPM2_PCR_Event). The machine is on.
func (m *Machine) Measure(events ...Event) error {
	tpm, err := open(m.Socket)
	if err != nil {
		return err
	}
	for _, e := range events {
		pcr := tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)}
		if _, err = (tpm2.PCREvent{PCRHandle: pcr, EventData: tpm2.TPM2BEvent{Buffer: []byte(e.Data)}}).Execute(tpm); err != nil {
			break
		}
	}
	return errors.Join(err, tpm.Close())
}

// PID is the number of the TPM's process.
func (m *Machine) PID() int { return m.process.Process.Pid }

// SwitchOff ends the machine, if it is on.
func (m *Machine) SwitchOff() {
	if m.process == nil {
		return
	}
	_ = m.process.Process.Kill() // this process alone, which may have ended
	_ = m.process.Wait()
	m.process = nil
	for _, name := range []string{m.Socket, m.path("ctrl")} {
		_ = os.Remove(name)
	}
}
