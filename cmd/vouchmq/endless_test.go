package main

import (
	"os"
	"testing"
)

// TestFilesWithoutEnd: what others send, or a name that was mistaken, is read as far as it can be of use, and not until the memory is full.
func TestFilesWithoutEnd(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip(err)
	}
	ca := t.TempDir() + "/ca"
	expect(t, exitOK, []string{"ca", "init", ca, "--service", "plant.example", "--no-passphrase"})
	for _, args := range [][]string{
		{"ca", "sign", "/dev/zero", "--ca", ca, "--policy", "none", "--dry-run"},
		{"ca", "client", "pump", "--ca", ca, "--out", ca + "/out", "--request", "/dev/zero"},
		{"bundle", "verify", "/dev/zero"},
		{"inspect", "--bundle", "/dev/zero"},
		{"policy", "check", "/dev/zero"},
		{"verify", "/dev/zero"},
		{"tpm", "answer", "/dev/zero", "--out", ca + "/out"},
	} {
		expect(t, exitGeneral, args, "more than")
	}
}
