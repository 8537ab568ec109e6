package server

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Server is a broker. Its methods may be called by any goroutine.
type Server struct {
	config   Config
	identity attest.Identity

	module    *engine.Module // nil for the native engine
	engine    *engine.Engine
	transport *transport.Transport
	listeners map[string]*transport.Listener
	stop      sync.Once
	stopErr   error

	statsMu      sync.Mutex
	statsWaiters []chan abi.Stats

	draining  atomic.Bool // no connection is let in any more
	questions questions
	sight     sight
}

// Stats is what a broker has counted, and holds now.
type Stats struct {
	Core      abi.Stats
	Engine    engine.Metrics
	Transport transport.Stats
}

// Start starts a broker: it compiles the module, starts the core, and opens the listeners. When it returns
// without an error, all listeners accept connections. ctx bounds the start only.
func Start(ctx context.Context, config Config) (*Server, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	s := &Server{config: config, listeners: map[string]*transport.Listener{}}
	s.sight.started, s.sight.stopped = time.Now(), make(chan struct{})
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.identity, err = s.config.Identity(); err != nil {
		return err
	}
	cores, err := s.cores(ctx)
	if err != nil {
		return err
	}
	s.transport = transport.New(transport.Config{
		Limits: s.config.Limits.Transport, Log: s.config.Log, Stats: s.answerStats, Answer: s.questions.answer,
		Redact: s.config.Sight.Redact,
	})
	s.engine, err = engine.Start(engine.Config{
		Core: cores, Applier: s.transport, Configuration: s.config.coreConfig(), Log: s.config.Log,
	})
	if err != nil {
		return err
	}
	s.transport.Start(s.engine)
	for _, l := range s.config.Listeners {
		if err := s.listen(ctx, l); err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
	}
	return s.startSight(ctx)
}

// cores returns what makes the core.
func (s *Server) cores(ctx context.Context) (engine.Factory, error) {
	if s.config.Engine == Native {
		return engine.NativeFactory(func() engine.GoCore { return broker.New() }), nil
	}
	config := engine.ModuleConfig{MemoryLimit: s.config.MemoryLimit, Log: s.config.Log}
	_, _ = crand.Read(config.Seed[:]) // never fails, see its documentation
	module, err := engine.Compile(ctx, s.config.Module, config)
	if err != nil {
		return nil, fmt.Errorf("broker module: %w", err)
	}
	s.module = module
	return module, nil
}

func (s *Server) listen(ctx context.Context, l Listener) error {
	handshake, err := s.handshake(ctx, l)
	if err != nil {
		return err
	}
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", l.Address)
	if err != nil {
		return fmt.Errorf("%w (is another broker running there?)", err)
	}
	listener, err := s.transport.Listen(socket, transport.ListenConfig{Name: l.Name, Handshake: handshake})
	if err != nil {
		return err
	}
	s.listeners[l.Name] = listener
	s.announce(l, listener.Addr())
	return nil
}

// announce logs that a listener is open, loudly if what goes over it can be read on the way.
func (s *Server) announce(l Listener, address net.Addr) {
	attrs := []any{"listener", l.Name, "kind", string(l.Kind), "address", address.String()}
	s.config.Log.Info("listening", attrs...)
	if tcp, ok := address.(*net.TCPAddr); l.Kind == TCP && (!ok || !tcp.IP.IsLoopback()) {
		s.config.Log.Warn("PLAIN LISTENER BEYOND THIS MACHINE: whoever is on the way can read and change all messages of "+
			"listener "+l.Name+"; bind it to 127.0.0.1, or make it attested", attrs...)
	}
}

// handshake returns what secures the connections of a listener, nil for plain TCP.
func (s *Server) handshake(ctx context.Context, l Listener) (transport.Handshake, error) {
	if l.Kind == TCP {
		return nil, nil
	}
	config := atls.ServerConfig{
		Service: s.config.Service, Certificate: s.config.Certificate, MinVersion: s.config.MinTLS,
		HandshakeTimeout: s.config.Limits.Transport.HandshakeTimeout,
	}
	if l.Kind == Attested {
		config.Attester, config.ECHKeys, config.Identity = s.config.Attester, s.config.ECHKeys, s.identity
		config.RequireClientEvidence = l.RequireEvidence
		config.Clients = s.clients(l)
	}
	server, err := atls.NewServer(ctx, config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, socket net.Conn) (transport.Secured, error) {
		conn, err := server.Handshake(ctx, socket)
		if err != nil {
			return transport.Secured{}, err
		}
		return transport.Secured{Stream: conn, Identities: conn.Peer().Identities}, nil
	}, nil
}

// clients returns the appraiser of clients' evidence. With a policy that names no identity evidence is not
// looked at, unless it is required: then nobody gets in, and the policy is what to change.
func (s *Server) clients(l Listener) *policy.Appraiser {
	if len(s.config.Policy.Identities()) == 0 && !l.RequireEvidence || s.config.Registry == nil {
		return nil
	}
	return policy.NewAppraiser(s.config.Policy, s.config.Registry)
}

// Addr returns the address that a listener is bound to, nil if there is no such listener.
func (s *Server) Addr(listener string) net.Addr {
	if l := s.listeners[listener]; l != nil {
		return l.Addr()
	}
	return nil
}

// Identity returns what the broker's evidence claims.
func (s *Server) Identity() attest.Identity { return s.identity }

// Config returns the configuration that the broker runs with, defaults filled in.
func (s *Server) Config() Config { return s.config }

// Stats asks the core for its counters and adds those of engine and transport.
func (s *Server) Stats(ctx context.Context) (Stats, error) {
	answer := make(chan abi.Stats, 1)
	s.statsMu.Lock()
	s.statsWaiters = append(s.statsWaiters, answer)
	s.statsMu.Unlock()
	if !s.engine.PostNow(abi.EventStats, 0, 0, 0, nil) {
		return Stats{}, errShutDown
	}
	select {
	case core := <-answer:
		return Stats{Core: core, Engine: s.engine.Metrics(), Transport: s.transport.Stats()}, nil
	case <-ctx.Done():
		return Stats{}, fmt.Errorf("statistics of the broker core: %w", context.Cause(ctx))
	}
}

// answerStats gives the core's answer to all who have asked. The engine's goroutine calls it.
func (s *Server) answerStats(stats *abi.Stats) {
	s.statsMu.Lock()
	defer s.statsMu.Unlock()
	for _, w := range s.statsWaiters {
		w <- *stats // each has room for one
	}
	s.statsWaiters = nil
}

// Shutdown stops the broker: no new connections; clients are told, with what was still to be written; then
// everything ends. It takes ShutdownTimeout at most, less if ctx ends before.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() { s.stopErr = s.shutdown(ctx) })
	return s.stopErr
}

func (s *Server) shutdown(ctx context.Context) error {
	began := time.Now()
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, s.config.ShutdownTimeout)
	defer cancel()
	err := s.transport.CloseListeners()
	s.tellEnd()
	if waitErr := s.transport.Wait(ctx); waitErr != nil {
		s.config.Log.Warn("some connections did not end in time and are cut", "connections", s.transport.Stats().Connections)
	}
	err = errors.Join(err, s.release())
	s.config.Log.Info("broker stopped", "took", time.Since(began).Round(time.Millisecond), "error", logged(err))
	return err
}

func logged(err error) slog.Value {
	if err == nil {
		return slog.StringValue("none")
	}
	return slog.StringValue(err.Error())
}

// release ends whatever has been started.
func (s *Server) release() error {
	errs := []error{s.stopSight()}
	if s.engine != nil {
		errs = append(errs, s.transport.Close())
		s.engine.Close()
	}
	if s.module != nil {
		errs = append(errs, s.module.Close())
	}
	return errors.Join(errs...)
}
