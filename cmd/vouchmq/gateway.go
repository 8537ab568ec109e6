package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/gateway"
	"github.com/vouchmq/vouchmq/internal/server/settings"
	"github.com/vouchmq/vouchmq/internal/server/systemd"
	"github.com/vouchmq/vouchmq/internal/transport"
)

type gatewayFlags struct {
	bundle, address, instance string
	attest                    attestFlags
	listen                    []string
	insecure                  bool
	connections               int
	watch                     time.Duration
	asking                    askFlags
	log                       settings.Log
	readyFile                 string
}

func newGateway() *cobra.Command {
	var f gatewayFlags
	c := &cobra.Command{
		Use:   "gateway --bundle FILE [--listen HOST:PORT | --listen unix:PATH]...",
		Short: "Let any MQTT client of this machine reach an attested broker",
		Long: `Let any MQTT client of this machine reach an attested broker. Clients speak plain MQTT, of any version, to the gateway.
For each it connects to the broker of the bundle, verifies it, and only then passes on what the client says; with
--attest it shows the broker evidence of its own. A client whose broker is away, or is not what the bundle says, gets a
CONNACK that says so (MQTT 5: 0x88 or 0x87; MQTT 3.1.1: 3), and the reason is in the log.

Whoever can connect to the gateway speaks through it. It listens on this machine only, unless --insecure is given; a Unix
socket is for its own user and group.

Gateway and broker attest again on connections that stand, as often as the broker demands and soon after its configuration
has changed; clients notice nothing. If the broker is not what it should be any more, they are disconnected.

SIGINT and SIGTERM end it in good order, a second signal at once. SIGHUP reads the bundle anew, for connections to come and
those that stand.

Exit status: 0 after a signal; 1 otherwise.`,
		Example: `  vouchmq gateway --bundle plant.bundle
  vouchmq gateway --bundle plant.bundle --listen 127.0.0.1:1884 --listen unix:/run/vouchmq/gateway.sock
  vouchmq gateway --bundle plant.bundle --attest auto --id gateway-7
  vouchmq gateway --bundle plant.bundle --attest tpm:certificate=ak.pem --attest-measure --id gateway-7
  vouchmq gateway --bundle plant.bundle --cert gateway-7.pem --key gateway-7.key`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.bundle, "bundle", "", "bundle of the broker; required")
	fs.StringArrayVar(&f.listen, "listen", []string{"127.0.0.1:1883"}, "where clients connect: HOST:PORT or unix:PATH; may be repeated")
	fs.StringVar(&f.address, "address", "", "host:port of the broker (default: those of the bundle)")
	f.attest.register(fs)
	f.asking.register(fs)
	fs.StringVar(&f.instance, "id", "", "instance that its evidence names (default: vouchmq-PROCESS)")
	fs.BoolVar(&f.insecure, "insecure", false, "listen beyond this machine, too, where anybody may read along and speak through the gateway")
	fs.IntVar(&f.connections, "max-connections", gateway.DefaultMaxConnections, "clients at once; more are closed as they come")
	fs.DurationVar(&f.watch, "watch", gateway.DefaultWatch, "attest again on some connection after so long without, to notice a new configuration of the broker; 0: never")
	fs.StringVar(&f.log.Level, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.log.Format, "log-format", "text", "text or json")
	fs.StringVar(&f.readyFile, "ready-file", "", "write addresses to this file, as JSON, once the listeners are open")
	return c
}

func (f *gatewayFlags) run(c *cobra.Command) error {
	log, err := f.openLog(c.ErrOrStderr())
	if err != nil {
		return err
	}
	broker, err := f.broker(c.Context(), log)
	if err != nil {
		return err
	}
	listeners, err := f.open(log)
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP) // before anybody can know that there is a gateway
	ready := gatewayReady(f.bundle, listeners)
	log.Info("gateway listens", "listeners", ready.Listeners, "service", broker.bundle.Load().Service, "owner", broker.bundle.Load().Fingerprint().String())
	if f.readyFile != "" {
		if err := ready.WriteFile(f.readyFile); err != nil {
			return err
		}
		defer os.Remove(f.readyFile)
	}
	err = f.serve(c.Context(), asked, broker, log, listeners)
	log.Info("gateway stopped")
	return err
}

// openLog checks what the flags say about the log, and makes it.
func (f *gatewayFlags) openLog(w io.Writer) (*slog.Logger, error) {
	if f.log.Format != "text" && f.log.Format != "json" {
		return nil, fmt.Errorf("--log-format %q: use text or json", f.log.Format)
	}
	log := new(logging)
	if err := log.open(w, f.log); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", f.log.Level)
	}
	return log.Logger, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // again, if the gateway has done so
	}
}

// gatewayReady says where clients connect: "mqtt" is the first listener, "mqtt-2" the second.
func gatewayReady(bundle string, listeners []net.Listener) local.Ready {
	r := local.Ready{ServerPID: os.Getpid(), Bundle: bundle, Listeners: map[string]string{}}
	for i, l := range listeners {
		name := "mqtt"
		if i > 0 {
			name = fmt.Sprintf("mqtt-%d", i+1)
		}
		r.Listeners[name] = l.Addr().String()
	}
	return r
}

// serve runs the gateway until ctx ends, reads the bundle anew when it is asked to, and keeps the service manager informed.
func (f *gatewayFlags) serve(ctx context.Context, asked <-chan os.Signal, broker *gatewayBroker, log *slog.Logger, listeners []net.Listener) error {
	manager := systemd.Notifier{Log: log}
	working, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	manager.Ready()
	renewed := make(chan struct{}, 1)
	tasks.Go(func() { broker.reloadWhenAsked(working, asked, renewed, manager, log) })
	tasks.Go(func() { manager.Watch(working, func(context.Context) error { return nil }) })
	return gateway.Serve(ctx, gateway.Config{
		Dial: broker.dial, Log: log, MaxConnections: f.connections, Watch: f.watch, Renewed: renewed, Reappraise: broker.reappraise,
		Explain: func(err error) string { return outcomeOf(err).hint },
	}, listeners...)
}

// gatewayBroker is the broker that a gateway carries its clients to.
type gatewayBroker struct {
	*attestedBroker
	log   *slog.Logger
	noted sync.Once // that a certificate is given in vain
}

func (f *gatewayFlags) broker(ctx context.Context, log *slog.Logger) (*gatewayBroker, error) {
	if f.bundle == "" {
		return nil, withHint(errors.New("a gateway needs to know whom to trust: --bundle FILE"), bundleHint)
	}
	if f.connections < 1 {
		return nil, fmt.Errorf("--max-connections %d: it must be at least 1", f.connections)
	}
	if f.watch < 0 || f.watch > 0 && f.watch < time.Second {
		return nil, fmt.Errorf("--watch %v: it must be a second at least, or 0", f.watch)
	}
	b, err := openAttestedBroker(f.bundle)
	if err != nil {
		return nil, err
	}
	b.options.Address = f.address
	if err = f.asking.apply(&b.options); err != nil {
		return nil, err
	}
	if err = f.attest.apply(ctx, &b.options, nameOr(f.instance, ""), f.asking.collateral, log); err != nil {
		return nil, err
	}
	return &gatewayBroker{attestedBroker: b, log: log}, nil
}

// dial does what gateway.Config.Dial asks for.
func (b *gatewayBroker) dial(ctx context.Context) (net.Conn, *client.Verdict, error) {
	conn, verdict, err := client.Dial(ctx, b.bundle.Load(), b.options)
	if err != nil {
		return nil, verdict, err // conn would be an interface that is not nil
	}
	if b.options.Certificate != nil && !conn.Peer().CertificateAsked {
		b.noted.Do(func() { b.log.Warn(notAsked) })
	}
	return conn, verdict, nil
}

// reloadWhenAsked reloads until ctx ends, and tells the service manager, and on renewed that there is another bundle.
func (b *gatewayBroker) reloadWhenAsked(ctx context.Context, asked <-chan os.Signal, renewed chan<- struct{}, manager systemd.Notifier, log *slog.Logger) {
	for {
		select {
		case <-asked:
			manager.Reloading()
			if b.reload(log) {
				select {
				case renewed <- struct{}{}:
				default: // it will look soon
				}
			}
			manager.Ready()
		case <-ctx.Done():
			signal.Ignore(syscall.SIGHUP) // it would end the process in the middle of its farewell
			manager.Stopping()
			return
		}
	}
}

// reload reads the bundle anew, and reports whether there is another.
func (b *gatewayBroker) reload(log *slog.Logger) bool {
	if err := b.attestedBroker.reload(); err != nil {
		log.Error("the bundle is not taken over; the one before stays in force", "file", b.path, "reason", err)
		return false
	}
	log.Info("bundle read anew", "file", b.path, "number", b.bundle.Load().Serial)
	return true
}

// gatewaySocketMode lets the gateway's user and group connect.
const gatewaySocketMode = 0o660

// open opens the listeners.
func (f *gatewayFlags) open(log *slog.Logger) (listeners []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	for _, address := range f.listen {
		l, err := f.openOne(address, log)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (f *gatewayFlags) openOne(address string, log *slog.Logger) (net.Listener, error) {
	network, where := (&settings.Listener{Address: address}).Network()
	switch network {
	case "unix":
		path, err := filepath.Abs(where)
		if err != nil {
			return nil, err
		}
		return transport.ListenUnix(path, gatewaySocketMode)
	case "tcp":
		return f.openTCP(where, log)
	}
	return nil, fmt.Errorf("--listen %s: use HOST:PORT or unix:PATH", address)
}

func (f *gatewayFlags) openTCP(address string, log *slog.Logger) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("--listen %s: it is not HOST:PORT or unix:PATH", address)
	}
	if !settings.Loopback(address) {
		if !f.insecure {
			return nil, withHint(fmt.Errorf("--listen %s can be reached from other machines: what clients send could be read on the way, and anybody there could speak through this gateway", address),
				"listen on 127.0.0.1, run a gateway on each machine, or say --insecure")
		}
		log.Warn("THIS GATEWAY LISTENS BEYOND THIS MACHINE, WITHOUT ENCRYPTION: whoever is on the way reads along, and whoever can connect speaks to the broker as this gateway", "listen", address)
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, withHint(err, "another broker or gateway listens there: choose another port with --listen")
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, withHint(err, "ports below 1024 are for root, and for whom root lets (CAP_NET_BIND_SERVICE): choose another with --listen")
	}
	return l, err
}
