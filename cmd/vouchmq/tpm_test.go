package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
)

// shell runs the program in a folder.
type shell struct {
	t   *testing.T
	dir string
}

// run runs a command line, and wants it to end well with all of want in what it prints.
func (s *shell) run(line string, want ...string) string {
	s.t.Helper()
	out, err := s.command(line)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	s.holds(line, out, want)
	return out
}

// refused runs a command line that must fail.
func (s *shell) refused(line string, want ...string) {
	s.t.Helper()
	out, err := s.command(line)
	if err == nil {
		s.t.Fatalf("%s was not refused\n%s", line, out)
	}
	s.holds(line, out, want)
}

func (s *shell) command(line string) (string, error) {
	c := exec.Command(filepath.Join(programFolder, "vouchmq"), strings.Fields(line)...)
	c.Dir = s.dir
	out, err := c.CombinedOutput()
	return string(out), err
}

func (s *shell) holds(line, out string, want []string) {
	s.t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			s.t.Errorf("%s: %q is missing in\n%s", line, w, out)
		}
	}
}

func TestTPMEnrolment(t *testing.T) {
	m, stranger := tpmtest.New(t), tpmtest.New(t)
	s := &shell{t, t.TempDir()}
	s.run("tpm init machines --name test", "ak_ca: [")
	s.refused("tpm init machines", "there is a CA of machines already")

	shown := s.run("tpm request --device "+m.Socket+" --out request.pem", "endorsement key  tpm:", "attestation key")
	s.run("tpm request --device " + stranger.Socket + " --out stranger.pem")
	ek := regexp.MustCompile(`tpm:[0-9a-f]{64}`).FindString(shown)
	s.refused("tpm challenge request.pem --ca machines", "nothing says that this endorsement key is of a TPM", ek)
	s.refused("tpm challenge request.pem --ca machines --ek tpm:00", "of another TPM")
	s.refused("tpm challenge request.pem --ca machines --ek-roots "+stranger.Roots, "certificate of the endorsement key")
	s.refused("tpm challenge request.pem --ca nowhere --ek-roots "+m.Roots, "vouchmq tpm init")
	s.run("tpm challenge stranger.pem --ca machines --ek-roots " + stranger.Roots + " --out stranger-challenge.pem")
	s.run("tpm challenge request.pem --ca machines --ek-roots " + m.Roots + " --out challenge.pem")
	s.run("tpm challenge request.pem --ca machines --ek " + ek + " --out challenge.pem") // anew

	s.refused("tpm answer challenge.pem --device "+stranger.Socket, "for another TPM")
	s.refused("tpm answer challenge.pem --device nowhere", "there is no TPM", "--device")
	s.run("tpm answer challenge.pem --device " + m.Socket + " --out answer.pem")
	s.wrongAnswer()
	s.run("tpm certify answer.pem --ca machines --out ak.pem", ek+" is enrolled", "ak_ca: [")
	s.refused("tpm certify answer.pem --ca machines", "no challenge for this key waits")

	zero := strings.Repeat("00", 32)
	s.run("tpm pcrs --pcr 14,0 --device "+m.Socket, "ak: [", "    0: "+zero, "    14: "+zero)
	s.refused("tpm pcrs --bank sha1 --device "+m.Socket, "neither sha256 nor sha384")
	s.refused("tpm pcrs --pcr 24 --device "+m.Socket, "numbers 0 to 23")
	s.servesWith(m)
	s.refusesCertificateOn(stranger)
}

// wrongAnswer tries an answer with another secret.
func (s *shell) wrongAnswer() {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "answer.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := tpm.ParseResponse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	answer.Secret[0] ^= 1
	if text, err = answer.Encode(); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "wrong.pem"), text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.refused("tpm certify wrong.pem --ca machines", "not that of the TPM")
}

// configure writes the files of a broker that is certified.
func (s *shell) configure(m *tpmtest.Machine) {
	s.t.Helper()
	for name, text := range map[string]string{
		"policy.yaml": "version: 1\nrules: []\n",
		"vouchmq.yaml": "service: broker.plant.example\npolicy: policy.yaml\ntee: auto\ntpm: { device: " + m.Socket + ", certificate: ak.pem }\n" +
			"listeners:\n  - { name: secure, kind: attested, address: \"127.0.0.1:0\" }\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// servesWith has a broker attest with the machine, until it says that it is ready.
func (s *shell) servesWith(m *tpmtest.Machine) {
	s.t.Helper()
	s.configure(m)
	c := exec.Command(filepath.Join(programFolder, "vouchmq"), "serve", "--config", "vouchmq.yaml", "--ready-file", "ready")
	c.Dir = s.dir
	said := &strings.Builder{}
	c.Stderr = said
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(s.dir, "ready")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			_ = c.Process.Kill() // it may have ended
			_ = c.Wait()
			s.t.Fatalf("the broker does not get ready:\n%s", said)
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		s.t.Error(err)
	}
	if err := c.Wait(); err != nil {
		s.t.Errorf("%v\n%s", err, said)
	}
	s.holds("serve", said.String(), []string{`msg="TEE found" platform=tpm chosen_by=auto`, `msg="module measured" platform=tpm`, "TEE       tpm",
		"bundle    none", "vouchmq ca init CA --service broker.plant.example", "vouchmq tpm pcrs"})
	if strings.Contains(said.String(), "SIMULATED") {
		s.t.Errorf("a broker with a TPM says that it is simulated:\n%s", said)
	}
}

func (s *shell) refusesCertificateOn(m *tpmtest.Machine) {
	s.t.Helper()
	s.configure(m)
	s.refused("serve --config vouchmq.yaml", "tpm.certificate: the certificate is not of the attestation key of this TPM")
}
