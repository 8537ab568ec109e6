package swtpm

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// pcr reads a PCR of the bank of SHA-256.
func pcr(t *testing.T, m *Machine, number uint) []byte {
	t.Helper()
	tpm, err := linuxudstpm.Open(m.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(number)},
	}}}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return r.PCRValues.Digests[0].Buffer
}

func TestMachine(t *testing.T) {
	if err := Available(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "tpm") // a socket has a short name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := New(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.SwitchOff()
	var values [][]byte
	for _, data := range []string{"boot loader", "boot loader", "another"} {
		if err := m.SwitchOn(); err != nil {
			t.Fatal(err)
		}
		if err := m.Measure(Event{4, "before"}, Event{4, data}); err != nil {
			t.Fatal(err)
		}
		values = append(values, pcr(t, m, 4))
		m.SwitchOff()
		if _, err := os.Stat(m.Socket); err == nil {
			t.Error("the machine is off, and its socket is there")
		}
	}
	if string(values[0]) != string(values[1]) || string(values[0]) == string(values[2]) {
		t.Errorf("PCR 4 after three starts: %x", values)
	}
	m.SwitchOff() // twice does nothing
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := New(t.Context(), t.TempDir()); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}
