package main

import (
	"bytes"
	"os"
	"testing"
)

// TestLastHardware: to forget the only machine that is enrolled makes any good enough, so that it must be said that this is meant.
func TestLastHardware(t *testing.T) {
	ca := t.TempDir() + "/ca"
	expect(t, exitOK, []string{"ca", "init", ca, "--service", "plant.example", "--no-passphrase"})
	ledger, err := os.ReadFile(ca + "/ledger.json")
	if err != nil {
		t.Fatal(err)
	}
	enrolled := bytes.Replace(ledger, []byte(`"instances": null`), []byte(`"instances": ["sim:00"]`), 1)
	if err := os.WriteFile(ca+"/ledger.json", enrolled, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, exitGeneral, []string{"ca", "forget", ca, "sim:00"}, "any would be accepted", "--accept-any")
	expect(t, exitOK, []string{"ca", "show", ca}, "sim:00")
	expect(t, exitOK, []string{"ca", "forget", ca, "sim:00", "--accept-any"})
	expect(t, exitGeneral, []string{"ca", "forget", ca, "sim:00"}, "is not enrolled")
}
