package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/module"
	"github.com/vouchmq/vouchmq/internal/server"
)

type serveFlags struct {
	config, state, module, engine, readyFile string
	plain, listen                            string
	logLevel, logFormat                      string
}

func newServe() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve [--config FILE | --state DIR]",
		Short: "Run a broker",
		Long: `Run a broker. Without --config it is a development broker: it listens on this machine only, its TEE is SIMULATED and
protects nothing, and everybody may do everything. It makes what it needs in a folder (./vouchmq-dev, see --state): an
owner CA, keys, a policy, a bundle for attested clients. It says which commands to try next.

SIGINT and SIGTERM end it in good order: clients are told, and get what was still to be written. A second signal ends
it at once. SIGUSR1 prints statistics as one line of JSON.

Exit status: 0 after a signal; 1 otherwise; 70 if the module did not come back from a step.`,
		Example: `  vouchmq serve
  vouchmq serve --state /tmp/dev --listen 127.0.0.1:8884 --log-level debug
  vouchmq serve --config vouchmq.yaml --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.config, "config", "", "configuration file (vouchmq.yaml)")
	fs.StringVar(&f.state, "state", server.DevelopmentDir, "folder of a development broker")
	fs.StringVar(&f.listen, "listen", server.DefaultTLSAddress, "address of a development broker for attested and ordinary TLS; port 0 is a free one")
	fs.StringVar(&f.plain, "listen-plain", server.DefaultPlainAddress, "its address for plain TCP, - for none")
	fs.StringVar(&f.engine, "engine", string(server.Wasm), "how the core of a development broker runs: wasm, or native for comparison")
	fs.StringVar(&f.module, "module", "", "run this module instead of the one in the program")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.readyFile, "ready-file", "", "write addresses and files to this file, as JSON, once the listeners are open")
	c.MarkFlagsMutuallyExclusive("config", "state")
	c.MarkFlagsMutuallyExclusive("config", "listen")
	c.MarkFlagsMutuallyExclusive("config", "listen-plain")
	return c
}

// logger makes the log that the flags ask for.
func (f *serveFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", f.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", f.logFormat)
}

// moduleBytes is the module to run: a file, or the one in this program. The native engine needs none.
func (f *serveFlags) moduleBytes() ([]byte, error) {
	switch {
	case f.module != "":
		b, err := os.ReadFile(f.module)
		if err != nil {
			return nil, fmt.Errorf("--module: %w", err)
		}
		return b, nil
	case f.engine == string(server.Native):
		return nil, nil
	}
	return module.Bytes()
}

func (f *serveFlags) run(c *cobra.Command) error {
	log, err := f.logger(c.ErrOrStderr())
	if err != nil {
		return err
	}
	config, state, err := f.development(log)
	if err != nil {
		return err
	}
	broker, err := server.Start(c.Context(), config)
	if err != nil {
		return explainStart(err)
	}
	defer broker.Shutdown(context.Background()) // again, if it has been called
	ready, err := f.announce(broker, state)
	if err != nil {
		return err
	}
	writeBanner(c.ErrOrStderr(), ready, state)
	if f.readyFile != "" {
		if err := ready.WriteFile(f.readyFile); err != nil {
			return err
		}
		defer os.Remove(f.readyFile)
	}
	return serveUntilSignal(c.Context(), c.OutOrStdout(), broker)
}

// development is the configuration of a development broker.
func (f *serveFlags) development(log *slog.Logger) (server.Config, *server.State, error) {
	wasm, err := f.moduleBytes()
	if err != nil {
		return server.Config{}, nil, err
	}
	return server.Development(server.DevelopmentOptions{
		Dir: f.state, Plain: f.plain, Attested: f.listen, Engine: server.Engine(f.engine), Module: wasm, Log: log,
	})
}

// explainStart adds what to do about a port that is taken.
func explainStart(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return withHint(err, "end the other broker, or choose other ports: --listen 127.0.0.1:0 --listen-plain 127.0.0.1:0")
	}
	return err
}

// announce writes the bundle and gathers what others need to know of the running broker.
func (f *serveFlags) announce(broker *server.Server, state *server.State) (local.Ready, error) {
	bundle, _, err := state.WriteBundle(broker, time.Now())
	if err != nil {
		return local.Ready{}, err
	}
	r := local.Ready{
		ServerPID: os.Getpid(),
		Engine:    string(broker.Config().Engine),
		Module:    broker.Identity().Module.String(),
		Listeners: map[string]string{},
		Bundle:    bundle,
		OwnerCA:   state.Path(server.OwnerCAFile),
		ClientKey: state.Path(server.SimKeyFile),
	}
	for _, l := range broker.Config().Listeners {
		r.Listeners[l.Name] = broker.Addr(l.Name).String()
	}
	return r, nil
}

// writeBanner says what runs, that it protects nothing, and what to try.
func writeBanner(w io.Writer, r local.Ready, state *server.State) {
	rule := strings.Repeat("=", 88)
	fmt.Fprintf(w, `
%s
  THE TEE OF THIS BROKER IS SIMULATED. IT PROTECTS NOTHING. FOR DEVELOPMENT ONLY.
%s

  module    %s
  attested  %s (and ordinary TLS)
`, rule, rule, r.Module, r.Listeners[server.AttestedListener])
	if plain := r.Listeners[server.PlainListener]; plain != "" {
		fmt.Fprintf(w, "  plain     %s\n", plain)
	}
	fmt.Fprintf(w, "  bundle    %s\n  made now  %s\n\nTry, in other terminals:\n\n", r.Bundle, made(state))
	host, port, _ := net.SplitHostPort(r.Listeners[server.AttestedListener])
	for _, line := range []string{
		"vouchmq sub --bundle " + r.Bundle + " -t 'sensors/#' -v",
		"vouchmq pub --bundle " + r.Bundle + " -t sensors/1 -m 21.5 --verdict",
		"vouchmq inspect --bundle " + r.Bundle,
		"mosquitto_sub -h " + host + " -p " + port + " --cafile " + r.OwnerCA + " -t 'sensors/#' -v",
	} {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w)
}

func made(state *server.State) string {
	if len(state.Made) == 0 {
		return "nothing: all was there"
	}
	return strings.Join(state.Made, ", ") + " in " + state.Dir
}

// serveUntilSignal waits for the end of ctx, prints statistics whenever SIGUSR1 asks for them and once at the end, and
// stops the broker.
func serveUntilSignal(ctx context.Context, out io.Writer, broker *server.Server) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	defer signal.Stop(asked)
	for ctx.Err() == nil {
		select {
		case <-asked:
			if err := printStats(out, broker); err != nil {
				return err
			}
		case <-ctx.Done():
		}
	}
	return errors.Join(printStats(out, broker), broker.Shutdown(context.WithoutCancel(ctx)))
}

// printStats prints one line, see package local.
func printStats(out io.Writer, broker *server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := broker.Stats(ctx)
	if err != nil {
		return err
	}
	line, err := json.Marshal(local.Stats{
		Engine: s.Engine.Kind, Steps: s.Engine.Steps, LongestStepSeconds: s.Engine.LongestStep.Seconds(),
		Restarts: s.Engine.Restarts, Connections: s.Transport.Connections, Accepted: s.Transport.Accepted,
		FailedHandshakes: s.Transport.FailedHandshakes, DroppedQoS0: s.Transport.DroppedQoS0 + s.Core.DroppedQoS0,
		DroppedQueue: s.Core.DroppedQueue, Stalled: s.Transport.Stalled, Overflowed: s.Transport.Overflowed,
		Received: s.Core.Received, Sent: s.Core.Sent, Sessions: s.Core.Sessions, MessageBytes: s.Core.MessageBytes,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s%s\n", local.StatsPrefix, line)
	return err
}
