package bench

import (
	"context"
	"fmt"
	"time"
)

// ConnectResult is how long a client waited from its first byte to CONNACK.
type ConnectResult struct {
	Attested   time.Duration   `json:"attested_ns"` // median
	TLS        time.Duration   `json:"tls_ns"`      // median
	Difference time.Duration   `json:"difference_ns"`
	Each       []ConnectSample `json:"samples"`
}

// ConnectSample is one pair of connections, one after the other.
type ConnectSample struct {
	Attested time.Duration `json:"attested_ns"`
	TLS      time.Duration `json:"tls_ns"`
}

// ConnectTimes connects n times over each of two dialers, in turn, and measures the time until CONNACK has come.
// One pair before that warms both sides up.
func ConnectTimes(ctx context.Context, attested, tls Dialer, n int) (ConnectResult, error) {
	var r ConnectResult
	var all [2][]time.Duration
	for i := range n + 1 {
		var took [2]time.Duration
		for k, dial := range []Dialer{attested, tls} {
			var err error
			if took[k], err = connectTime(ctx, dial, fmt.Sprintf("bench-connect-%d-%d", i, k)); err != nil {
				return r, err
			}
		}
		if i == 0 {
			continue
		}
		r.Each = append(r.Each, ConnectSample{took[0], took[1]})
		all[0], all[1] = append(all[0], took[0]), append(all[1], took[1])
	}
	r.Attested, r.TLS = median(all[0]), median(all[1])
	r.Difference = r.Attested - r.TLS
	return r, nil
}

func connectTime(ctx context.Context, dial Dialer, clientID string) (time.Duration, error) {
	begun := time.Now()
	conn, _, err := open(ctx, dial, clientID)
	if err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, conn.Close()
}
