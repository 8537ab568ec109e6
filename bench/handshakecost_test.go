package bench

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// pipes is a dialer that counts.
func pipes(count *int) Dialer {
	return func(context.Context) (net.Conn, error) {
		*count++
		a, b := net.Pipe()
		b.Close()
		return a, nil
	}
}

func TestHandshakesAreMeasuredInTurn(t *testing.T) {
	var one, other int
	var used time.Duration
	r, err := Handshakes(t.Context(), HandshakePlan{
		Variants: []Variant{{Name: "one", Dial: pipes(&one)}, {Name: "other", Dial: pipes(&other)}},
		Rounds:   3, Clients: 1, Window: 20 * time.Millisecond,
		Broker: func() (time.Duration, error) { used += time.Second; return used, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if one == 0 || other == 0 || len(r.Samples) != 6 || len(r.Rows) != 2 {
		t.Fatalf("%d and %d handshakes: %+v", one, other, r)
	}
	if got := strings.Join(each(r.Samples, func(s HandshakeSample) string { return s.Variant }), " "); got != "one other other one one other" {
		t.Errorf("measured in the order %s", got)
	}
	if r.Rows[0].Share != 1 || r.Rows[0].BrokerShare != 1 || r.Rows[1].Rate <= 0 || r.Rows[1].Broker <= 0 {
		t.Errorf("%+v", r.Rows)
	}
}

// TestHandshakesCompareRounds: a round in which the machine was slow counts for both.
func TestHandshakesCompareRounds(t *testing.T) {
	r := HandshakeReport{}
	for i, slow := range []time.Duration{1, 10, 1} {
		tls, attested := slow*time.Millisecond, slow*2*time.Millisecond
		if i == 2 {
			attested *= 2
		}
		r.Samples = append(r.Samples, HandshakeSample{"TLS", 1, tls, tls}, HandshakeSample{"attested", 1, attested, attested})
	}
	r.add("TLS", "TLS")
	r.add("attested", "TLS")
	if got := r.Rows[1]; got.Share != 0.5 || got.LeastShare != 0.25 || got.MostShare != 0.5 || got.BrokerShare != 0.5 || got.Client != 4*time.Millisecond {
		t.Errorf("%+v", got)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "0.50") {
		t.Errorf("%v: %s", err, table.String())
	}
}

// In a round that was interrupted, the last variant of the first one's order may be there alone.
func TestHandshakesInterruptedBackwards(t *testing.T) {
	ms := time.Millisecond
	r := HandshakeReport{Samples: []HandshakeSample{{"TLS", 1, ms, ms}, {"attested", 1, 2 * ms, 2 * ms}, {"attested", 1, 9 * ms, 9 * ms}}}
	r.summarize(HandshakePlan{Variants: []Variant{{Name: "TLS"}, {Name: "attested"}}})
	if len(r.Rows) != 2 || r.Rows[1].Share != 0.5 || r.Rows[1].LeastShare != 0.5 {
		t.Errorf("%+v", r.Rows)
	}
}

func TestHandshakesFailWithTheDialer(t *testing.T) {
	broken := errors.New("no broker")
	plan := HandshakePlan{
		Variants: []Variant{{Name: "one", Dial: func(context.Context) (net.Conn, error) { return nil, broken }}},
		Rounds:   1, Clients: 4, Window: time.Hour, Broker: func() (time.Duration, error) { return 0, nil },
	}
	if _, err := Handshakes(t.Context(), plan); !errors.Is(err, broken) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Handshakes(ctx, plan); err == nil {
		t.Error("measured although it was to stop")
	}
}
