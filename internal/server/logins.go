package server

import (
	"fmt"
	"slices"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/internal/auth"
	"github.com/vouchmq/vouchmq/internal/guard"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// logins find out who clients are. Without them clients are who their certificate or evidence says, or nobody.
type logins struct {
	authenticator *auth.Authenticator
	guard         *guard.Guard
}

// prepareLogins makes what a configuration needs to authenticate clients, or changes what is there: all of it or
// nothing. For a reload it is the last step before the configuration is in force. The methods of enhanced authentication
// that there are then become an option of the core.
func (s *Server) prepareLogins(config *Config) error {
	if config.Authentication == nil {
		config.offer(nil)
		return nil
	}
	if err := config.Guard.Check(); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	l := &s.logins
	if l.authenticator == nil {
		return l.make(config)
	}
	if err := l.authenticator.Reload(*config.Authentication); err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	config.offer(l.authenticator.Methods())
	return l.guard.Reload(config.Guard) // was checked
}

// keepLogins leaves everything as it is, for a configuration with the same logins as that in force.
func (s *Server) keepLogins(config *Config) error {
	if s.logins.authenticator != nil {
		config.offer(s.logins.authenticator.Methods())
		return nil
	}
	config.offer(nil)
	return nil
}

// offer makes methods of enhanced authentication an option of the core, and that of re-attestation where there is a
// listener for it.
func (c *Config) offer(methods []string) {
	c.Options.Methods = slices.Clone(methods)
	if slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Kind == Attested }) {
		c.Options.Methods = append(c.Options.Methods, atls.ReattestMethod)
	}
}

func (l *logins) make(config *Config) (err error) {
	options := guard.Options{Log: config.Log, Redact: config.Sight.Redact}
	if l.guard, err = guard.New(config.Guard, options); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	l.authenticator, err = auth.New(*config.Authentication, auth.WithLog(config.Log), auth.WithGuard(l.guard))
	if err != nil {
		return fmt.Errorf("authentication: %w", err)
	}
	config.offer(l.authenticator.Methods())
	return nil
}

// login begins the authentication of a client.
func (s *Server) login(c transport.Client) transport.Login {
	return s.logins.authenticator.Login(auth.Client{
		Listener: c.Listener, Address: c.Address, User: c.User, Identities: c.Identities,
	})
}

// close ends what runs beside.
func (l *logins) close() {
	if l.authenticator != nil {
		l.authenticator.Close()
	}
}

// listenConfig says what happens to the connections of a listener.
func (s *Server) listenConfig(config *Config, l *Listener, running *listener) transport.ListenConfig {
	f := &l.Settings
	c := transport.ListenConfig{Name: l.Name, Handshake: running.handshake(), Rates: transport.Rates{
		Messages: perSecond(f.Rates.Messages), Bytes: perSecond(f.Rates.Bytes), PerAddress: perSecond(f.Rates.Connect),
		MaxPerAddress: f.MaxPerAddress,
	}}
	if l.Kind == WS || l.Kind == WSS {
		c.WebSocket = new(transport.WebSocket)
		if f.WebSocket != nil {
			c.WebSocket.Path, c.WebSocket.Origins = f.WebSocket.Path, f.WebSocket.Origins
		}
	}
	if f.ProxyProtocol != nil {
		c.Proxy = &transport.Proxy{Trusted: f.ProxyProtocol.From}
	}
	if config.Authentication != nil {
		c.Login, c.Admit = s.login, s.logins.guard.Allowed
	}
	return c
}

func perSecond(n int) transport.Rate { return transport.Rate{PerSecond: float64(n)} }
