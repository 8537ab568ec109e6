// Package tpmtest gives tests a TPM in software: Debian's swtpm, on a Unix socket, with a certificate of a maker of TPMs that is of the
// test's own.
package tpmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Machine is a machine with a TPM.
type Machine struct {
	Socket string // where the TPM listens
	Roots  string // file with the certificates of its maker (PEM)

	t       testing.TB
	dir     string
	process *exec.Cmd
}

// New makes a machine and switches it on. Without swtpm the test is skipped; in CI that is a failure. The machine is switched off when the test ends.
func New(t testing.TB) *Machine {
	t.Helper()
	for _, tool := range []string{"swtpm", "swtpm_setup"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing", tool)
			}
			t.Skipf("%s is not installed (Debian: apt-get install swtpm swtpm-tools)", tool)
		}
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket has a short name
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, dir: dir, Socket: filepath.Join(dir, "tpm"), Roots: filepath.Join(dir, "roots.pem")}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m.manufacture()
	m.SwitchOn()
	t.Cleanup(m.SwitchOff)
	return m
}

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// manufacture makes the keys of the TPM and of its maker.
func (m *Machine) manufacture() {
	m.t.Helper()
	ca := m.path("maker")
	for name, text := range map[string]string{
		"maker.conf":    fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/signkey.pem\nissuercert = %[1]s/issuer.pem\ncertserial = %[1]s/serial\n", ca),
		"maker.options": "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n",
		"setup.conf": fmt.Sprintf("create_certs_tool = swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\n",
			m.path("maker.conf"), m.path("maker.options")),
	} {
		m.must(os.WriteFile(m.path(name), []byte(text), 0o600))
	}
	m.must(errors.Join(os.Mkdir(ca, 0o700), os.Mkdir(m.path("state"), 0o700)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	setup := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpmstate", m.path("state"), "--config", m.path("setup.conf"),
		"--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256,sha384", "--logfile", m.path("log"))
	if out, err := setup.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(m.path("log"))
		m.t.Fatalf("swtpm_setup: %v\n%s\n%s", err, out, log)
	}
	var roots []byte
	for _, name := range []string{"swtpm-localca-rootca-cert.pem", "issuer.pem"} {
		certificate, err := os.ReadFile(filepath.Join(ca, name))
		m.must(err)
		roots = append(roots, certificate...)
	}
	m.must(os.WriteFile(m.Roots, roots, 0o600))
}

func (m *Machine) must(err error) {
	if err != nil {
		m.t.Helper()
		m.t.Fatal(err)
	}
}

// SwitchOn starts the machine: its PCRs are as they are after a start.
func (m *Machine) SwitchOn() {
	m.t.Helper()
	m.process = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.path("state"), "--server", "type=unixio,path="+m.Socket,
		"--ctrl", "type=unixio,path="+m.path("ctrl"), "--flags", "not-need-init,startup-clear")
	m.must(m.process.Start())
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(m.Socket); err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatal("swtpm does not listen")
		}
	}
}

// SwitchOff ends the machine.
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
