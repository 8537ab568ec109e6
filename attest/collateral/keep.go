package collateral

import (
	"context"
	"log/slog"
	"time"
)

// askEvery is how often a Keeper asks for announcements.
const askEvery = 24 * time.Hour

// Keeper refreshes a store in the process that verifies with it, and warns of announced TCB recoveries.
type Keeper struct {
	Store  *Store
	Client *Client
	Every  time.Duration // between looks; 0 is an hour
	Ahead  time.Duration // of expiry; 0 is a week
	Now    func() time.Time
	Log    *slog.Logger
}

// Run looks at once and then regularly, until ctx is done. That something cannot be fetched is logged, and tried again next time: what is in the
// store holds until it expires.
func (k *Keeper) Run(ctx context.Context) {
	every, ahead := k.Every, k.Ahead
	if every <= 0 {
		every = time.Hour
	}
	if ahead <= 0 {
		ahead = 7 * 24 * time.Hour
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var asked time.Time
	for {
		k.look(ctx, ahead)
		if now := k.Now(); now.Sub(asked) >= askEvery {
			asked = now
			k.ask(ctx, now)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (k *Keeper) look(ctx context.Context, ahead time.Duration) {
	names, err := k.Store.Refresh(ctx, k.Client, k.Now(), ahead)
	if err != nil {
		k.Log.Warn("collateral could not be refreshed, evidence will be refused when it expires", "error", err)
	} else if len(names) > 0 {
		k.Log.Info("collateral refreshed", "documents", len(names))
	}
}

// ask warns of assessments that Intel has announced for platforms in the store.
func (k *Keeper) ask(ctx context.Context, now time.Time) {
	list, err := k.Store.List(now)
	if err != nil {
		return // look has told
	}
	for _, e := range list {
		if e.Name.Kind != TCBInfo || e.Err != nil {
			continue
		}
		a, err := k.Store.Announced(ctx, k.Client, Need{TEE: e.Name.TEE, FMSPC: e.Name.FMSPC})
		if err != nil {
			k.Log.Warn("could not ask for announced TCB recoveries", "document", e.Name.String(), "error", err)
		} else if a != nil {
			k.Log.Warn("Intel has announced a TCB recovery: update firmware and TDX module of these platforms before it is in force",
				"document", e.Name.String(), "evaluation", a.Current, "announced", a.Next, "issued", a.Issued)
		}
	}
}
