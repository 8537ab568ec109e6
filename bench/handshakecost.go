package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// HandshakePlan says what [Handshakes] measures.
type HandshakePlan struct {
	Variants []Variant // the first is what the others are compared with
	Rounds   int
	Clients  int // that connect again and again, at the same time
	Warmup   time.Duration
	Window   time.Duration
	// Broker returns how long processors have worked for the broker so far.
	Broker func() (time.Duration, error)
}

// HandshakeSample is one measurement.
type HandshakeSample struct {
	Variant string        `json:"variant"`
	Rate    float64       `json:"handshakes_per_second"`
	Client  time.Duration `json:"client_ns"` // processor time of one handshake at the clients
	Broker  time.Duration `json:"broker_ns"` // and at the broker
}

// HandshakeRow is the medians of a variant.
type HandshakeRow struct {
	HandshakeSample
	// Share is how many handshakes a second of processor time is good for, clients included, in parts of those of the
	// first variant in the same round; BrokerShare is that of the broker alone.
	Share       float64 `json:"share"`
	LeastShare  float64 `json:"least_share"` // of a round
	MostShare   float64 `json:"most_share"`
	BrokerShare float64 `json:"broker_share"`
}

// HandshakeReport is what was measured.
type HandshakeReport struct {
	Rows    []HandshakeRow    `json:"rows"`
	Samples []HandshakeSample `json:"samples"`
}

// clientGCPercent is for the clients of [Handshakes], of which there are thousands in one process with next to no heap: a
// collection every few handshakes would be measured, which a client that connects once never sees.
const clientGCPercent = 800

// Handshakes measures what it costs to connect securely, over all variants in turn, every second round in the opposite order. A handshake counts when the client
// has secured its connection; it then closes it, without MQTT. If it cannot go on, or ctx ends, the report has what was measured until then, beside the error.
func Handshakes(ctx context.Context, p HandshakePlan) (HandshakeReport, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(clientGCPercent))
	var r HandshakeReport
	for round := range p.Rounds {
		for _, v := range inTurn(p.Variants, round) {
			s, err := p.measure(ctx, v)
			if err != nil {
				r.summarize(p)
				return r, endOf(ctx, fmt.Errorf("%s: %w", v.Name, err))
			}
			r.Samples = append(r.Samples, s)
		}
	}
	r.summarize(p)
	return r, nil
}

func (r *HandshakeReport) summarize(p HandshakePlan) {
	for _, v := range p.Variants {
		if min(len(r.of(v.Name)), len(r.of(p.Variants[0].Name))) > 0 {
			r.add(v.Name, p.Variants[0].Name)
		}
	}
}

// measure takes one measurement.
func (p *HandshakePlan) measure(ctx context.Context, v Variant) (HandshakeSample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Uint64
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel(nil) // before the wait
	for range p.Clients {
		clients.Go(func() {
			if err := connectOften(ctx, v.Dial, &done); err != nil {
				cancel(err)
			}
		})
	}
	if err := pause(ctx, p.Warmup); err != nil {
		return HandshakeSample{}, context.Cause(ctx)
	}
	before, err := p.read(&done)
	if err != nil {
		return HandshakeSample{}, err
	}
	if err := pause(ctx, p.Window); err != nil {
		return HandshakeSample{}, context.Cause(ctx)
	}
	after, err := p.read(&done)
	if err != nil {
		return HandshakeSample{}, err
	}
	return after.since(before, v.Name)
}

// connectOften connects until ctx ends.
func connectOften(ctx context.Context, dial Dialer, done *atomic.Uint64) error {
	for ctx.Err() == nil {
		conn, err := dial(ctx)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		done.Add(1)
		conn.Close()
	}
	return nil
}

// reading is what was counted up to a moment.
type reading struct {
	at             time.Time
	done           uint64
	client, broker time.Duration
}

func (p *HandshakePlan) read(done *atomic.Uint64) (r reading, err error) {
	r.at, r.done = time.Now(), done.Load()
	if r.client, err = ownProcessorTime(); err != nil {
		return r, err
	}
	r.broker, err = p.Broker()
	return r, err
}

var errNoHandshake = errors.New("no handshake came to its end in the time of a measurement")

func (r reading) since(before reading, variant string) (HandshakeSample, error) {
	n := r.done - before.done
	if n == 0 {
		return HandshakeSample{}, errNoHandshake
	}
	each := func(d time.Duration) time.Duration { return d / time.Duration(n) }
	return HandshakeSample{
		Variant: variant, Rate: float64(n) / r.at.Sub(before.at).Seconds(),
		Client: each(r.client - before.client), Broker: each(r.broker - before.broker),
	}, nil
}

// of returns the samples of a variant, by round.
func (r *HandshakeReport) of(variant string) (all []HandshakeSample) {
	for _, s := range r.Samples {
		if s.Variant == variant {
			all = append(all, s)
		}
	}
	return all
}

// add adds the medians of a variant. What is compared are measurements of the same round: the machine may have had
// other work in another one.
func (r *HandshakeReport) add(variant, first string) {
	var rates, shares, brokerShares []float64
	var client, broker []time.Duration
	reference := r.of(first)
	for round, s := range r.of(variant) {
		if round == len(reference) {
			break // interrupted before what it is compared with
		}
		with := reference[round]
		rates, client, broker = append(rates, s.Rate), append(client, s.Client), append(broker, s.Broker)
		shares = append(shares, float64(with.Client+with.Broker)/float64(s.Client+s.Broker))
		brokerShares = append(brokerShares, float64(with.Broker)/float64(s.Broker))
	}
	medians := HandshakeSample{variant, median(rates), median(client), median(broker)}
	share := spreadOf(shares)
	r.Rows = append(r.Rows, HandshakeRow{medians, share.Value, share.Least, share.Most, median(brokerShares)})
}

// WriteTable writes the report for people.
func (r HandshakeReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "variant\thandshakes/s\tCPU each\tof it client\tbroker\tper CPU second\t(least\tmost)\tbroker alone\t\n")
	for _, row := range r.Rows {
		us := func(d time.Duration) string { return d.Round(time.Microsecond).String() }
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", row.Variant, thousands(row.Rate), us(row.Client+row.Broker), us(row.Client),
			us(row.Broker), row.Share, row.LeastShare, row.MostShare, row.BrokerShare)
	}
	return t.Flush()
}
