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
	"slices"
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
	adminSocket, metrics                     string
	level                                    slog.LevelVar // of the log, while the broker runs
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
it at once. SIGUSR1 prints statistics as one line of JSON. Look at it, and administer it, with: vouchmq status, clients,
subscriptions, retained, log-level, reload.

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
	fs.StringVar(&f.engine, "engine", string(server.Wasm), "how the core runs: wasm, or native for comparison")
	fs.StringVar(&f.module, "module", "", "run this module instead of the one in the program")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.adminSocket, "admin-socket", "", "socket of a development broker for administration (default: admin.sock in its folder), - for none")
	fs.StringVar(&f.metrics, "metrics", "", "address of a development broker for metrics and health, on this machine (default: none)")
	fs.StringVar(&f.readyFile, "ready-file", "", "write addresses and files to this file, as JSON, once the listeners are open")
	c.MarkFlagsMutuallyExclusive("config", "state")
	c.MarkFlagsMutuallyExclusive("config", "listen")
	c.MarkFlagsMutuallyExclusive("config", "listen-plain")
	c.MarkFlagsMutuallyExclusive("config", "admin-socket")
	c.MarkFlagsMutuallyExclusive("config", "metrics")
	return c
}

// settings are what flags and file together say.
type settings struct {
	config server.Config
	state  *server.State
}

// load reads the configuration file, if there is one. A flag that is given counts more than the file.
func (f *serveFlags) load(c *cobra.Command) (settings, error) {
	if f.config == "" {
		return f.development(c.ErrOrStderr())
	}
	file, err := server.LoadFile(f.config)
	if err != nil {
		return settings{}, err
	}
	for name, value := range map[string]*string{"log-level": &file.Log.Level, "log-format": &file.Log.Format, "engine": (*string)(&file.Engine)} {
		if c.Flags().Changed(name) {
			*value = c.Flag(name).Value.String()
		}
	}
	log, err := newLogger(c.ErrOrStderr(), file.Log.Level, file.Log.Format, &f.level)
	if err != nil {
		return settings{}, err
	}
	wasm, err := f.moduleBytes(file.Engine)
	if err != nil {
		return settings{}, err
	}
	config, state, err := file.Open(wasm, time.Now(), log)
	config.Sight.Version, config.Sight.Level = version, &f.level
	return settings{config, state}, err
}

// development is a broker without a file.
func (f *serveFlags) development(logTo io.Writer) (settings, error) {
	log, err := newLogger(logTo, f.logLevel, f.logFormat, &f.level)
	if err != nil {
		return settings{}, err
	}
	wasm, err := f.moduleBytes(server.Engine(f.engine))
	if err != nil {
		return settings{}, err
	}
	config, state, err := server.Development(server.DevelopmentOptions{
		Dir: f.state, Plain: f.plain, Attested: f.listen, Engine: server.Engine(f.engine), Module: wasm, Log: log,
		Sight: f.sight(log),
	})
	return settings{config, state}, err
}

func newLogger(w io.Writer, level, format string, now *slog.LevelVar) (*slog.Logger, error) {
	options := new(slog.HandlerOptions)
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	now.Set(l)
	options.Level = now
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

// moduleBytes is the module to run: a file, or the one in this program. The native engine needs none.
func (f *serveFlags) moduleBytes(engine server.Engine) ([]byte, error) {
	switch {
	case f.module != "":
		b, err := os.ReadFile(f.module)
		if err != nil {
			return nil, fmt.Errorf("--module: %w", err)
		}
		return b, nil
	case engine == server.Native:
		return nil, nil
	}
	return module.Bytes()
}

func (f *serveFlags) run(c *cobra.Command) error {
	s, err := f.load(c)
	if err != nil {
		return err
	}
	broker, err := server.Start(c.Context(), s.config)
	if err != nil {
		return explainStart(err)
	}
	defer broker.Shutdown(context.Background()) // again, if it has been called
	ready, err := announce(broker, s.state)
	if err != nil {
		return err
	}
	writeBanner(c.ErrOrStderr(), ready, broker.Config(), s.state)
	if f.readyFile != "" {
		if err := ready.WriteFile(f.readyFile); err != nil {
			return err
		}
		defer os.Remove(f.readyFile)
	}
	return serveUntilSignal(c.Context(), c.OutOrStdout(), broker)
}

// explainStart adds what to do about a port that is taken.
func explainStart(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return withHint(err, "end the other broker, or choose other ports: --listen 127.0.0.1:0 --listen-plain 127.0.0.1:0")
	}
	return err
}

// announce writes the bundle and gathers what others need to know of the running broker.
func announce(broker *server.Server, state *server.State) (local.Ready, error) {
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
func writeBanner(w io.Writer, r local.Ready, config server.Config, state *server.State) {
	rule := strings.Repeat("=", 88)
	fmt.Fprintf(w, "\n%s\n  THE TEE OF THIS BROKER IS SIMULATED. IT PROTECTS NOTHING. FOR DEVELOPMENT ONLY.\n%s\n\n", rule, rule)
	fmt.Fprintf(w, "  module    %s\n", r.Module)
	for _, l := range config.Listeners {
		fmt.Fprintf(w, "  listener  %s: %s, %s\n", l.Name, r.Listeners[l.Name], inWords[l.Kind])
	}
	fmt.Fprintf(w, "  bundle    %s\n  made now  %s\n\nTry, in other terminals:\n\n", r.Bundle, made(state))
	for _, line := range toTry(r, config) {
		fmt.Fprintf(w, "  %s\n", line)
	}
	fmt.Fprintln(w)
}

var inWords = map[server.Kind]string{
	server.TCP: "plain TCP", server.TLS: "ordinary TLS", server.Attested: "attested TLS, and ordinary TLS",
}

// toTry are commands that work with this broker, in terminals in the same folder.
func toTry(r local.Ready, config server.Config) []string {
	self, as := os.Args[0], " --bundle "+r.Bundle
	if slices.ContainsFunc(config.Listeners, func(l server.Listener) bool { return l.RequireEvidence }) {
		as += " --attest " + r.ClientKey
	}
	lines := []string{
		self + " sub" + as + " -t 'sensors/#' -v",
		self + " pub" + as + " -t sensors/1 -m 21.5 --verdict",
		self + " inspect --bundle " + r.Bundle,
	}
	i := slices.IndexFunc(config.Listeners, func(l server.Listener) bool { return l.Kind != server.TCP && !l.RequireEvidence })
	if i < 0 {
		return lines
	}
	if _, port, err := net.SplitHostPort(r.Listeners[config.Listeners[i].Name]); err == nil {
		lines = append(lines, "mosquitto_sub -h localhost -p "+port+" --cafile "+r.OwnerCA+" -t 'sensors/#' -v")
	}
	return lines
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
	for going := true; going; {
		select {
		case <-asked:
			if err := printStats(out, broker); err != nil {
				return err
			}
		case <-broker.Stopped():
			going = false
		case <-ctx.Done():
			going = false
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
		Engine: s.Engine.Kind, Steps: s.Engine.Steps, LongestStepSeconds: s.Engine.LongestStep.Seconds(), BusiestStepSeconds: s.Engine.BusiestStep.Seconds(),
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
