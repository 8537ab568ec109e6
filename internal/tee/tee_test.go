package tee

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
)

// keyFile writes the key of a simulated TEE.
func keyFile(t *testing.T) string {
	t.Helper()
	key, err := sim.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	pem, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tpm")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParse(t *testing.T) {
	for _, name := range []string{"auto", "sgx", "tdx", "sevsnp", "tpm", "nitro", "cca", "azure"} {
		if o, err := Parse(name); err != nil || o.Kind != name {
			t.Errorf("%s: %+v %v", name, o, err)
		}
	}
	path := keyFile(t)
	for _, text := range []string{path, "sim:" + path} {
		if o, err := Parse(text); err != nil || o.Kind != "sim" || o.Sim.Key == nil {
			t.Errorf("%s: %+v %v", text, o, err)
		}
	}
	o, err := Parse("tpm:device=/run/a=b,certificate=ak.pem,bank=sha384,pcrs=0+4+14,event_log=log")
	want := TPM{Device: "/run/a=b", Bank: "sha384", PCRs: []uint32{0, 4, 14}, Certificate: "ak.pem", EventLog: "log"}
	if err != nil || o.TPM.Device != want.Device || o.TPM.Bank != want.Bank || !slices.Equal(o.TPM.PCRs, want.PCRs) ||
		o.TPM.Certificate != want.Certificate || o.TPM.EventLog != want.EventLog {
		t.Errorf("%+v %v", o.TPM, err)
	}
	if o, err := Parse("sevsnp:certificate=vcek.pem"); err != nil || o.SEVSNPCertificate != "vcek.pem" {
		t.Errorf("%+v %v", o, err)
	}
	if o, err := Parse("cca:platform_key=cpak.pem"); err != nil || o.CCAPlatformKey != "cpak.pem" {
		t.Errorf("%+v %v", o, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "neither a TEE",
		"sim:":                  "neither a TEE",
		"steam":                 "neither a TEE",
		"tpm:":                  "is not KEY=VALUE",
		"tpm:device":            "is not KEY=VALUE",
		"tpm:device=":           "is not KEY=VALUE",
		"tpm:colour=red":        `tpm has no setting "colour"`,
		"sgx:device=x":          `sgx has no setting "device"`,
		"tpm:bank=sha1":         "it is sha256 or sha384",
		"tpm:pcrs=24":           "0 to 23",
		"tpm:pcrs=1+":           "0 to 23",
		"tpm:device=a,,bank=b":  "is not KEY=VALUE",
		"auto:device=/dev/tpm0": `auto has no setting "device"`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	bad := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("sim:" + bad); err == nil || !strings.Contains(err.Error(), bad) {
		t.Error(err)
	}
}

// What was found is in the log, and the simulated TEE is never found by itself.
func TestOpen(t *testing.T) {
	m := tpmtest.New(t)
	var log bytes.Buffer
	a, err := Open(t.Context(), Options{Kind: Auto, TPM: TPM{Device: m.Socket}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil || a.Platform() != attest.TPM || !strings.Contains(log.String(), "platform=tpm chosen_by=auto") {
		t.Errorf("%v %v\n%s", a, err, &log)
	}
	missing := filepath.Join(t.TempDir(), "none")
	for kind, want := range map[string]string{
		Auto: "no TEE was found (sgx: ", "tpm": "there is no TPM", "sim": "needs a key", "steam": `"steam" is no TEE`,
	} {
		if _, err := Open(t.Context(), Options{Kind: kind, TPM: TPM{Device: missing}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", kind, err, want)
		}
	}
}
