package bench

import (
	"context"
	"errors"
	"testing"
	"time"
)

// interruptedAfter is a context that ends with errEnough when the function that it returns has been called so often.
func interruptedAfter(t *testing.T, most int) (context.Context, func()) {
	ctx, stop := context.WithCancelCause(t.Context())
	return ctx, func() {
		if most--; most == 0 {
			stop(errEnough)
		}
	}
}

var errEnough = errors.New("enough")

// What was measured before an interruption is there, of each of those that go round after round, and why it ended.
func TestInterruptedSeriesAreKept(t *testing.T) {
	b := startSmallBroker(t)
	dial := DialTCP(b.addr())
	idle := ScaleBroker{
		Plain: dial, TLS: dial, Stop: func() {}, RSS: func() (uint64, error) { return 1 << 20, nil },
		ProcessorTime: func() (time.Duration, error) { return 0, nil },
	}

	ctx, count := interruptedAfter(t, 3)
	connects, err := Connects(ctx, ConnectPlan{
		Settings: []ConnectSetting{{Way: Plain, Rate: 100}, {Way: TLS, Rate: 100}}, Rounds: 9, Window: time.Millisecond,
		Dial:     func(context.Context, ConnectSetting) (Dialer, error) { return dial, nil },
		Progress: func(ConnectSample) { count() },
	})
	if err != errEnough || len(connects.Samples) != 3 || len(connects.Rows) != 2 || len(connects.Comparisons) != 1 || connects.Rounds != 2 {
		t.Errorf("%v, %+v", err, connects)
	}

	ctx, count = interruptedAfter(t, 1)
	connections, err := Connections(ctx, ConnectionsPlan{
		Ways: []string{Plain, TLS}, Counts: []int{1, 2}, Rounds: 2, Window: time.Millisecond, KeepAlive: time.Second,
		Start:    func(context.Context, string) (ScaleBroker, error) { return idle, nil },
		Progress: func(ConnectionsSample) { count() },
	})
	if err != errEnough || len(connections.Samples) != 1 || len(connections.Rows) != 1 || connections.Rounds != 1 {
		t.Errorf("%v, %+v", err, connections)
	}

	ctx, count = interruptedAfter(t, 3) // at the begin of the second measurement
	handshakes, err := Handshakes(ctx, HandshakePlan{
		Variants: []Variant{{Name: "TLS", Dial: dial}, {Name: "attested", Dial: dial}}, Rounds: 9, Clients: 1, Window: 20 * time.Millisecond,
		Broker: func() (time.Duration, error) { count(); return 0, nil },
	})
	if err != errEnough || len(handshakes.Samples) != 1 || len(handshakes.Rows) != 1 {
		t.Errorf("%v, %+v", err, handshakes)
	}
}

// A number of filters of which there are some rounds is in the table; one without any is not.
func TestMatchKeepsPartOfTheRounds(t *testing.T) {
	var r MatchReport
	r.add([]MatchRow{{Broker: "wasm", Filters: 1000}, {Broker: "native", Filters: 1000}}, [][]MatchSample{{{Known: 1}, {Known: 3}}, nil})
	if len(r.Rows) != 1 || r.Rows[0].Broker != "wasm" || r.Rows[0].Known != (Spread{2, 1, 3}) {
		t.Errorf("%+v", r.Rows)
	}
}
