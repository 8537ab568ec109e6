package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/server"
)

// A check reads the files that a TEE attests with, on a machine that has none.
func TestCheckOfTheTEE(t *testing.T) {
	const rest = "service: a.example\npolicy: policy.yaml\nlisteners: [{ name: secure, kind: attested, address: \"127.0.0.1:0\" }]\n"
	for text, want := range map[string]string{
		"tee: tpm": "",
		"tee: tpm\ntpm: { certificate: none.pem }":   "tpm.certificate: open ",
		"tee: tpm\ntpm: { certificate: text }":       "tpm.certificate: ",
		"tee: auto\nsevsnp: { certificate: text }":   "sevsnp.certificate: ",
		"tee: auto\ncca: { platform_key: text }":     "cca.platform_key: ",
		"tee: cca":                                   "tee: cca.platform_key is missing",
		"tee: auto":                                  "",
		"tee: auto\nsevsnp: { certificate: no.der }": "sevsnp.certificate: open ",
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"vouchmq.yaml": rest + text + "\n", "policy.yaml": "version: 1\n", "text": "text"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := readSettings(filepath.Join(dir, "vouchmq.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		switch problems := server.Check(s, server.Opening{Now: time.Now(), Dir: dir}); {
		case want == "" && len(problems) != 0, want != "" && (len(problems) != 1 || !strings.Contains(problems.Error(), want)):
			t.Errorf("%q: %v, want %q", text, problems, want)
		}
	}
}
