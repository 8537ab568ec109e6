package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/vouchmq/vouchmq/attest"
)

// ErrFixed says that a reload would change what cannot be changed while the broker runs.
var ErrFixed = errors.New("this cannot be changed while the broker runs: restart it")

// ErrStopping says that the broker is being shut down.
var ErrStopping = errors.New("the broker is being shut down")

// Reload puts another configuration in force, all of it or nothing. Connections stay, but for peers that would not
// be let in any more, who are disconnected (0x87), and those whose evidence now gives them another identity (0x98).
//
// What is measured, and what names the broker, cannot change: engine, module, memory, service, owner, and the kind of
// a listener. An error that is an ErrFixed names them.
//
// Policy, listeners and what they demand are part of what evidence claims. Handshakes from now on claim the new
// configuration; a client whose bundle pins the old one is right to refuse from then on, and needs a new bundle.
func (s *Server) Reload(ctx context.Context, config Config) error {
	return s.reload(ctx, config, s.prepareLogins)
}

// Refresh is Reload for a configuration in which nothing but certificates and revocation lists has changed: files of
// users and keys of tokens are not read anew.
func (s *Server) Refresh(ctx context.Context, config Config) error {
	return s.reload(ctx, config, s.keepLogins)
}

func (s *Server) reload(ctx context.Context, config Config, logins func(*Config) error) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	if s.draining.Load() {
		return ErrStopping
	}
	config = config.withDefaults()
	old := s.Config()
	if err := errors.Join(config.check(), fixed(&old, &config)); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	config.shareQuotes(old.batcher)
	identity, err := config.Identity()
	if err != nil {
		return err
	}
	change, err := s.prepare(ctx, &config, identity, logins)
	if err != nil {
		return err
	}
	return s.commit(&old, &config, change)
}

// fixed says what a reload would change and cannot.
func fixed(old, config *Config) error {
	var names []string
	note := func(name string, differs bool) {
		if differs {
			names = append(names, name)
		}
	}
	note("engine", old.Engine != config.Engine)
	note("module", !bytes.Equal(old.Module, config.Module))
	note("memory", old.MemoryLimit != config.MemoryLimit)
	note("service", old.Service != config.Service)
	note("owner (state)", old.OwnerKey != config.OwnerKey)
	note("runtime", old.Runtime != config.Runtime)
	note("whether there is authentication", (old.Authentication == nil) != (config.Authentication == nil))
	for i := range config.Listeners {
		before := old.listener(config.Listeners[i].Name)
		note("kind of listener "+config.Listeners[i].Name, before != nil && before.Kind != config.Listeners[i].Kind)
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(names, ", "), ErrFixed)
}

func (c *Config) listener(name string) *Listener {
	i := slices.IndexFunc(c.Listeners, func(l Listener) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Listeners[i]
}

// change is a configuration that is ready to be put in force: nothing of it can fail any more.
type change struct {
	identity attest.Identity
	terms    map[string]*terms // by listener; nil for plain ones
	sockets  []opened
}

// opened is a socket that is to become a listener.
type opened struct {
	listener *Listener
	socket   net.Listener
}

// abandon closes what has been opened in vain.
func (c *change) abandon() {
	for _, o := range c.sockets {
		_ = o.socket.Close() // nobody has used it
	}
}

// prepare makes everything that a configuration needs beside what runs already; logins is its last step.
func (s *Server) prepare(ctx context.Context, config *Config, identity attest.Identity, logins func(*Config) error) (*change, error) {
	c, err := s.prepareListeners(ctx, config, identity)
	if err != nil {
		return nil, err
	}
	if err := logins(config); err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

func (s *Server) prepareListeners(ctx context.Context, config *Config, identity attest.Identity) (*change, error) {
	c := &change{identity: identity, terms: map[string]*terms{}}
	err := c.addTerms(ctx, config)
	if err == nil {
		err = s.openSockets(ctx, config, c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// addTerms makes what the listeners let in by.
func (c *change) addTerms(ctx context.Context, config *Config) error {
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if l.plain() {
			continue
		}
		t, err := config.terms(ctx, l, c.identity)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		c.terms[l.Name] = t
	}
	return nil
}

// openSockets opens the sockets of listeners that are not open yet. Nobody is let in there before the change is in force.
func (s *Server) openSockets(ctx context.Context, config *Config, c *change) error {
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if s.isOpen(l) {
			continue
		}
		socket, err := l.open(ctx, config.Sockets)
		if err != nil {
			c.abandon()
			return fmt.Errorf("listener %s: %w", l.Name, err)
		}
		c.sockets = append(c.sockets, opened{l, socket})
	}
	return nil
}

// isOpen reports whether a listener accepts at its address already.
func (s *Server) isOpen(l *Listener) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	running := s.listeners[l.Name]
	before := s.config.listener(l.Name)
	return running != nil && running.socket != nil && before != nil && before.Address == l.Address && before.Mode == l.Mode
}

// commit puts a change in force. New handshakes are by the new terms first; then the core judges by the new rules; then
// those are ended who were let in by terms that no longer hold.
func (s *Server) commit(old, config *Config, c *change) error {
	s.swapTerms(config, c)
	err := s.reconfigure(config)
	s.engine.Configure(config.coreConfig())
	later := s.transport.SetLimits(config.Limits.Transport)
	if config.LevelVar != nil {
		config.LevelVar.Set(config.Level)
	}
	s.mu.Lock()
	before := s.identity
	s.config, s.identity = *config, c.identity
	s.mu.Unlock()
	err = errors.Join(err, s.closeRemoved(config, c), s.open(config, c))
	ended := s.transport.Recheck()
	s.announceConfig(before, config, c)
	s.logCertificates(old, config)
	s.warnInClear(old, config)
	s.warnNotAsked(old, config)
	s.log.Info("configuration is in force", "changed", differences(old, config), "config", attestedDigest(c.identity), "ended", ended)
	if len(later) > 0 {
		s.log.Warn("LIMITS THAT TAKE A RESTART have changed; the old ones stay until then", "limits", later)
	}
	return err
}

func attestedDigest(id attest.Identity) string { return id.Config.String() }

// swapTerms gives each gate its new terms. Those of listeners that are gone keep theirs, with the new policy.
func (s *Server) swapTerms(config *Config, c *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, l := range s.listeners {
		switch t := c.terms[name]; {
		case l.gate == nil:
		case t != nil:
			l.gate.now.Store(t)
		default:
			left := *l.gate.now.Load()
			left.policy, left.attestation = config.Policy, config.Attestation
			l.gate.now.Store(&left)
		}
	}
}

// reconfigure tells the listeners that stay open what happens to connections from now on.
func (s *Server) reconfigure(config *Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for i := range config.Listeners {
		l := &config.Listeners[i]
		if running := s.listeners[l.Name]; running != nil && running.socket != nil {
			errs = append(errs, running.socket.Reconfigure(s.listenConfig(config, l, running)))
		}
	}
	return errors.Join(errs...)
}

// closeRemoved closes the listeners that the configuration has no more, or at another address. Their connections stay.
func (s *Server) closeRemoved(config *Config, c *change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for name, l := range s.listeners {
		moved := slices.ContainsFunc(c.sockets, func(o opened) bool { return o.listener.Name == name })
		if l.socket == nil || config.listener(name) != nil && !moved {
			continue
		}
		s.log.Info("listener closed; its connections stay", "listener", name, "address", l.socket.Addr().String())
		errs = append(errs, l.socket.Close())
		l.socket = nil
	}
	return errors.Join(errs...)
}

// open makes listeners of the sockets of a change.
func (s *Server) open(config *Config, c *change) error {
	var errs []error
	for _, o := range c.sockets {
		s.mu.Lock()
		l := s.listeners[o.listener.Name]
		if l == nil || l.kind != o.listener.Kind {
			l = newListener(o.listener.Kind, c.terms[o.listener.Name], &s.watch)
			s.listeners[o.listener.Name] = l
		}
		socket, err := s.transport.Listen(o.socket, s.listenConfig(config, o.listener, l))
		l.socket = socket
		s.mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.announce(o.listener, socket.Addr())
	}
	return errors.Join(errs...)
}

func newListener(kind Kind, t *terms, w *watch) *listener {
	l := &listener{kind: kind}
	if t != nil {
		l.gate = &gate{watch: w}
		l.gate.now.Store(t)
	}
	return l
}

// differences names what two configurations do not have in common, for the log.
func differences(old, config *Config) []string {
	list := []string{}
	note := func(name string, differs bool) {
		if differs {
			list = append(list, name)
		}
	}
	note("policy", old.Policy.Digest() != config.Policy.Digest())
	note("limits", old.Limits != config.Limits)
	note("options", !sameOptions(old, config))
	note("authentication", !reflect.DeepEqual(old.Authentication, config.Authentication))
	note("attestation", old.Attestation != config.Attestation)
	note("guard", !reflect.DeepEqual(old.Guard, config.Guard))
	note("log level", old.Level != config.Level)
	note("certificate", !slices.EqualFunc(old.Certificate.Certificate, config.Certificate.Certificate, bytes.Equal))
	for i := range config.Listeners {
		l := &config.Listeners[i]
		before := old.listener(l.Name)
		note("listener "+l.Name+" (new)", before == nil)
		note("listener "+l.Name, before != nil && !before.same(l))
	}
	for i := range old.Listeners {
		note("listener "+old.Listeners[i].Name+" (gone)", config.listener(old.Listeners[i].Name) == nil)
	}
	return list
}
