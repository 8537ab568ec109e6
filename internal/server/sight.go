package server

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/httpd"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/server/enrolment"
	"github.com/vouchmq/vouchmq/internal/transport"
)

// Sight says how operators see into a broker, and administer it. The zero value shows nothing.
type Sight struct {
	Metrics metrics.Config
	Admin   admin.Config
	Sys     metrics.SysConfig
	Version string                   // of the program
	Level   *slog.LevelVar           // of Log, for those who change it; may be nil
	Redact  func(name string) string // shows client ids, user names and filters in the log; nil shows them as they are
	Quiet   bool                     // nothing is logged of clients who come, go and subscribe as they should
}

func (c *Sight) check() error { return errors.Join(c.Metrics.Check(), c.Sys.Check()) }

// sight is what of a server operators see.
type sight struct {
	started time.Time
	reload  atomic.Pointer[func(context.Context) error]

	metrics *httpd.Server
	admin   *admin.Server
	endSys  func() // nil if nothing is published

	stopOnce sync.Once
	stopped  chan struct{} // closed when an administrator asked for the end
	farewell atomic.Pointer[farewell]
}

// farewell is what clients are told at the end.
type farewell struct {
	reason    uint8  // 0 is that of a shutdown
	reference string // server reference
}

// startSight answers operators, and publishes what they may read. Clients are let in by then.
func (s *Server) startSight(p *places) {
	config := s.Config()
	c, log := &config.Sight, config.Log
	if socket := p.takeMetrics(); socket != nil {
		s.sight.metrics = metrics.Serve(socket, metrics.Options{Config: c.Metrics, Source: s, Ready: s.ready, Now: time.Now, Log: log})
		log.Info("metrics", "address", s.sight.metrics.Addr().String(), "paths", "/metrics /healthz /readyz")
	}
	if socket := p.takeAdmin(); socket != nil {
		s.sight.admin = socket.Serve(admin.Options{Broker: administered{s}, Level: c.Level, Redact: c.Redact, Log: log})
		log.Info("administration", "socket", s.sight.admin.Path())
	}
	s.startSys(c.Sys.Interval, log)
}

// startSys publishes below $SYS, if that is wanted.
func (s *Server) startSys(interval time.Duration, log *slog.Logger) {
	if interval <= 0 {
		return
	}
	publish := func(data []byte) bool { return s.engine.PostNow(abi.EventPublish, 0, 0, 0, data) }
	publisher := metrics.NewPublisher(s, publish, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		publisher.Run(ctx, ticker.C)
	}()
	s.sight.endSys = func() { cancel(); <-done }
}

// sightTimeout bounds how long the end waits for answers to operators.
const sightTimeout = 2 * time.Second

// stopSight closes what startSight opened, as far as it came.
func (s *Server) stopSight() error {
	ctx, cancel := context.WithTimeout(context.Background(), sightTimeout)
	defer cancel()
	var errs []error
	if s.sight.endSys != nil {
		s.sight.endSys()
	}
	if s.sight.admin != nil {
		errs = append(errs, s.sight.admin.Close(ctx))
	}
	if s.sight.metrics != nil {
		errs = append(errs, s.sight.metrics.Close(ctx))
	}
	return errors.Join(errs...)
}

// MetricsAddr returns the address that metrics are shown at, "" if they are not.
func (s *Server) MetricsAddr() string {
	if s.sight.metrics == nil {
		return ""
	}
	return s.sight.metrics.Addr().String()
}

// Snapshot implements metrics.Source.
func (s *Server) Snapshot(ctx context.Context) (metrics.Snapshot, error) {
	stats, err := s.Stats(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	f := &stats.Transport.Figures
	guarded, locked := s.guardEvents(&stats.Transport)
	return metrics.Snapshot{
		At: time.Now(), Core: stats.Core, Engine: stats.Engine, Transport: stats.Transport, Facts: s.facts(),
		Traffic: &metrics.Traffic{PacketsIn: f.PacketsIn, PacketsOut: f.PacketsOut, BytesIn: f.BytesIn, BytesOut: f.BytesOut},
		Limits:  limitsOfTransport(&stats.Transport), Guard: guarded, LockedOut: locked, Certificates: s.certificates(), Quotes: s.quotes(),
		Collateral: s.collateralSeen(s.Config().Clock()),
	}, nil
}

// quotes is what was counted of quotes, nothing if the broker does not attest.
func (s *Server) quotes() attest.BatchStats {
	if b := s.Config().batcher; b != nil {
		return b.Stats()
	}
	return attest.BatchStats{}
}

// certificates says until when those in use are good, nil if there are none.
func (s *Server) certificates() *metrics.Certificates {
	config := s.Config()
	_, inUse := config.inUse()
	var c *metrics.Certificates
	for _, leaf := range inUse {
		renewal := enrolment.RenewalTime(leaf)
		if c == nil {
			c = &metrics.Certificates{Expiry: leaf.NotAfter, Renewal: renewal}
		}
		if leaf.NotAfter.Before(c.Expiry) {
			c.Expiry = leaf.NotAfter
		}
		if renewal.Before(c.Renewal) {
			c.Renewal = renewal
		}
	}
	return c
}

// guardEvents names what the guard counted, as metrics show it, and how many addresses are locked out now. The guard is
// made before anybody can ask.
func (s *Server) guardEvents(t *transport.Stats) (events map[string]uint64, locked uint64) {
	events = map[string]uint64{"untrusted_proxy": t.RefusedProxy}
	if s.logins.guard == nil {
		return events, 0
	}
	g := s.logins.guard.Stats()
	events["failures"], events["lockouts"], events["refused"] = g.Failures, g.Lockouts, g.Refused
	return events, uint64(g.Locked)
}

// limitsOfTransport names how often each limit of the transport was met, as metrics show it.
func limitsOfTransport(t *transport.Stats) map[string]uint64 {
	return map[string]uint64{
		"connections": t.Refused, "connect_rate": t.RefusedRate, "address_connections": t.RefusedAddress, "message_rate": t.Slowed,
		"handshakes": t.CrowdedOut, "address_handshakes": t.CrowdedOutOfAddress,
	}
}

func (s *Server) facts() metrics.Facts {
	config, identity := s.Config(), s.Identity()
	f := metrics.Facts{
		Version: config.Sight.Version, Go: runtime.Version(), Started: s.sight.started,
		Module: identity.Module.String(), Config: identity.Config.String(), Runtime: identity.Runtime.String(),
	}
	if config.Attester != nil {
		platform := config.Attester.Platform()
		f.TEE, f.Simulated = string(platform), platform.Simulated()
	}
	return f
}

// ready says why clients cannot connect, nil if they can.
func (s *Server) ready() error {
	if s.draining.Load() {
		return errors.New("the broker lets no connection in any more")
	}
	return nil
}

// OnReload says what a reload by an administrator does. Without it there is nothing to reload.
func (s *Server) OnReload(reload func(ctx context.Context) error) { s.sight.reload.Store(&reload) }

// Stopped returns a channel that is closed once an administrator has asked for the end. Shutdown then ends the broker.
func (s *Server) Stopped() <-chan struct{} { return s.sight.stopped }
