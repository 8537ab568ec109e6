package guard

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Guard counts failed logins. Its methods may be called by many goroutines.
type Guard struct {
	log    *slog.Logger
	redact func(string) string
	clock  Clock

	mu       sync.Mutex
	config   Config
	exempt   []netip.Prefix
	failing  table
	locked   table
	failures uint64
	lockouts uint64
	refused  uint64
}

// Options are what a Guard needs besides its configuration. The zero value is usable.
type Options struct {
	Log    *slog.Logger             // gets a line for each failed login; nil is nowhere
	Redact func(name string) string // shows client ids and user names in the log; nil shows them as they are
	Clock  Clock                    // nil is that of the machine
}

// New makes a guard.
func New(c Config, o Options) (*Guard, error) {
	g := &Guard{log: o.Log, redact: o.Redact, clock: o.Clock, failing: newTable(), locked: newTable()}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if g.redact == nil {
		g.redact = Bounded
	}
	if g.clock == nil {
		g.clock = SystemClock{}
	}
	return g, g.Reload(c)
}

// Reload changes the configuration. What has been counted stays, and lockouts end when they were to end. After an
// error the guard is as before.
func (g *Guard) Reload(c Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	exempt, err := c.exemptions()
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config, g.exempt = c.withDefaults(), exempt
	return nil
}

// Allowed tells whether an address may connect: it is not locked out. The zero Addr, for a peer without address, may.
func (g *Guard) Allowed(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ok := g.allowed(a, g.clock.Now())
	if !ok {
		g.refused++
	}
	return ok
}

func (g *Guard) allowed(a netip.Addr, now time.Time) bool {
	if !g.watches(a) {
		return true
	}
	return g.locked.get(keyOf(a), now) == nil
}

// watches tells whether an address can be delayed and locked out.
func (g *Guard) watches(a netip.Addr) bool {
	if !a.IsValid() || g.config.Disabled {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, p := range g.exempt {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// keyOf is what an address is counted under.
func keyOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // bits fit the address
	return p
}

// Failure is a login that failed.
type Failure struct {
	Address  netip.Addr // the real one, behind a proxy too; the zero Addr for a peer without address
	Listener string
	User     string // as the client gave it
	ClientID string // as the client gave it
	Reason   string // for the operator; never a password or a part of one
}

// Failed counts and logs a failed login, and returns when its answer may be given: at once after the first failure of
// an address, later and later after more. It returns early when ctx ends.
func (g *Guard) Failed(ctx context.Context, f Failure) {
	g.logFailure(&f)
	delay, locked := g.count(f.Address)
	if locked {
		g.log.Warn("address locked out", "address", addressText(f.Address), "counted_as", keyOf(f.Address).String())
	}
	if delay > 0 {
		g.clock.Wait(ctx, delay)
	}
}

// count adds a failure and returns how long its answer waits, and whether it has locked the address out.
func (g *Guard) count(a netip.Addr) (delay time.Duration, locked bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failures++
	if !g.watches(a) {
		return 0, false
	}
	now := g.clock.Now()
	g.failing.expire(now)
	g.locked.expire(now)
	key := keyOf(a)
	if g.locked.get(key, now) != nil {
		return g.config.MaxDelay, false // it was on its way when the address was locked out
	}
	r := g.failing.get(key, now)
	if r == nil {
		r = &record{key: key, until: now.Add(g.config.Window)}
	}
	r.failures++
	if r.failures < g.config.Failures {
		g.failing.put(r, g.config.MaxAddresses)
		return g.delay(r.failures), false
	}
	g.failing.remove(key)
	g.locked.put(&record{key: key, failures: r.failures, until: now.Add(g.config.Lockout)}, g.config.MaxAddresses)
	g.lockouts++
	return g.delay(r.failures), true
}

// delay is how long the answer to the nth failure waits.
func (g *Guard) delay(n int) time.Duration {
	d := g.config.Delay
	for i := 2; i < n && d < g.config.MaxDelay; i++ {
		d *= 2
	}
	if n < 2 {
		return 0
	}
	return min(d, g.config.MaxDelay)
}

// Unlock forgets what is known of an address, and tells whether it was locked out.
func (g *Guard) Unlock(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := keyOf(a)
	was := g.locked.get(key, g.clock.Now()) != nil
	g.locked.remove(key)
	g.failing.remove(key)
	return was
}

// Stats are figures for metrics.
type Stats struct {
	Failures uint64 // failed logins since the start
	Lockouts uint64 // lockouts since the start
	Refused  uint64 // connections and logins refused since the start because their address was locked out
	Locked   int    // addresses that are locked out now
}

// Stats returns the figures.
func (g *Guard) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Failures: g.failures, Lockouts: g.lockouts, Refused: g.refused, Locked: g.locked.count(g.clock.Now())}
}
