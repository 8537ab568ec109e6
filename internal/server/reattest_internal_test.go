package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// TestRoundsAreKeptApart: a client that asks for one round after the other has the broker make no more than one quote in
// each roundsApart, and one that asks now and then does not wait. The clock is that of the bubble, so that nothing waits in truth.
func TestRoundsAreKeptApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, began := new(standing), time.Now()
		turn := func(ctx context.Context, name string, want time.Duration, wantErr error) {
			t.Helper()
			if err := x.takeTurn(ctx); !errors.Is(err, wantErr) {
				t.Errorf("%s: %v", name, err)
			}
			if got := time.Since(began); got != want {
				t.Errorf("%s: a round began after %v, not %v", name, got, want)
			}
		}
		turn(t.Context(), "first", 0, nil)
		turn(t.Context(), "second", roundsApart, nil)
		time.Sleep(roundsApart / 2)
		turn(t.Context(), "third, a bit later", 2*roundsApart, nil)
		time.Sleep(2 * roundsApart)
		turn(t.Context(), "late", 4*roundsApart, nil)
		short, cancel := context.WithTimeout(t.Context(), roundsApart/2)
		defer cancel()
		turn(short, "connection that ends", 4*roundsApart+roundsApart/2, context.DeadlineExceeded)
		turn(t.Context(), "after one that did not begin", 5*roundsApart, nil)
	})
}

// TestRoundWaitsForItsTurn: a round that comes too early makes no evidence; the standing of the test has nothing to make it with.
func TestRoundWaitsForItsTurn(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x := &standing{begun: time.Now().Add(time.Hour)}
	if reason, _ := x.begin(ctx, &abi.AuthRequest{Stage: abi.AuthReconnect}); reason != mqtt.UnspecifiedError {
		t.Error(reason)
	}
}
