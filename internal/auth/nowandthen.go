package auth

import (
	"log/slog"
	"sync"
	"time"

	"github.com/vouchmq/vouchmq/internal/guard"
)

// troubleInterval is the least time between two warnings of one source.
const troubleInterval = 30 * time.Second

// nowAndThen logs a warning that may come with every login, but not each time.
type nowAndThen struct {
	log   *slog.Logger
	clock guard.Clock

	mu      sync.Mutex
	last    time.Time
	skipped int
}

func newNowAndThen(log *slog.Logger, clock guard.Clock) *nowAndThen {
	return &nowAndThen{log: log, clock: clock}
}

func (n *nowAndThen) warn(message string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock.Now()
	if !n.last.IsZero() && now.Sub(n.last) < troubleInterval {
		n.skipped++
		return
	}
	n.log.Warn(message, append(args, "not_logged", n.skipped)...)
	n.last, n.skipped = now, 0
}
