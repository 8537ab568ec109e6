package server

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/tee"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Server is a broker. Its methods may be called by any goroutine.
type Server struct {
	mu        sync.RWMutex // guards what a reload changes: the next three
	config    Config
	identity  attest.Identity
	listeners map[string]*listener

	reloading sync.Mutex  // held while listeners come and go
	draining  atomic.Bool // no connection is let in any more

	log       *slog.Logger
	module    *engine.Module // nil for the native engine
	engine    *engine.Engine
	transport *transport.Transport
	stop      sync.Once
	stopErr   error

	statsMu      sync.Mutex
	statsWaiters []chan abi.Stats

	questions questions
	sight     sight
	logins    logins
	watch     watch

	collateral keeping
}

// listener is what belongs to the name of a listener. It stays when the listener is closed, for its connections.
type listener struct {
	kind   Kind
	gate   *gate               // nil if nothing is to be secured
	socket *transport.Listener // nil if it is closed
}

// Stats is what a broker has counted, and holds now.
type Stats struct {
	Core      abi.Stats
	Engine    engine.Metrics
	Transport transport.Stats
}

// Start starts a broker: it opens the sockets, so that one that is taken is found before all else, compiles the module, starts the core,
// and lets connections in. When it returns without an error, all listeners accept connections. ctx bounds the start only.
func Start(ctx context.Context, config Config) (*Server, error) {
	config = config.withDefaults()
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	config.shareQuotes(nil)
	s := &Server{config: config, log: config.Log, listeners: map[string]*listener{}}
	s.watch.clock = config.Clock
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
	places, err := s.bind(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, places.abandon()) }()
	if err := tee.Measure(ctx, s.config.Attester, s.identity.Module, s.log); err != nil {
		return err
	}
	if err := s.prepareLogins(&s.config); err != nil { // before the core, which is told the methods
		return err
	}
	cores, err := s.cores(ctx)
	if err != nil {
		return err
	}
	s.transport = transport.New(transport.Config{
		Limits: s.config.Limits.Transport, Log: s.config.Log, Stats: s.answerStats, Answer: s.questions.answer,
		Redact: s.config.Sight.Redact, Quiet: s.config.Sight.Quiet,
	})
	s.engine, err = engine.Start(engine.Config{
		Core: cores, Applier: s.transport, Configuration: s.config.coreConfig(), Log: s.config.Log,
	})
	if err != nil {
		return err
	}
	s.transport.Start(s.engine)
	if err := places.clients.addTerms(ctx, &s.config); err != nil {
		return err
	}
	s.logCertificates(nil, &s.config)
	s.warnInClear(nil, &s.config)
	s.warnNotAsked(nil, &s.config)
	if err := s.open(&s.config, places.takeClients()); err != nil {
		return err
	}
	s.keepCollateral()
	s.startSight(places)
	return nil
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

// announce logs that a listener is open, loudly if what goes over it can be read on the way.
func (s *Server) announce(l *Listener, address net.Addr) {
	attrs := []any{"listener", l.Name, "kind", string(l.Kind), "address", address.String()}
	s.log.Info("listening", attrs...)
	if l.plain() && beyondThisMachine(address) {
		s.log.Warn("PLAIN LISTENER BEYOND THIS MACHINE: whoever is on the way can read and change all messages of "+
			"listener "+l.Name+"; bind it to 127.0.0.1, or make it attested", attrs...)
	}
}

// Addr returns the address that a listener is bound to, nil if there is no such listener.
func (s *Server) Addr(name string) net.Addr {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if l := s.listeners[name]; l != nil && l.socket != nil {
		return l.socket.Addr()
	}
	return nil
}

// Identity returns what the broker's evidence claims.
func (s *Server) Identity() attest.Identity {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.identity
}

// Config returns the configuration that the broker runs with, defaults filled in.
func (s *Server) Config() Config {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.config
}

// Ready reports whether clients are welcome: from the return of Start to the beginning of Shutdown.
func (s *Server) Ready() bool { return !s.draining.Load() }

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

// What clients are told when the broker stops.
const (
	reasonShuttingDown = 0x8B
	reasonUseAnother   = 0x9C // with a server reference
)

// Shutdown stops the broker: no new connections; clients are told, with what was still to be written, and with where
// else to go if there is a server reference; then everything ends. It takes ShutdownTimeout at most, less if ctx ends
// before.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() { s.stopErr = s.shutdown(ctx) })
	return s.stopErr
}

func (s *Server) shutdown(ctx context.Context) error {
	began := time.Now()
	s.draining.Store(true)
	s.reloading.Lock() // a reload that is under way opens no listener after this
	defer s.reloading.Unlock()
	config := s.Config()
	ctx, cancel := context.WithTimeout(ctx, config.ShutdownTimeout)
	defer cancel()
	err := s.transport.CloseListeners()
	s.sayFarewell(config.Options.ServerReference)
	if waitErr := s.transport.Wait(ctx); waitErr != nil {
		s.log.Warn("some connections did not end in time and are cut", "connections", s.transport.Stats().Connections)
	}
	err = errors.Join(err, s.release())
	s.log.Info("broker stopped", "took", time.Since(began).Round(time.Millisecond), "error", logged(err))
	return err
}

// sayFarewell has the core end all connections: as an administrator has said, or to another server if there is one.
func (s *Server) sayFarewell(reference string) {
	if f := s.sight.farewell.Load(); f != nil && f.reason != 0 {
		s.engine.PostNow(abi.EventShutdown, 0, 0, uint32(f.reason), []byte(cmp.Or(f.reference, reference)))
		return
	}
	if reference == "" {
		s.engine.PostNow(abi.EventShutdown, 0, 0, reasonShuttingDown, nil)
		return
	}
	s.engine.PostNow(abi.EventShutdown, 0, 0, reasonUseAnother, []byte(reference))
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
	s.watch.stop()
	s.collateral.stop()
	if s.engine != nil {
		errs = append(errs, s.transport.Close())
		s.engine.Close()
	}
	s.logins.close()
	if s.module != nil {
		errs = append(errs, s.module.Close())
	}
	return errors.Join(errs...)
}
