package server

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/server/settings"
)

// DefaultCollateralRefresh is how long before it expires collateral is fetched anew. Intel's lives for about a month.
const DefaultCollateralRefresh = 7 * 24 * time.Hour

// Collateral is what evidence of Intel's TEEs is verified with.
type Collateral struct {
	Store   *collateral.Store  // nil: there is only what comes with the evidence
	Refresh time.Duration      // before it expires it is fetched anew; 0: somebody else sees to it
	Client  *collateral.Client // fetches it
	Every   time.Duration      // between looks at the store; 0 is an hour
}

// collateral opens the store that settings name, for a broker that runs the one that it has, and makes the verifiers that use it.
func (o *opener) collateral(c *Config) error {
	f := &o.settings.Attestation.Collateral
	if f.Directory == "" {
		return nil
	}
	if running := o.opening.running; running != nil {
		c.Collateral, c.Registry = running.Config.Collateral, running.Config.Registry
		return nil
	}
	store, err := collateral.Open(o.path(f.Directory))
	if err != nil {
		return o.fail("attestation.collateral.directory", err)
	}
	o.intel = store
	c.Collateral = Collateral{Store: store, Refresh: f.Refresh, Client: collateralClient(f)}
	c.Registry = client.DriversWith(store)
	return nil
}

func collateralClient(f *settings.Collateral) *collateral.Client {
	return &collateral.Client{HTTP: collateral.HTTP(), PCS: strings.TrimSuffix(f.PCS, "/"), RootCRL: f.RootCRL}
}

// checkCollateral looks at what is in the store already.
func (o *opener) checkCollateral() {
	const key = "attestation.collateral.directory"
	dir := o.path(o.settings.Attestation.Collateral.Directory)
	if _, err := os.Stat(dir); dir == "" || err != nil {
		return // it will be made
	}
	store, err := collateral.Open(dir)
	if err != nil {
		o.wrong(key, err)
		return
	}
	list, err := store.List(o.opening.Now)
	if err != nil {
		o.wrong(key, err)
	}
	for _, e := range list {
		if e.Err != nil {
			o.wrong(key, e.Err)
		}
	}
}

// keeping is a task that ends with the server.
type keeping struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// keepCollateral refreshes collateral from now on, if that is wanted.
func (s *Server) keepCollateral() {
	c := &s.config.Collateral
	if c.Store == nil || c.Refresh <= 0 {
		return
	}
	keeper := collateral.Keeper{Store: c.Store, Client: c.Client, Every: c.Every, Ahead: c.Refresh, Now: s.config.Clock, Log: s.log}
	var ctx context.Context
	ctx, s.collateral.cancel = context.WithCancel(context.Background())
	s.collateral.done.Go(func() { keeper.Run(ctx) })
}

func (k *keeping) stop() {
	if k.cancel != nil {
		k.cancel()
	}
	k.done.Wait()
}

// collateralWarnAhead is how long before the end of collateral warnings begin.
const collateralWarnAhead = 3 * 24 * time.Hour

// warnCollateral logs what of the store is, or soon will be, of no use, and returns how much.
func (s *Server) warnCollateral(config *Config, now time.Time) (count int) {
	for _, e := range collateralOf(config, now, s.log) {
		if e.Err == nil && now.Add(collateralWarnAhead).Before(e.Expires) {
			continue
		}
		count++
		s.log.Warn("COLLATERAL EXPIRES SOON, or cannot be used: evidence that needs it is then refused", "document", e.Name.String(),
			"expires", e.Expires.UTC().Format(time.RFC3339), "error", logged(e.Err))
	}
	return count
}

// collateralOf lists the store, nil if there is none.
func collateralOf(config *Config, now time.Time, log *slog.Logger) []collateral.Entry {
	if config.Collateral.Store == nil {
		return nil
	}
	list, err := config.Collateral.Store.List(now)
	if err != nil {
		log.Warn("collateral cannot be read", "error", err)
	}
	return list
}

// collateralSeen is what metrics show of the store.
func (s *Server) collateralSeen(now time.Time) (seen []metrics.Collateral) {
	config := s.Config()
	for _, e := range collateralOf(&config, now, s.log) {
		seen = append(seen, metrics.Collateral{Document: e.Name.String(), Expiry: e.Expires, Usable: e.Err == nil})
	}
	return seen
}
