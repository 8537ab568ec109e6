package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// ConnectionsPlan asks what connections cost that do nothing but show that they are alive.
type ConnectionsPlan struct {
	Ways      []string      // of ConnectWays and BesideWays but Mutual, and names of other brokers, which are reached by TLS
	Counts    []int         // of connections, rising
	Rounds    int           // each with brokers of its own
	Settle    time.Duration // before memory is read; for what a start and handshakes needed to be given back
	Window    time.Duration // in which processor time is measured, once in silence and once with pings
	KeepAlive time.Duration // between two pings of a connection; those of all are spread evenly
	// Start starts a broker for a way to connect.
	Start func(ctx context.Context, way string) (ScaleBroker, error)
	// Progress is told of each measurement, nil for nobody.
	Progress func(ConnectionsSample)
}

// ConnectionsSample is one measurement.
type ConnectionsSample struct {
	Way         string  `json:"way"`
	Connections int     `json:"connections"`
	Round       int     `json:"round"`       // from 1
	Empty       uint64  `json:"empty_bytes"` // of the broker's process, before anybody came
	Bytes       uint64  `json:"bytes"`       // of the broker's process, resident
	Silent      float64 `json:"silent_cpu_ms_per_second"`
	Pinging     float64 `json:"pinging_cpu_ms_per_second"`
	Pings       int     `json:"pings"` // in the window
}

// Each is the process's memory for each connection.
func (s ConnectionsSample) Each() float64 { return float64(s.Bytes) / float64(s.Connections) }

// Added is what the process's memory has grown by for each connection.
func (s ConnectionsSample) Added() float64 {
	return max(float64(s.Bytes)-float64(s.Empty), 0) / float64(s.Connections)
}

// String is for progress.
func (s ConnectionsSample) String() string {
	return fmt.Sprintf("%-15s  %6s connections  %6.1f KiB each  %6.1f ms/s of a processor, %6.1f with %d pings",
		s.Way, thousands(float64(s.Connections)), s.Each()/1024, s.Silent, s.Pinging, s.Pings)
}

// Connections takes the measurements of a plan. For each way to connect a broker is started, and connections are added to those
// that there are, from one count to the next; every second round has the ways in the opposite order. If it cannot go on, or ctx ends, the report has what was measured until then, beside the
// error.
func Connections(ctx context.Context, p ConnectionsPlan) (ConnectionsReport, error) {
	r := ConnectionsReport{Window: Seconds(p.Window), KeepAlive: Seconds(p.KeepAlive)}
	for round := range p.Rounds {
		for _, way := range inTurn(p.Ways, round) {
			err := p.way(ctx, way, func(s ConnectionsSample) {
				s.Round, r.Rounds = round+1, round+1
				r.Samples = append(r.Samples, s)
				if p.Progress != nil {
					p.Progress(s)
				}
			})
			if err != nil {
				r.summarize(p)
				return r, endOf(ctx, fmt.Errorf("idle connections (%s): %w", way, err))
			}
		}
	}
	r.summarize(p)
	return r, nil
}

// way measures all counts of one way to connect.
func (p *ConnectionsPlan) way(ctx context.Context, way string, done func(ConnectionsSample)) error {
	broker, err := p.Start(ctx, way)
	if err != nil {
		return err
	}
	defer broker.Stop()
	s := ConnectionsSample{Way: way}
	if s.Empty, err = settledMemory(ctx, broker, p.Settle); err != nil {
		return err
	}
	var conns []idleConn
	defer func() { closeMany(conns) }()
	for _, s.Connections = range p.Counts {
		if conns, err = openMore(ctx, broker.dialer(way), conns, s.Connections); err != nil {
			return err
		}
		if s.Bytes, err = settledMemory(ctx, broker, p.Settle); err != nil {
			return err
		}
		if err := p.processorTime(ctx, broker, conns, &s); err != nil {
			return err
		}
		done(s)
	}
	return nil
}

// dialer returns how to connect to a broker.
func (b *ScaleBroker) dialer(way string) Dialer {
	switch way {
	case Plain:
		return b.Plain
	case Attested, NativeAttested:
		return b.Attested
	}
	return b.TLS
}

// settledMemory returns the memory of a broker's process that is resident after a while.
func settledMemory(ctx context.Context, broker ScaleBroker, after time.Duration) (uint64, error) {
	if err := pause(ctx, after); err != nil {
		return 0, err
	}
	return broker.RSS()
}

func (p *ConnectionsPlan) processorTime(ctx context.Context, broker ScaleBroker, conns []idleConn, s *ConnectionsSample) (err error) {
	s.Silent, err = busy(broker, func() error { return pause(ctx, p.Window) })
	if err != nil {
		return err
	}
	s.Pinging, err = busy(broker, func() error {
		s.Pings, err = p.ping(ctx, conns)
		return err
	})
	return err
}

// busy returns how many milliseconds in a second processors worked for the broker while do ran.
func busy(broker ScaleBroker, do func() error) (float64, error) {
	before, err := broker.ProcessorTime()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := do(); err != nil {
		return 0, err
	}
	after, err := broker.ProcessorTime()
	return (after - before).Seconds() * 1000 / time.Since(begun).Seconds(), err
}

// ping has connections ping as those do that have nothing to say, for the time of a window: those of them whose turn falls into it.
func (p *ConnectionsPlan) ping(ctx context.Context, conns []idleConn) (pings int, err error) {
	begun := time.Now()
	every := p.KeepAlive / time.Duration(len(conns))
	for due := time.Duration(0); due < p.Window; due += every {
		if err := pause(ctx, time.Until(begun.Add(due))); err != nil {
			return pings, err
		}
		if err := conns[pings%len(conns)].ping(); err != nil {
			return pings, err
		}
		pings++
	}
	return pings, pause(ctx, time.Until(begun.Add(p.Window)))
}

// ping sends PINGREQ and waits for the answer.
func (c *idleConn) ping() error {
	c.SetDeadline(time.Now().Add(dialTime))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write(mqtt.AppendPingreq(nil)); err != nil {
		return err
	}
	frame, err := readFrame(c.buf, nil)
	if err == nil && mqtt.TypeOf(frame) != mqtt.PINGRESP {
		err = unexpected(frame)
	}
	return err
}

// ConnectionsReport is what came of a plan.
type ConnectionsReport struct {
	Rounds    int                 `json:"rounds"`
	Window    Seconds             `json:"window_seconds"`
	KeepAlive Seconds             `json:"keep_alive_seconds"`
	Rows      []ConnectionsRow    `json:"results"`
	Samples   []ConnectionsSample `json:"samples"`
	// LeftOut says which counts were not measured, and what would have to be raised for them.
	LeftOut []string `json:"left_out,omitempty"`
}

// ConnectionsRow is medians over all rounds, with the extremes of the memory. Memory is of the broker's process.
type ConnectionsRow struct {
	Way         string  `json:"way"`
	Connections int     `json:"connections"`
	Bytes       float64 `json:"bytes"`
	Each        float64 `json:"bytes_each"`
	LeastEach   float64 `json:"least_bytes_each"`
	MostEach    float64 `json:"most_bytes_each"`
	Added       float64 `json:"added_bytes_each"` // without what the process had before
	ToTLS       float64 `json:"added_ratio_to_tls,omitempty"`
	Silent      float64 `json:"silent_cpu_ms_per_second"`
	Pinging     float64 `json:"pinging_cpu_ms_per_second"`
	PingCost    Micros  `json:"ping_cpu_us"` // processor time of one ping
}

func (r *ConnectionsReport) summarize(p ConnectionsPlan) {
	for _, count := range p.Counts {
		for _, way := range p.Ways {
			if samples := r.of(way, count); len(samples) > 0 {
				r.Rows = append(r.Rows, r.row(samples))
			}
		}
	}
}

// of returns what was measured, by round.
func (r *ConnectionsReport) of(way string, count int) (all []ConnectionsSample) {
	for _, s := range r.Samples {
		if s.Way == way && s.Connections == count {
			all = append(all, s)
		}
	}
	return all
}

func (r *ConnectionsReport) row(samples []ConnectionsSample) ConnectionsRow {
	eachBytes := each(samples, ConnectionsSample.Each)
	row := ConnectionsRow{
		Way: samples[0].Way, Connections: samples[0].Connections, Each: median(eachBytes), Added: median(each(samples, ConnectionsSample.Added)),
		LeastEach: slices.Min(eachBytes), MostEach: slices.Max(eachBytes),
		Bytes:   median(each(samples, func(s ConnectionsSample) float64 { return float64(s.Bytes) })),
		Silent:  median(each(samples, func(s ConnectionsSample) float64 { return s.Silent })),
		Pinging: median(each(samples, func(s ConnectionsSample) float64 { return s.Pinging })),
	}
	var ratios []float64
	for i, with := range r.of(TLS, row.Connections) {
		if i < len(samples) && with.Added() > 0 {
			ratios = append(ratios, samples[i].Added()/with.Added())
		}
	}
	if len(ratios) > 0 {
		row.ToTLS = median(ratios)
	}
	if perSecond := float64(samples[0].Pings) / time.Duration(r.Window).Seconds(); perSecond > 0 {
		row.PingCost = Micros(max(row.Pinging-row.Silent, 0) / perSecond * float64(time.Millisecond))
	}
	return row
}

// What an idle attested connection may take of the process's memory, with that many of them.
const (
	MostIdleBytes  = 40 << 10
	barConnections = 10_000
)

// IdleAttested is the memory of the process for each attested connection, with 10,000 of them. false is that it was not measured.
func (r *ConnectionsReport) IdleAttested() (bytes float64, ok bool) {
	row, ok := r.idleAttested()
	return row.Each, ok
}

func (r *ConnectionsReport) idleAttested() (row ConnectionsRow, ok bool) {
	for _, row := range r.Rows {
		if row.Way == Attested && row.Connections == barConnections {
			return row, true
		}
	}
	return ConnectionsRow{}, false
}

// bars compares with what VouchMQ aims at.
func (r *ConnectionsReport) bars() []Bar {
	row, ok := r.idleAttested()
	if !ok {
		return nil
	}
	return []Bar{{
		What:  fmt.Sprintf("memory per idle attested connection, of %s", thousands(barConnections)),
		Value: row.Each / 1024, Limit: MostIdleBytes >> 10, Unit: "KiB",
		Spread: Spread{Least: row.LeastEach / 1024, Most: row.MostEach / 1024}.extremes(),
	}}
}
