package collateral

import (
	"context"
	"log/slog"
	"time"
)

// Keeper refreshes a store in the process that verifies with it.
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
	for {
		k.look(ctx, ahead)
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
