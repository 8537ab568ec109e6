package demo

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/module"
	"github.com/vouchmq/vouchmq/internal/swtpm"
)

// tpmDemo is the demonstration with a TPM. The folder owner is the owner's, broker is on the machine with the TPM.
type tpmDemo struct {
	*demo
	machine  *swtpm.Machine
	machines []*swtpm.Machine // all
	ca       string           // of the machines, as a policy names it
	instance string           // the machine, as a policy names it
}

// RunTPM shows everything with the evidence of a TPM in software. program is the path of vouchmq.
func RunTPM(ctx context.Context, out io.Writer, program string) error {
	if err := swtpm.Available(); err != nil {
		return err
	}
	t := &tpmDemo{}
	defer t.switchOff()
	return play(ctx, out, program, "How to do it with a TPM of your own: docs/platforms/tpm.md", func(d *demo) []func() error {
		t.demo = d
		return []func() error{t.startMachine, t.enrolMachine, t.startBroker, t.issue, t.exchangeVerified, t.changedModule, t.changedBoot, t.stolenState}
	})
}

func (t *tpmDemo) switchOff() {
	for _, m := range t.machines {
		m.SwitchOff()
	}
}

func (t *tpmDemo) owner(name string) string  { return filepath.Join(t.dir, "owner", name) }
func (t *tpmDemo) rented(name string) string { return filepath.Join(t.dir, "broker", name) }

func (t *tpmDemo) startMachine() error {
	t.console.heading("A machine of somebody else, with a TPM. It is swtpm, a TPM in software: it shows how things work, and keeps nothing from its host.")
	for _, dir := range []string{t.owner(""), t.rented("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if t.machine, err = t.newMachine("tpm1"); err != nil {
		return err
	}
	t.console.from("machine", fmt.Sprintf("TPM is process %d", t.machine.PID()))
	t.console.good("it has booted firmware and boot loader; each is measured into a PCR before it runs, and no PCR can be set back")
	return nil
}

// newMachine makes a machine and boots it.
func (t *tpmDemo) newMachine(name string) (*swtpm.Machine, error) {
	dir := filepath.Join(t.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	m, err := swtpm.New(t.ctx, dir)
	if err != nil {
		return nil, err
	}
	t.machines = append(t.machines, m)
	return m, t.boot(m, "boot loader")
}

// boot starts a machine, again if it is on, with this boot loader.
func (t *tpmDemo) boot(m *swtpm.Machine, loader string) error {
	m.SwitchOff()
	if err := m.SwitchOn(); err != nil {
		return err
	}
	return m.Measure(swtpm.Event{PCR: 0, Data: "firmware"}, swtpm.Event{PCR: 4, Data: loader}, swtpm.Event{PCR: 7, Data: "secure boot is on"})
}

func (t *tpmDemo) enrolMachine() error {
	t.console.heading("The owner, elsewhere, enrols the machine: its TPM has a certificate of its maker, and only that TPM can answer the challenge.")
	ca, ak := t.owner("machines"), t.rented("ak.pem")
	request, challenge, answer := t.owner("machine.pem"), t.rented("challenge.pem"), t.owner("answer.pem")
	device := []string{"--device", t.machine.Socket}
	for _, step := range [][]string{
		{"tpm", "init", ca},
		append([]string{"tpm", "request", "--out", request}, device...),
		{"tpm", "challenge", request, "--ca", ca, "--ek-roots", t.machine.Roots, "--out", challenge},
		append([]string{"tpm", "answer", challenge, "--out", answer}, device...),
		{"tpm", "certify", answer, "--ca", ca, "--out", ak},
	} {
		out, err := t.shown(step)
		if err != nil {
			return err
		}
		t.ca, t.instance = or(caName.FindString(out), t.ca), or(instanceName.FindString(out), t.instance)
	}
	if t.ca == "" || t.instance == "" {
		return errors.New("the commands did not say how a policy names CA and machine")
	}
	t.console.from("owner", "enrolled: "+t.instance[:20]+"…")
	t.console.good("whatever the attestation key of this TPM signs is now known to be the TPM's word")
	return nil
}

// How a policy names a CA of machines, and a machine.
var (
	caName       = regexp.MustCompile(`\b[0-9a-f]{96}\b`)
	instanceName = regexp.MustCompile(`\btpm:[0-9a-f]{64}\b`)
)

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// shown runs this program after it has shown what a person would type.
func (t *tpmDemo) shown(args []string) (string, error) {
	t.console.command("vouchmq", shown(args))
	return t.run(args)
}

// Files of the two sides.
const (
	configuration = `service: plant.example
owner: owner-ca.pem
policy: policy.yaml
state: state
tee: tpm
tpm: { device: %s, pcrs: [0, 4, 7, 14]%s }
listeners:
  - { name: attested, kind: attested, address: "127.0.0.1:0" }
`
	brokersPolicy = `version: 1
rules:
  - who: { anonymous: true }
    publish: ["sensors/#"]
    subscribe: ["sensors/#"]
`
	ownersPolicy = `version: 1
identities:
  broker:
    module: [%s]
    any_of:
      - tpm:
          ak_ca: [%s]
          pcrs:
%s    instances: [%q]
`
)

func (t *tpmDemo) startBroker() error {
	t.console.heading("The broker on that machine. It makes its keys, and waits for the owner's certificate.")
	if _, err := t.shown([]string{"ca", "init", t.owner("plant-ca"), "--service", "plant.example", "--no-passphrase"}); err != nil {
		return err
	}
	certificate, err := os.ReadFile(t.owner("plant-ca/owner-ca.pem"))
	if err != nil {
		return err
	}
	if err := t.configure(t.rented(""), t.machine, ", certificate: ak.pem", certificate); err != nil {
		return err
	}
	if t.broker, err = t.launch("broker", &t.log); err != nil {
		return err
	}
	if err := t.await(t.broker.Process, &t.log, "WAITING FOR A CERTIFICATE"); err != nil {
		return err
	}
	t.console.from("broker", fmt.Sprintf("process %d, waits for a certificate; nothing listens yet", t.broker.PID()))
	t.console.good("nothing that clients would trust is on that machine")
	return nil
}

// configure writes the files of a broker.
func (t *tpmDemo) configure(dir string, m *swtpm.Machine, certified string, ca []byte) error {
	for name, text := range map[string]string{
		"vouchmq.yaml": fmt.Sprintf(configuration, m.Socket, certified), "policy.yaml": brokersPolicy, "owner-ca.pem": string(ca),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// launch starts the broker whose files are in a folder of the demonstration.
func (t *tpmDemo) launch(name string, log io.Writer, args ...string) (*local.Broker, error) {
	config := filepath.Join(t.dir, name, "vouchmq.yaml")
	t.console.command("vouchmq", shown(append([]string{"serve", "--config", config}, args...)))
	args = append([]string{"--config", config, "--log-format", "json"}, args...)
	b, err := local.Launch(t.program, filepath.Join(t.dir, name, "ready.json"), log, args...)
	if err != nil {
		return nil, err
	}
	t.running = append(t.running, b.Process)
	return b, nil
}

func (t *tpmDemo) issue() error {
	t.console.heading("The owner says in a policy what the broker must be, verifies its evidence, and only then issues a certificate, and a bundle for clients.")
	if err := t.writePolicy(); err != nil {
		return err
	}
	nonce, err := t.shown([]string{"ca", "challenge", t.owner("plant-ca")})
	if err != nil {
		return err
	}
	config, request, certificate := t.rented("vouchmq.yaml"), t.owner("request.pem"), t.rented("cert.pem")
	t.bundle = filepath.Join(t.dir, "plant.bundle")
	for _, step := range [][]string{
		{"enroll", "--config", config, "--nonce", strings.TrimSpace(nonce), "--out", request},
		{"ca", "sign", request, "--ca", t.owner("plant-ca"), "--policy", t.owner("broker-policy.yaml"), "--identity", "broker", "--out", certificate, "--bundle", t.bundle},
		{"enroll", "--config", config, "--install", certificate},
	} {
		out, err := t.shown(step)
		if err != nil {
			return err
		}
		if step[0] == "ca" {
			t.console.from("owner", verdictLines(out))
		}
	}
	if err := t.broker.Await(t.ctx); err != nil {
		return err
	}
	t.console.good("the broker listens: its keys never left the machine, and the owner's never were on it")
	return nil
}

// writePolicy writes what the owner demands of the broker: the module, which they know, and PCRs, as the machine has them now. That of the module is not taken
// from the machine.
func (t *tpmDemo) writePolicy() error {
	wasm, err := module.Bytes()
	if err != nil {
		return err
	}
	digest := attest.Sum(wasm)
	out, err := t.shown([]string{"tpm", "pcrs", "--pcr", "0,4,7", "--device", t.machine.Socket})
	if err != nil {
		return err
	}
	var pcrs strings.Builder
	for _, m := range pcrLine.FindAllStringSubmatch(out, -1) {
		fmt.Fprintf(&pcrs, "            %s: %s\n", m[1], m[2])
	}
	fmt.Fprintf(&pcrs, "            %d: %x\n", tpm.ModulePCR, tpm.ModuleRegister(crypto.SHA256, digest))
	policy := fmt.Sprintf(ownersPolicy, digest, t.ca, pcrs.String(), t.instance)
	t.console.from("policy", shortPolicy(policy))
	return os.WriteFile(t.owner("broker-policy.yaml"), []byte(policy), 0o600)
}

var pcrLine = regexp.MustCompile(`(?m)^ +(\d+): ([0-9a-f]{64})$`)

var longHex = regexp.MustCompile(`([0-9a-f]{16})[0-9a-f]{40,}`)

// shortPolicy shortens everything that is long in a policy, a verdict or a refusal with PCRs.
func shortPolicy(text string) string { return longHex.ReplaceAllString(text, "$1…") }

// verdictLines are the lines of a verdict that matter.
func verdictLines(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		for _, name := range []string{"verdict", "platform", "module"} {
			if strings.HasPrefix(line, name+" ") {
				lines = append(lines, shortPolicy(line))
			}
		}
	}
	return strings.Join(lines, "")
}

func (t *tpmDemo) exchangeVerified() error {
	t.console.heading("A subscriber and a publisher with the bundle. Each verifies module and PCRs of the broker before it sends its first byte.")
	host, port := t.broker.HostPort("attested")
	t.attest = []string{"-h", host, "-p", port}
	err := t.exchange()
	t.attest = nil
	return err
}

func (t *tpmDemo) changedModule() error {
	t.console.heading("The machine starts anew, with a broker whose module differs in one byte; keys and certificate are the same.")
	path, err := t.writeChanged()
	if err != nil {
		return err
	}
	changed, err := t.restart("boot loader", "--module", path)
	if err != nil {
		return err
	}
	if changed.Module == t.broker.Module {
		return errors.New("the module has the same digest")
	}
	return t.refuses(changed, "pcrs 14 is not")
}

// restart ends the broker, boots the machine and starts the broker again.
func (t *tpmDemo) restart(loader string, args ...string) (*local.Broker, error) {
	for _, p := range t.running {
		p.Stop() // it may be none that still runs
	}
	t.running = nil
	if err := t.boot(t.machine, loader); err != nil {
		return nil, err
	}
	b, err := t.launch("broker", nil, args...)
	if err != nil {
		return nil, err
	}
	return b, t.ready(b)
}

// ready waits until a broker listens, and says so.
func (t *tpmDemo) ready(b *local.Broker) error {
	if err := b.Await(t.ctx); err != nil {
		return err
	}
	t.console.from("broker", fmt.Sprintf("process %d, module %s", b.PID(), short(b.Module)))
	return nil
}

func (t *tpmDemo) changedBoot() error {
	t.console.heading("The machine starts anew with another boot loader, which could have changed the system below the broker. The broker is the right one.")
	b, err := t.restart("boot loader of somebody else")
	if err != nil {
		return err
	}
	return t.refuses(b, "pcrs 4 is not")
}

func (t *tpmDemo) stolenState() error {
	t.console.heading("Keys and certificate of the broker, stolen, on another machine, which has booted the very same, and was never enrolled.")
	stranger, err := t.newMachine("tpm2")
	if err != nil {
		return err
	}
	stolen := filepath.Join(t.dir, "stolen")
	if err := copyFiles(filepath.Join(stolen, "state"), t.rented("state")); err != nil {
		return err
	}
	certificate, err := os.ReadFile(t.rented("owner-ca.pem"))
	if err != nil {
		return err
	}
	if err := t.configure(stolen, stranger, "", certificate); err != nil {
		return err
	}
	b, err := t.launch("stolen", nil)
	if err != nil {
		return err
	}
	if err := t.ready(b); err != nil {
		return err
	}
	return t.refuses(b, "ak_ca is not")
}
