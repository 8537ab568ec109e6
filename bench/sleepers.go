package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

// sleeperExpiry is how long a session outlives its connection, in seconds: longer than any measurement.
const sleeperExpiry = 24 * 3600

// putToSleep makes sessions with subscriptions and leaves them without a connection, as clients do that come now and then. The
// filters are those of fleet devices, the same number for each session, from a device on. A session that there is already is
// taken up again.
func putToSleep(ctx context.Context, dial Dialer, first, sessions, filters, from int) error {
	return eachAtATime(sessions, func(i int) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := sleeper(ctx, dial, first+i, fleetFilters(from+i*filters, filters)); err != nil {
			return fmt.Errorf("session %d: %w", first+i, err)
		}
		return nil
	})
}

// sleeper is a client that comes, subscribes and leaves. The broker closes the connection: the end of TCP that closes first
// keeps its port for a minute.
func sleeper(ctx context.Context, dial Dialer, number int, filters []string) error {
	s, err := openSession(ctx, dial, fmt.Sprint("sleeper-", number), sleeperExpiry)
	if err != nil {
		return err
	}
	defer s.conn.Close()
	if err := subscribeAll(s.conn, s.buf, filters, 0); err != nil {
		return err
	}
	s.conn.SetDeadline(time.Now().Add(dialTime))
	if _, err := s.conn.Write(disconnectPacket()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, s.buf)
	return err
}
