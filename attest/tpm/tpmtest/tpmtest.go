// Package tpmtest gives tests a TPM in software: Debian's swtpm, on a Unix socket, with a certificate of a maker of TPMs that is of the
// test's own.
package tpmtest

import (
	"os"
	"testing"

	"github.com/vouchmq/vouchmq/internal/swtpm"
)

// Machine is a machine with a TPM.
type Machine struct {
	*swtpm.Machine
	t testing.TB
}

// New makes a machine and switches it on. Without swtpm the test is skipped; in CI that is a failure. The machine is switched off when the test ends.
func New(t testing.TB) *Machine {
	t.Helper()
	if err := swtpm.Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket has a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	made, err := swtpm.New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{made, t}
	m.SwitchOn()
	t.Cleanup(m.SwitchOff)
	return m
}

// SwitchOn starts the machine: its PCRs are as they are after a start.
func (m *Machine) SwitchOn() {
	m.t.Helper()
	if err := m.Machine.SwitchOn(); err != nil {
		m.t.Fatal(err)
	}
}
