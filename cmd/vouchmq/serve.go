package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/module"
	"github.com/vouchmq/vouchmq/internal/redact"
	"github.com/vouchmq/vouchmq/internal/server"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/server/systemd"
)

type serveFlags struct {
	config, state, module, engine, readyFile string
	plain, listen                            string
	logLevel, logFormat                      string
	adminSocket, metrics                     string
	quoteTime                                time.Duration
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
it at once. SIGUSR1 prints statistics as one line of JSON. SIGHUP reads the configuration anew: certificates, policy,
limits, listeners and log level change, and only clients that are not accepted any more are disconnected; what is wrong with
it is logged, and the old one stays. Changed certificate files are noticed without a signal. Look at the broker, and administer it, with: vouchmq
status, clients, subscriptions, retained, log-level, reload.

Where the configuration names an owner elsewhere, the broker needs a certificate of that owner: it waits until it has been
enrolled. See: vouchmq enroll --help

Each key of the configuration can also be set by a variable, such as VOUCHMQ_LOG__LEVEL=debug. A flag counts more than a
variable, and a variable more than the file. See: vouchmq config --help

Exit status: 0 after a signal; 1 otherwise; 70 if the module did not come back from a step.`,
		Example: `  vouchmq serve
  vouchmq serve --state /tmp/dev --listen 127.0.0.1:8884 --log-level debug
  vouchmq serve --config vouchmq.yaml --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	f.define(c)
	fs := c.Flags()
	fs.StringVar(&f.module, "module", "", "run this module instead of the one in the program")
	fs.StringVar(&f.readyFile, "ready-file", "", "write addresses and files to this file, as JSON, once the listeners are open")
	return c
}

// define defines the flags that say what the configuration is.
func (f *serveFlags) define(c *cobra.Command) {
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.config, "config", "", "configuration file (vouchmq.yaml)")
	fs.StringVar(&f.state, "state", server.DevelopmentDir, "folder of a development broker")
	fs.StringVar(&f.listen, "listen", server.DefaultTLSAddress, "address of a development broker for attested and ordinary TLS; port 0 is a free one")
	fs.StringVar(&f.plain, "listen-plain", server.DefaultPlainAddress, "its address for plain TCP, - for none")
	fs.StringVar(&f.engine, "engine", string(server.Wasm), "how the core runs: wasm, or native for comparison")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&f.adminSocket, "admin-socket", "", "socket for administration (default of a development broker: admin.sock in its folder), - for none")
	fs.StringVar(&f.metrics, "metrics", "", "address for metrics and health, on this machine (default: none)")
	fs.DurationVar(&f.quoteTime, "quote-time", 0, "how long the simulated TEE takes for a quote, as hardware does: for measurements")
	c.MarkFlagsMutuallyExclusive("config", "state")
	c.MarkFlagsMutuallyExclusive("config", "listen")
	c.MarkFlagsMutuallyExclusive("config", "listen-plain")
}

// keyFlags are the flags that stand for a key of the configuration, which they override.
var keyFlags = []struct{ flag, path string }{
	{"state", "state"},
	{"listen", "listeners[" + server.AttestedListener + "].address"},
	{"listen-plain", "listeners[" + server.PlainListener + "].address"},
	{"engine", "engine"},
	{"quote-time", "sim.quote_time"},
	{"admin-socket", "admin.socket"},
	{"metrics", "metrics.address"},
	{"log-level", "log.level"},
	{"log-format", "log.format"},
}

// foreign are variables that begin as those of the configuration do, and are not: of other commands, and of the project's tests, which
// start brokers, too.
var foreign = []string{passwordEnv, socketEnv, "VOUCHMQ_SAMPLES", "VOUCHMQ_EVERY_BIT", "VOUCHMQ_SEED", "VOUCHMQ_ROUNDS"}

// read reads flags, environment and file. flags may be nil.
func (f *serveFlags) read(flags *pflag.FlagSet) (*settings.Settings, error) {
	source := settings.Source{Base: server.Defaults(), Environ: os.Environ(), Ignored: foreign}
	if f.config == "" {
		source.Base, source.Optional = server.DevelopmentDefaults(), []string{"policy"}
		f.shape(&source.Base, flags)
		source.Base.Admin.Socket = f.developmentSocket()
	} else {
		text, err := os.ReadFile(f.config)
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		source.Name, source.Text = f.config, text
	}
	for _, k := range keyFlags {
		if flags == nil {
			break
		}
		if flag := flags.Lookup(k.flag); flag != nil && flag.Changed && !(k.flag == "listen-plain" && f.plain == "-") {
			source.Flags = append(source.Flags, settings.Flag{Path: k.path, Name: "--" + k.flag, Value: valueOf(flag)})
		}
	}
	return settings.Read(source)
}

// valueOf is what a flag says, as it would stand in the file: a path is relative to where the flag was given, and - is
// nothing.
func valueOf(flag *pflag.Flag) string {
	value := flag.Value.String()
	if flag.Name != "admin-socket" {
		return value
	}
	if value == "-" {
		return ""
	}
	if absolute, err := filepath.Abs(value); err == nil {
		return absolute
	}
	return value
}

// shape makes the listeners of a development broker what --listen-plain says. To give its address is to mean it, also
// one beyond this machine.
func (f *serveFlags) shape(base *settings.File, flags *pflag.FlagSet) {
	if f.plain == "-" {
		base.Listeners = slices.DeleteFunc(base.Listeners, func(l settings.Listener) bool { return l.Name == server.PlainListener })
		return
	}
	if flags.Changed("listen-plain") {
		base.Listeners[0].Insecure = true
	}
}

// developmentSocket is the socket for administration of a broker without a file, unless its folder has too long a name
// for a socket.
func (f *serveFlags) developmentSocket() string {
	path := filepath.Join(f.state, admin.SocketFile)
	if len(path) > admin.MaxSocketPath {
		return ""
	}
	return path
}

// folder is what paths in the configuration are relative to.
func (f *serveFlags) folder() string {
	if f.config == "" {
		return ""
	}
	return filepath.Dir(f.config)
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

// open opens what settings name, and the log.
func (f *serveFlags) open(s *settings.Settings, c *cobra.Command, sockets *server.Sockets, log *logging) (*server.Opened, error) {
	if err := log.open(c.ErrOrStderr(), s.Log); err != nil {
		return nil, err
	}
	wasm, err := f.moduleBytes(server.Engine(s.Engine))
	if err != nil {
		return nil, err
	}
	shown, err := newRedactor()
	if err != nil {
		return nil, err
	}
	return server.Open(s, server.Opening{
		Module: wasm, Now: time.Now(), Log: log.Logger, Level: &log.level, Sockets: sockets, Dir: f.folder(), Version: version, Redact: shown,
	})
}

// newRedactor returns what shows names in the log, with a key that nobody else has.
func newRedactor() (redact.Func, error) {
	key, err := redact.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return redact.With(key)
}

// logging is the log of the process: its level may change, its form stays.
type logging struct {
	*slog.Logger
	level slog.LevelVar
}

// open makes the log.
func (l *logging) open(w io.Writer, settings settings.Log) error {
	if err := l.level.UnmarshalText([]byte(settings.Level)); err != nil {
		return err
	}
	options := &slog.HandlerOptions{Level: &l.level}
	if l.Logger = slog.New(slog.NewTextHandler(w, options)); settings.Format == "json" {
		l.Logger = slog.New(slog.NewJSONHandler(w, options))
	}
	return nil
}

func (f *serveFlags) run(c *cobra.Command) error {
	passed, err := systemd.Sockets()
	if err != nil {
		return err
	}
	sockets, log := server.NewSockets(passed), new(logging)
	read := func() (*settings.Settings, error) { return f.read(c.Flags()) }
	told, err := read()
	if err != nil {
		return explainSettings(err)
	}
	opened, err := f.openEnrolled(told, c, sockets, log)
	if errors.As(err, new(interrupted)) {
		return nil // nothing was open yet
	}
	if err != nil {
		return explainSettings(err)
	}
	opened.Warn(log.Logger)
	broker, err := server.Start(c.Context(), opened.Config)
	if err != nil {
		return explainStart(err)
	}
	defer broker.Shutdown(context.Background()) // again, if it has been called
	if left := sockets.Close(); len(left) > 0 {
		log.Warn("systemd passed sockets that no listener names", "sockets", left)
	}
	ready, err := announce(broker, opened.State)
	if err != nil {
		return err
	}
	writeBanner(c.ErrOrStderr(), ready, broker.Config(), opened.State)
	asked := make(chan os.Signal, 4) // before anybody can know that there is a process to ask
	signal.Notify(asked, local.StatsSignal, syscall.SIGHUP)
	defer signal.Stop(asked)
	if f.readyFile != "" {
		if err := ready.WriteFile(f.readyFile); err != nil {
			return err
		}
		defer os.Remove(f.readyFile)
	}
	keeper := server.NewKeeper(server.KeeperConfig{
		Server: broker, Opened: opened, Read: read, Log: log.Logger,
		Reloaded: func(o *server.Opened) error { return rewriteBundle(broker, o, log) },
	})
	broker.OnReload(keeper.Reload)
	return serveUntilSignal(c.Context(), asked, c.OutOrStdout(), broker, keeper, systemd.Notifier{Log: log.Logger})
}

// rewriteBundle writes the bundle anew if what it pins has changed.
func rewriteBundle(broker *server.Server, opened *server.Opened, log *logging) error {
	if opened.State.Enrolment != nil {
		return nil // bundles are the owner's
	}
	path, fresh, err := opened.State.WriteBundle(broker, time.Now())
	if err == nil && fresh {
		log.Warn("BUNDLE WRITTEN ANEW: what evidence claims has changed, and clients with the old bundle refuse this broker from now on", "bundle", path)
	}
	return err
}

// explainSettings adds how to see all of a configuration.
func explainSettings(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return withHint(err, "the user that this runs as may not read or write that: give it the right to, or start it as another user or in another folder")
	case errors.Is(err, syscall.ENOSPC):
		return withHint(err, "free some space there and start it again: what has been made is kept")
	case errors.Is(err, settings.ErrSettings):
		return withHint(err, "the keys are in docs/configuration.md; see also: vouchmq config check --help")
	}
	return err
}

// explainStart adds what to do about a port that is taken.
func explainStart(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return withHint(err, "end the other broker, or choose other ports, in the configuration or by --listen 127.0.0.1:0 --listen-plain 127.0.0.1:0")
	}
	return err
}

// announce writes the bundle and gathers what others need to know of the running broker.
func announce(broker *server.Server, state *server.State) (local.Ready, error) {
	bundle, ca := "", state.Path(server.OwnerCAFile)
	if state.Enrolment == nil {
		var err error
		if bundle, _, err = state.WriteBundle(broker, time.Now()); err != nil {
			return local.Ready{}, err
		}
	} else {
		ca = state.Enrolment.OwnerFile
	}
	r := local.Ready{
		ServerPID: os.Getpid(),
		Engine:    string(broker.Config().Engine),
		Module:    broker.Identity().Module.String(),
		Listeners: map[string]string{},
		Bundle:    bundle,
		OwnerCA:   ca,
		ClientKey: state.Path(server.SimKeyFile),
	}
	for _, l := range broker.Config().Listeners {
		r.Listeners[l.Name] = broker.Addr(l.Name).String()
	}
	return r, nil
}
