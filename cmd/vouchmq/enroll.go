package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/terminal"
	"github.com/vouchmq/vouchmq/internal/atomicfile"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/server/systemd"
)

type enrollFlags struct {
	serve               serveFlags
	nonce, out, install string
	renew               bool
}

func newEnroll() *cobra.Command {
	var f enrollFlags
	c := &cobra.Command{
		Use:   "enroll --config FILE (--nonce NONCE --out FILE | --renew --out FILE | --install FILE)",
		Short: "Ask the owner for the broker's certificate, and install it",
		Long: `Ask the owner of a broker, who is elsewhere, for its certificate. The configuration names the owner CA (owner). This runs
on the broker's machine, inside the TEE: it makes the broker's keys in the state folder, where they stay, and writes a
request with evidence for them. The owner gives a nonce (vouchmq ca challenge), verifies the request and issues the
certificate (vouchmq ca sign); --install puts that in force.

A running broker notices the new certificate: connections from then on are shown it, those that are there stay. It also
takes a file certificate.pem that is put into its state folder. When two thirds of the certificate's time are over it
writes a request for its renewal there by itself (request.pem) and says so in its log; --renew makes one at any time. A
renewal needs no nonce of the owner's: it answers the certificate that it renews.

A broker that is started before it is enrolled waits.`,
		Example: `  vouchmq enroll --config vouchmq.yaml --nonce 1ecc945650e86f3744d1b47ace9858cae9e2f6d4c0c63d8258d48949a3d7bae9 --out request.pem
  vouchmq enroll --config vouchmq.yaml --install cert.pem
  vouchmq enroll --config vouchmq.yaml --renew --out request.pem`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.serve.config, "config", "", "configuration file (vouchmq.yaml)")
	fs.StringVar(&f.nonce, "nonce", "", "nonce that the owner has given, - for the first line of standard input")
	fs.BoolVar(&f.renew, "renew", false, "ask for the renewal of the certificate that is in use")
	fs.StringVar(&f.out, "out", "", "file for the request")
	fs.StringVar(&f.install, "install", "", "certificate from the owner to put in force")
	fs.StringVar(&f.serve.module, "module", "", "the module that the broker is run with, if not the one in the program")
	c.MarkFlagRequired("config")
	c.MarkFlagsOneRequired("nonce", "renew", "install")
	c.MarkFlagsMutuallyExclusive("nonce", "renew", "install")
	c.MarkFlagsMutuallyExclusive("out", "install")
	return c
}

func (f *enrollFlags) run(c *cobra.Command) error {
	if f.install == "" && f.out == "" {
		return errors.New("--out: say where to write the request")
	}
	told, err := f.serve.read(nil)
	if err != nil {
		return explainSettings(err)
	}
	module, err := f.serve.moduleBytes(server.Engine(told.Engine))
	if err != nil {
		return err
	}
	warnings := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	broker, err := server.PrepareEnrolment(told, server.Opening{Module: module, Now: time.Now(), Log: warnings, Dir: f.serve.folder()})
	if err != nil {
		return explainSettings(err)
	}
	if f.install != "" {
		return f.installIt(c, broker)
	}
	return f.ask(c, told, broker)
}

func (f *enrollFlags) ask(c *cobra.Command, told *settings.Settings, broker *server.Enrolling) error {
	if f.nonce == "-" {
		line, err := readFirstLine(f.nonce, c.InOrStdin())
		if err != nil {
			return err
		}
		f.nonce = string(line)
	}
	request, err := f.request(c.Context(), broker)
	if err != nil {
		return explainEnrolment(err)
	}
	file, err := request.Encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(f.out, file, atomicfile.Public); err != nil {
		return err
	}
	w := c.OutOrStdout()
	id := broker.Identity
	tee := told.TEE
	if tee == "sim" {
		tee += " (SIMULATED: it protects nothing)"
	}
	err = terminal.Facts(w, "request", f.out, "service", request.Service, "owner", owner.Fingerprint(broker.Folder.Owner).String(), "TEE", tee,
		"module", id.Module.String(), "config", id.Config.String(), "runtime", id.Runtime.String())
	fmt.Fprintf(w, "\nNext: give %s to the owner (vouchmq ca sign), and install what comes back: vouchmq enroll --config %s --install FILE\n", f.out, f.serve.config)
	return err
}

func (f *enrollFlags) request(ctx context.Context, broker *server.Enrolling) (*owner.Request, error) {
	if f.renew {
		return broker.Renewal(ctx)
	}
	nonce, err := owner.ParseNonce(f.nonce)
	if err != nil {
		return nil, fmt.Errorf("--nonce: %w", err)
	}
	return broker.Request(ctx, nonce)
}

func (f *enrollFlags) installIt(c *cobra.Command, broker *server.Enrolling) error {
	certificate, err := readFile(f.install)
	if err != nil {
		return err
	}
	leaf, err := broker.Install(certificate)
	if err != nil {
		return fmt.Errorf("%s: %w", f.install, err)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "certificate of %s is installed, good until %s; a running broker takes it over within a minute, and drops no connection\n",
		broker.Folder.Service, leaf.NotAfter.UTC().Format(time.RFC3339))
	return err
}

func explainEnrolment(err error) error {
	if errors.Is(err, server.ErrNotEnrolled) {
		return withHint(err, "a first certificate needs a nonce of the owner's: --nonce")
	}
	return err
}

// enrolmentPoll is how often a broker that waits for its certificate looks whether it is there.
const enrolmentPoll = time.Second

// openEnrolled is open for a broker that may still have to wait for its certificate.
func (f *serveFlags) openEnrolled(s *settings.Settings, c *cobra.Command, sockets *server.Sockets, log *logging) (*server.Opened, error) {
	waiting := false
	for {
		opened, err := f.open(s, c, sockets, log)
		if !errors.Is(err, server.ErrNotEnrolled) {
			return opened, err
		}
		if !waiting {
			waiting = true
			f.announceWaiting(s, log, err)
		}
		select {
		case <-c.Context().Done():
			return nil, context.Cause(c.Context())
		case <-time.After(enrolmentPoll):
		}
	}
}

// announceWaiting tells people and the service manager, which would otherwise end a service that does not become ready.
func (f *serveFlags) announceWaiting(s *settings.Settings, log *logging, err error) {
	state := s.State
	if !filepath.IsAbs(state) {
		state = filepath.Join(f.folder(), state)
	}
	log.Warn("WAITING FOR A CERTIFICATE: nothing listens yet. Ask the owner for it with vouchmq enroll, and install it; this broker goes on by itself",
		"state", state, "reason", err)
	manager := systemd.Notifier{Log: log.Logger}
	manager.Ready()
	manager.Status("waiting for a certificate of the owner")
}
