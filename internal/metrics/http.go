package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vouchmq/vouchmq/internal/httpd"
)

// Config says where metrics are shown.
type Config struct {
	Address string `yaml:"address" doc:"host:port of /metrics, /healthz and /readyz; empty is none"` // port 0 is any free one
	// Insecure lets other machines read metrics without encryption or authentication: they may tell what clients do.
	Insecure bool `yaml:"insecure" doc:"other machines may read them, without encryption and password"`
}

// DefaultAddress is the usual address for metrics.
const DefaultAddress = "127.0.0.1:9464"

// ErrBeyondLoopback says that an address can be reached from other machines, and nobody has said that this is meant.
var ErrBeyondLoopback = errors.New("metrics can be read from other machines")

// Check says what is wrong with a configuration.
func (c Config) Check() error {
	if c.Address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return fmt.Errorf("metrics.address %q is not host:port: %w", c.Address, err)
	}
	if ip := net.ParseIP(host); c.Insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("metrics.address %q: %w, and they may tell what clients do: use 127.0.0.1, or say insecure: true",
		c.Address, ErrBeyondLoopback)
}

// Options are what is shown, and where. All but Log must be set.
type Options struct {
	Config
	Source Source
	Ready  func() error     // nil if clients can connect; why not otherwise
	Now    func() time.Time // for the age of snapshots
	Log    *slog.Logger     // nil is nowhere
}

// Bounds of what is done for anybody, besides those of package httpd.
const (
	maxScrapes    = 4 // at a time
	writeTimeout  = 10 * time.Second
	healthTimeout = time.Second
)

// Listen opens the address and answers GET and HEAD of /metrics, /healthz and /readyz, until the server is closed.
func Listen(ctx context.Context, o Options) (*httpd.Server, error) {
	socket, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	return Serve(socket, o), nil
}

// Open opens the address, at which nobody is answered until Serve.
func (c Config) Open(ctx context.Context) (net.Listener, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w (is another program there?)", err)
	}
	return socket, nil
}

// Serve is Listen for an address that is open.
func Serve(socket net.Listener, o Options) *httpd.Server {
	return httpd.Serve(socket, Handler(o), httpd.Options{WriteTimeout: writeTimeout, Log: o.Log})
}

// Handler returns what answers.
func Handler(o Options) http.Handler {
	source := NewCached(o.Source, DefaultMaxAge, o.Now)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(NewRegistry(source), promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: writeTimeout / 2,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answer(w, health(r.Context(), source))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, o.Ready()) })
	return mux
}

// health asks whether the core steps.
func health(ctx context.Context, source Source) error {
	ctx, cancel := context.WithTimeoutCause(ctx, healthTimeout, errors.New("the core did not answer within a second"))
	defer cancel()
	_, err := source.Snapshot(ctx)
	return err
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok")
}
