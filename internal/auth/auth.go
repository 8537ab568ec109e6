package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vouchmq/vouchmq/internal/guard"
)

// Client is what is known of a client before it says anything.
type Client struct {
	Listener   string
	Address    netip.AddrPort // the real one, behind a proxy too; zero for Unix sockets
	User       string         // from a verified client certificate, "" if there is none
	Identities []string       // that the client's evidence holds for
}

// Authenticator finds out who clients are. Its methods may be called by many goroutines.
type Authenticator struct {
	log    *slog.Logger
	guard  *guard.Guard // nil: failures are not counted
	clock  guard.Clock
	secret [32]byte // for what is made up for unknown users

	reloading sync.Mutex
	state     atomic.Pointer[state]
}

// state is all that a reload replaces.
type state struct {
	config  Config
	sources []bound
	hashes  turns
}

// bound is a source and the listeners that it is for.
type bound struct {
	listeners []string
	source
}

// Option is something that an Authenticator can be given besides its configuration.
type Option func(*Authenticator)

// WithLog has failures of sources logged. Default: nowhere.
func WithLog(log *slog.Logger) Option { return func(a *Authenticator) { a.log = log } }

// WithGuard has failed logins counted, logged and delayed. Default: they are not.
func WithGuard(g *guard.Guard) Option { return func(a *Authenticator) { a.guard = g } }

// WithClock replaces the clock of the machine.
func WithClock(c guard.Clock) Option { return func(a *Authenticator) { a.clock = c } }

// New makes an Authenticator and reads the files that the configuration names. Close ends what it does in the
// background.
func New(c Config, options ...Option) (*Authenticator, error) {
	a := &Authenticator{log: slog.New(slog.DiscardHandler), clock: guard.SystemClock{}}
	for _, o := range options {
		o(a)
	}
	rand.Read(a.secret[:]) // never fails
	a.state.Store(&state{})
	if err := a.Reload(c); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload takes over a configuration and reads its files anew. Logins that are on their way go on with what they began
// with. After an error, which names the file and its line, all is as before.
func (a *Authenticator) Reload(c Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	old := a.state.Load()
	fresh := &state{config: c.withDefaults()}
	fresh.hashes = newTurns(fresh.config.MaxHashes)
	for i := range c.Sources {
		s, err := a.open(&c.Sources[i], old)
		if err != nil {
			fresh.closeExcept(old)
			return fmt.Errorf("sources[%d]: %w", i, err)
		}
		fresh.sources = append(fresh.sources, bound{c.Sources[i].Listeners, s})
	}
	a.state.Store(fresh)
	old.closeExcept(fresh)
	return nil
}

// open makes a source. What is fetched in the background goes on, if old had the same.
func (a *Authenticator) open(s *Source, old *state) (source, error) {
	switch {
	case s.Certificate != nil:
		return &certificateSource{*s.Certificate}, nil
	case s.Passwords != nil:
		return openPasswords(s.Passwords, a)
	case s.JWT != nil:
		return openJWT(s.JWT, a, old)
	default:
		return openHTTP(s.HTTP, a)
	}
}

// Close ends what is done in the background, and waits for it.
func (a *Authenticator) Close() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.state.Swap(&state{}).closeExcept(&state{})
}

// Methods are those of enhanced authentication that clients can use, for the core.
func (a *Authenticator) Methods() []string {
	for _, b := range a.state.Load().sources {
		if _, ok := b.source.(*passwordSource); ok {
			return []string{scramMethod}
		}
	}
	return nil
}

// closeExcept ends what sources do in the background, unless other has taken it over, and closes connections that they
// do not use.
func (s *state) closeExcept(other *state) {
	for _, b := range s.sources {
		if h, ok := b.source.(*httpSource); ok {
			h.client.CloseIdleConnections()
		}
	}
	kept := other.keySets()
	for _, k := range s.keySets() {
		if !slices.Contains(kept, k) {
			k.close()
		}
	}
}

func (s *state) keySets() (sets []*remoteKeys) {
	for _, b := range s.sources {
		if j, ok := b.source.(*jwtSource); ok && j.remote != nil {
			sets = append(sets, j.remote)
		}
	}
	return sets
}

// sourcesFor are those that judge clients of a listener.
func (s *state) sourcesFor(listener string) (list []source) {
	for _, b := range s.sources {
		if len(b.listeners) == 0 || slices.Contains(b.listeners, listener) {
			list = append(list, b.source)
		}
	}
	return list
}

// madeUp is what stands in place of something about a name that nobody has: the same each time, and nobody can tell
// what it will be.
func (a *Authenticator) madeUp(purpose, name string) []byte {
	mac := hmac.New(sha256.New, a.secret[:])
	mac.Write([]byte(purpose + "\x00" + name))
	return mac.Sum(nil)
}

func (a *Authenticator) pick(purpose, name string) uint64 {
	return binary.LittleEndian.Uint64(a.madeUp(purpose, name))
}
