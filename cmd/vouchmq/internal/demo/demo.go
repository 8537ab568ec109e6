// Package demo is what `vouchmq demo` shows: an attested broker, clients that verify it and are verified, a broker
// that is not what it should be and is refused, and an ordinary MQTT client.
//
// Everything runs as processes of this program, as a person would start them, on free ports and in a temporary
// folder. Each step checks what it says; the first that does not come true ends the demonstration with an error.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/module"
)

// demo is one run.
type demo struct {
	ctx     context.Context
	console *console
	program string // this executable
	dir     string
	log     broadcast // what the broker logs
	broker  *local.Broker
	running []*bench.Process

	bundle string   // file: who the broker should be
	attest []string // flags with which clients attest themselves
}

// Run shows everything on out, with a simulated TEE. program is the path of vouchmq, typed how it was called.
func Run(ctx context.Context, out io.Writer, program, typed string) error {
	return play(ctx, out, program, "Now start a broker that stays: "+typed+" serve", func(d *demo) []func() error {
		return []func() error{d.startBroker, d.exchangeAttested, d.brokersView, d.inspect, d.changedModule, d.ordinaryClient}
	})
}

// play shows steps in a temporary folder, up to the first that fails. next says what to do then.
func play(ctx context.Context, out io.Writer, program, next string, steps func(*demo) []func() error) error {
	dir, err := os.MkdirTemp("", "vouchmq-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{ctx: ctx, console: newConsole(out), program: program, dir: dir}
	defer d.stopAll()
	begun := time.Now()
	for _, step := range steps(d) {
		if err := step(); err != nil {
			d.console.bad("%v", err)
			return fmt.Errorf("step %d: %w", d.console.step, err)
		}
	}
	fmt.Fprintf(out, "\n%s\n", d.console.paint(bold, fmt.Sprintf("Everything came true, in %.1f s. %s", time.Since(begun).Seconds(), next)))
	return nil
}

func (d *demo) stopAll() {
	for _, p := range d.running {
		p.Stop() // how the processes of a demonstration end does not matter any more
	}
}

func (d *demo) startBroker() error {
	d.console.heading("A broker, as a process of its own. Its TEE is simulated: it shows how things work, and protects nothing.")
	d.console.command("vouchmq", []string{"serve"})
	var err error
	if d.broker, err = d.start("broker", &d.log); err != nil {
		return err
	}
	d.bundle, d.attest = d.broker.Bundle, []string{"--attest", d.broker.ClientKey}
	d.console.from("broker", fmt.Sprintf("process %d, module %s", d.broker.PID(), short(d.broker.Module)))
	d.console.good("it runs, and wrote a bundle: all that a client needs to know who the broker should be")
	return nil
}

// start starts a broker with its state in a folder of the demonstration, on free ports.
func (d *demo) start(name string, log io.Writer, args ...string) (*local.Broker, error) {
	args = append([]string{"--log-format", "json", "--log-level", "debug"}, args...)
	b, err := local.Start(d.ctx, d.program, filepath.Join(d.dir, name), log, args...)
	if err != nil {
		return nil, err
	}
	d.running = append(d.running, b.Process)
	return b, nil
}

// messages are what the publisher sends.
var messages = []string{"21.5", "21.7", "22.1"}

const topic = "sensors/boiler/temperature"

func (d *demo) exchangeAttested() error {
	d.console.heading("A subscriber and a publisher. Each verifies the broker before it sends its first byte, and attests itself, too.")
	return d.exchange()
}

// exchange has a subscriber and a publisher verify the broker, and pass messages.
func (d *demo) exchange() error {
	args := d.verifying("sub", "-t", "sensors/#", "-v", "-q", "1", "-C", fmt.Sprint(len(messages)), "-d", "-i", "demo-subscriber")
	d.console.command("vouchmq", shown(args))
	var printed broadcast
	sub, err := bench.StartProcess(&printed, d.program, args...)
	if err != nil {
		return err
	}
	d.running = append(d.running, sub)
	if err := d.await(sub, &printed, "subscribed"); err != nil {
		return err
	}
	if err := d.verdict("subscriber", printed.String()); err != nil {
		return err
	}
	for i, message := range messages {
		if err := d.publish(message, i == 0); err != nil {
			return err
		}
	}
	return d.received(sub, &printed)
}

func (d *demo) publish(message string, first bool) error {
	args := d.verifying("pub", "-t", topic, "-m", message, "-q", "1", "-i", "demo-publisher")
	d.console.command("vouchmq", shown(args))
	out, err := d.run(args)
	if err != nil {
		return err
	}
	if first {
		return d.verdict("publisher", out)
	}
	return nil
}

// received waits until the subscriber has ended and checks what it printed.
func (d *demo) received(sub *bench.Process, printed *broadcast) error {
	select {
	case <-sub.Done():
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	case <-time.After(stepTime):
		return fmt.Errorf("the subscriber did not get all messages:\n%s", printed)
	}
	for _, message := range messages {
		line := topic + " " + message
		if !strings.Contains(printed.String(), line+"\n") {
			return fmt.Errorf("the subscriber did not print %q:\n%s", line, printed)
		}
		d.console.from("subscriber", line)
	}
	d.console.good("%d messages sent, the same %d received", len(messages), len(messages))
	return nil
}

// verdict shows the lines of --verdict that matter and checks that the broker was accepted.
func (d *demo) verdict(who, printed string) error {
	found := false
	for line := range strings.Lines(printed) {
		for _, name := range []string{"verdict", "platform", "module"} {
			if strings.HasPrefix(line, name+" ") {
				d.console.from(who, "of the broker: "+short(strings.TrimSpace(line)))
			}
		}
		found = found || strings.HasPrefix(line, "verdict") && strings.Contains(line, "ACCEPTED")
	}
	if !found {
		return fmt.Errorf("the %s printed no verdict that accepts the broker:\n%s", who, printed)
	}
	return nil
}

// opened is what the broker logs of a connection, as JSON.
type opened struct {
	Message    string   `json:"msg"`
	Identities []string `json:"identities"`
}

// brokersView shows what the broker found out about its clients.
func (d *demo) brokersView() error {
	d.console.heading("The other way round: what the broker verified about its clients.")
	attested := 0
	for line := range strings.Lines(d.log.String()) {
		var o opened
		if json.Unmarshal([]byte(line), &o) == nil && o.Message == "connection opened" && len(o.Identities) > 0 {
			attested++
			d.console.from("broker", fmt.Sprintf("of a client: ACCEPTED as %s, in a simulated TEE", strings.Join(o.Identities, ", ")))
		}
	}
	if want := 1 + len(messages); attested != want {
		return fmt.Errorf("the broker accepted evidence of %d clients, not of %d:\n%s", attested, want, d.broker.Output())
	}
	d.console.good("each client attested; rules can name such identities: who may publish and subscribe what")
	return nil
}

func (d *demo) inspect() error {
	d.console.heading("Anybody with the bundle can look, without sending anything.")
	args := []string{"inspect", d.broker.Listeners["attested"], "--bundle", d.bundle}
	d.console.command("vouchmq", shown(args))
	out, err := d.run(args)
	if err != nil {
		return err
	}
	d.console.from("inspect", short(out))
	d.console.good("accepted: module, configuration and platform are those of the bundle")
	return nil
}

// attestationRefused is the exit status of vouchmq for it.
const attestationRefused = 3

func (d *demo) changedModule() error {
	d.console.heading("A broker whose module differs in one byte, with the same keys and certificate. It works just as well; it is refused.")
	changed, err := d.changedBroker()
	if err != nil {
		return err
	}
	d.console.from("broker", fmt.Sprintf("process %d, module %s", changed.PID(), short(changed.Module)))
	if changed.Module == d.broker.Module {
		return errors.New("the module has the same digest")
	}
	return d.refuses(changed, "module")
}

// refuses has a client refuse a broker that is not what the bundle says, for a reason with these words.
func (d *demo) refuses(b *local.Broker, reason string) error {
	host, port := b.HostPort("attested")
	args := d.verifying("pub", "-h", host, "-p", port, "-t", topic, "-m", "secret", "-i", "demo-publisher")
	d.console.command("vouchmq", shown(args))
	out, err := d.run(args)
	if status := exitStatus(err); status != attestationRefused {
		return fmt.Errorf("the publisher ended with status %d, not %d:\n%s", status, attestationRefused, out)
	}
	d.console.from("publisher", refusal(out))
	if !strings.Contains(refusal(out), reason) {
		return fmt.Errorf("the reason is not %q:\n%s", reason, out)
	}
	stats, err := b.Stats(d.ctx)
	if err != nil {
		return err
	}
	if stats.Received > 0 {
		return fmt.Errorf("%d messages reached the broker that was refused", stats.Received)
	}
	d.console.good("refused, exit status %d; the message never left the publisher, the broker has seen none", attestationRefused)
	return nil
}

// refusal is what a refused client prints, without the details of the evidence.
func refusal(printed string) string {
	var lines []string
	for line := range strings.Lines(printed) {
		if strings.HasPrefix(line, "verdict") || strings.HasPrefix(line, "module") || strings.HasPrefix(line, "  ") {
			lines = append(lines, short(line))
		}
	}
	return strings.Join(lines, "")
}

// writeChanged writes the module with a changed byte.
func (d *demo) writeChanged() (path string, err error) {
	wasm, err := module.Bytes()
	if err != nil {
		return "", err
	}
	if wasm, err = ChangeOneByte(wasm); err != nil {
		return "", err
	}
	path = filepath.Join(d.dir, "changed.wasm")
	return path, os.WriteFile(path, wasm, 0o600)
}

// changedBroker starts a second broker with a copy of the first one's state, but a changed module.
func (d *demo) changedBroker() (*local.Broker, error) {
	path, err := d.writeChanged()
	if err != nil {
		return nil, err
	}
	state := filepath.Join(d.dir, "changed")
	if err := copyFiles(state, filepath.Join(d.dir, "broker")); err != nil {
		return nil, err
	}
	d.console.command("vouchmq", []string{"serve", "--module", "changed.wasm"})
	return d.start("changed", nil, "--module", path)
}

func (d *demo) ordinaryClient() error {
	d.console.heading("An ordinary MQTT client that knows nothing of all this, over ordinary TLS. It trusts the owner's certificate, as ever.")
	host, port := d.broker.HostPort("attested")
	program, name, extra := d.program, "vouchmq", []string{"pub", "-V", "mqttv311"}
	if path, err := exec.LookPath("mosquitto_pub"); err == nil {
		program, name, extra = path, "mosquitto_pub", nil
	}
	args := append(extra, "-h", host, "-p", port, "--cafile", d.broker.OwnerCA, "-t", topic, "-m", "20.9", "-q", "1")

	sub := d.verifying("sub", "-t", topic, "-C", "1", "-d", "-q", "1", "-i", "demo-listener")
	var printed broadcast
	p, err := bench.StartProcess(&printed, d.program, sub...)
	if err != nil {
		return err
	}
	d.running = append(d.running, p)
	if err := d.await(p, &printed, "subscribed"); err != nil {
		return err
	}
	d.console.command(name, shown(args))
	if out, err := exec.CommandContext(d.ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	if err := d.await(p, &printed, "20.9\n"); err != nil {
		return err
	}
	d.console.good("let in, and heard; whether such clients may do anything is for the policy to say")
	return nil
}

// verifying are the arguments of a client that verifies the broker.
func (d *demo) verifying(command string, args ...string) []string {
	return slices.Concat([]string{command, "--bundle", d.bundle}, d.attest, []string{"--verdict"}, args)
}

// stepTime is how long anything may take that a step waits for.
const stepTime = 30 * time.Second

// run runs this program and returns what it printed.
func (d *demo) run(args []string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, stepTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, d.program, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("vouchmq %s: %w\n%s", args[0], err, out)
	}
	return string(out), nil
}

// await waits until a process has printed text.
func (d *demo) await(p *bench.Process, printed *broadcast, text string) error {
	ctx, cancel := context.WithTimeoutCause(d.ctx, stepTime, fmt.Errorf("%q did not come", text))
	defer cancel()
	err := p.WaitFor(ctx, func() bool { return strings.Contains(printed.String(), text) })
	if err != nil && strings.Contains(printed.String(), text) {
		return nil // it was the last that the process printed
	}
	return err
}

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// shown leaves out of arguments what only the demonstration needs: the folder of files.
func shown(args []string) []string {
	var out []string
	for _, a := range args {
		if filepath.IsAbs(a) {
			a = filepath.Base(a)
		}
		out = append(out, a)
	}
	return out
}

var digest = regexp.MustCompile(`([0-9a-f]{16})[0-9a-f]{80}`)

// short shortens digests.
func short(text string) string { return digest.ReplaceAllString(text, "$1…") }

// copyFiles copies the files of a folder, and nothing else: a broker has its socket there, too.
func copyFiles(to, from string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
