package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// ScalePlan asks how a broker bears many subscriptions, topics, receivers and connections.
type ScalePlan struct {
	Clients       int // that subscribe
	Subscriptions int // in all
	Idle          int // connections that do nothing
	Sessions      int // in all, for the longest step
	Rounds        int // of the measurements of throughput
	Window        time.Duration
	Only          []string // of ScaleParts, those that are measured; none is all
	// Start starts a broker, afresh for each part, so that what one left behind does not count for the next.
	Start func(ctx context.Context) (ScaleBroker, error)
	// Progress is told now and then what goes on, nil for nobody.
	Progress func(string)
}

// ScaleParts are what Scale measures, in this order.
var ScaleParts = []string{"subscriptions", "idle", "topics", "receivers", "steps"}

// wants says whether a part is to be measured.
func (p *ScalePlan) wants(part string) bool { return len(p.Only) == 0 || slices.Contains(p.Only, part) }

// ScaleBroker is a broker that runs.
type ScaleBroker struct {
	Plain, TLS, Attested Dialer
	RSS                  func() (uint64, error)
	ProcessorTime        func() (time.Duration, error)
	LongestStep          func(context.Context) (LongestStep, error)
	Stop                 func()
}

// Goals of ScaleReport.
const (
	goalSubscriptionBytes = 400e6    // of the process with all subscriptions
	goalIdleBytes         = 40 << 10 // of the process for each idle connection, TLS or attested
	goalStep              = barStep
)

// ScaleReport is what came of it. Memory is what is resident of the broker's process, in bytes.
type ScaleReport struct {
	Clients           int          `json:"clients"`
	Subscriptions     int          `json:"subscriptions"`
	EmptyBytes        uint64       `json:"empty_bytes"`        // before anybody came
	ClientsBytes      uint64       `json:"clients_bytes"`      // with all clients
	SubscriptionBytes uint64       `json:"subscription_bytes"` // with all subscriptions, too
	Idle              []IdleReport `json:"idle"`
	Costs             []CostReport `json:"costs"`
	Steps             *StepsReport `json:"steps,omitempty"`
}

// IdleReport is what connections cost that do nothing.
type IdleReport struct {
	Transport   string `json:"transport"`
	Connections int    `json:"connections"`
	Bytes       uint64 `json:"bytes"` // of the process
}

// Each is how many bytes of the process there are for a connection.
func (r IdleReport) Each() float64 { return float64(r.Bytes) / float64(r.Connections) }

// CostReport compares the cost of deliveries with few and with many of something. Medians but for Ratio are for people to see what
// it is a ratio of.
type CostReport struct {
	Of       string       `json:"of"` // topics or receivers
	Few      int          `json:"few"`
	Many     int          `json:"many"`
	Cost     float64      `json:"few_ns"`         // processor time of the broker for each delivery
	Then     float64      `json:"many_ns"`        // the same
	Rate     float64      `json:"few_per_second"` // deliveries; they depend on what the load generator costs, too
	RateThen float64      `json:"many_per_second"`
	Ratio    Spread       `json:"ratio"` // of the costs, many to few, of each round
	Samples  []CostSample `json:"samples"`
}

// CostSample is one round: two measurements, one right after the other.
type CostSample struct {
	Round    int     `json:"round"` // from 1
	Cost     float64 `json:"few_ns"`
	Then     float64 `json:"many_ns"`
	Rate     float64 `json:"few_per_second"`
	RateThen float64 `json:"many_per_second"`
}

// Measured reports whether there is anything in it.
func (r *ScaleReport) Measured() bool {
	return r.SubscriptionBytes > 0 || len(r.Idle) > 0 || len(r.Costs) > 0 || r.Steps != nil
}

// Dearer is how much more a delivery costs with many, by the median of the rounds: 0 is nothing, 1 is twice as much.
func (r CostReport) Dearer() float64 { return r.Ratio.Value - 1 }

func (r *CostReport) summarize() {
	if len(r.Samples) == 0 {
		return
	}
	of := func(value func(CostSample) float64) float64 { return median(each(r.Samples, value)) }
	r.Cost, r.Then = of(func(s CostSample) float64 { return s.Cost }), of(func(s CostSample) float64 { return s.Then })
	r.Rate, r.RateThen = of(func(s CostSample) float64 { return s.Rate }), of(func(s CostSample) float64 { return s.RateThen })
	r.Ratio = spreadOf(each(r.Samples, func(s CostSample) float64 { return s.Then / s.Cost }))
}

// Scale takes the measurements of a plan. If it cannot go on, or ctx ends, the report has what was measured until then, beside the
// error.
func Scale(ctx context.Context, p ScalePlan) (ScaleReport, error) {
	r := ScaleReport{Clients: p.Clients, Subscriptions: p.Subscriptions}
	if p.wants("subscriptions") {
		if err := p.subscriptions(ctx, &r); err != nil {
			return r, endOf(ctx, fmt.Errorf("subscriptions: %w", err))
		}
	}
	for _, transport := range []string{Plain, TLS, Attested} {
		if !p.wants("idle") {
			break
		}
		idle, err := p.idle(ctx, transport)
		if err != nil {
			return r, endOf(ctx, fmt.Errorf("idle connections (%s): %w", transport, err))
		}
		r.Idle = append(r.Idle, idle)
	}
	for _, c := range costs {
		if !p.wants(c.of) {
			continue
		}
		cost, err := p.cost(ctx, c)
		if len(cost.Samples) > 0 {
			r.Costs = append(r.Costs, cost)
		}
		if err != nil {
			return r, endOf(ctx, fmt.Errorf("cost of %s: %w", c.of, err))
		}
	}
	if p.wants("steps") {
		steps, err := p.steps(ctx)
		if err != nil {
			return r, endOf(ctx, fmt.Errorf("longest step: %w", err))
		}
		r.Steps = steps
	}
	return r, nil
}

func (p *ScalePlan) say(format string, args ...any) {
	if p.Progress != nil {
		p.Progress(fmt.Sprintf(format, args...))
	}
}

// subscriptions lets clients come and subscribe to topics of their own.
func (p *ScalePlan) subscriptions(ctx context.Context, r *ScaleReport) error {
	broker, err := p.Start(ctx)
	if err != nil {
		return err
	}
	defer broker.Stop()
	if r.EmptyBytes, err = broker.RSS(); err != nil {
		return err
	}
	conns, err := openMany(ctx, broker.Plain, p.Clients)
	defer closeMany(conns)
	if err != nil {
		return err
	}
	if r.ClientsBytes, err = broker.RSS(); err != nil {
		return err
	}
	p.say("%d clients: %.0f MB", p.Clients, float64(r.ClientsBytes)/1e6)
	each := p.Subscriptions / p.Clients
	err = eachAtATime(len(conns), func(i int) error {
		return subscribeAll(conns[i].Conn, conns[i].buf, scaleFilters(i, each), 0)
	})
	if err != nil {
		return err
	}
	r.SubscriptionBytes, err = broker.RSS()
	p.say("%d subscriptions: %.0f MB", p.Subscriptions, float64(r.SubscriptionBytes)/1e6)
	return err
}

// scaleFilters are filters like those of a fleet of devices.
func scaleFilters(client, count int) (filters []string) {
	for k := range count {
		filters = append(filters, fmt.Sprintf("plant/%d/line/%d/sensor/%d", client/100, client%100, k))
	}
	return filters
}

// idle lets connections come and do nothing.
func (p *ScalePlan) idle(ctx context.Context, transport string) (IdleReport, error) {
	r := IdleReport{Transport: transport, Connections: p.Idle}
	broker, err := p.Start(ctx)
	if err != nil {
		return r, err
	}
	defer broker.Stop()
	conns, err := openMany(ctx, broker.dialer(transport), p.Idle)
	defer closeMany(conns)
	if err != nil {
		return r, err
	}
	r.Bytes, err = settledMemory(ctx, broker, settleTime)
	p.say("%d idle connections (%s): %.1f KiB each", p.Idle, transport, r.Each()/1024)
	return r, err
}

// settleTime is how long a broker has to give back what handshakes needed.
const settleTime = 5 * time.Second

// idleConn is a connection that must be read to be alive.
type idleConn struct {
	net.Conn
	buf *bufio.Reader
}

// openMany opens connections, some at a time. It returns those that it has opened also with an error.
func openMany(ctx context.Context, dial Dialer, count int) ([]idleConn, error) {
	return openMore(ctx, dial, nil, count)
}

// openMore adds connections, so that there are count of them.
func openMore(ctx context.Context, dial Dialer, conns []idleConn, count int) ([]idleConn, error) {
	have := len(conns)
	conns = append(conns, make([]idleConn, max(count-have, 0))...)
	err := eachAtATime(len(conns)-have, func(i int) (err error) {
		conns[have+i], err = openLean(ctx, dial, connectPacketFor(fmt.Sprint("scale-", have+i), 0, patientKeepAlive))
		return err
	})
	return conns, err
}

// patientKeepAlive is for connections that say nothing while others are opened, in seconds.
const patientKeepAlive = 3600

// openLean connects as open does, with little memory at the client.
func openLean(ctx context.Context, dial Dialer, connect []byte) (c idleConn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if c.Conn, err = dial(ctx); err != nil {
		return idleConn{}, err
	}
	c.buf = bufio.NewReaderSize(c.Conn, 512)
	if err := exchange(c.Conn, c.buf, connect); err != nil {
		c.Close()
		return idleConn{}, err
	}
	return c, nil
}

func closeMany(conns []idleConn) {
	for _, c := range conns {
		if c.Conn != nil {
			c.Close()
		}
	}
}

// eachAtATime calls f with 0 to count-1, a few at a time, and returns an error of one of them.
func eachAtATime(count int, f func(i int) error) error {
	const workers = 8
	var all sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		all.Go(func() {
			for i := w; i < count && errs[w] == nil; i += workers {
				errs[w] = f(i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// comparison is a load with few and with many of something.
type comparison struct {
	of        string
	few, many int
	shape     func(n int) Shape
}

var costs = []comparison{
	{"topics", 10, 10_000, topicsShape},
	{"receivers", 10, 1_000, receiversShape},
}

// topicsShape has publishers that send to all of n topics in turn, and as many subscribers, each of which has its part of
// the topics, one subscription for each.
func topicsShape(n int) Shape {
	const clients = 10
	topics := func(from, step int) (all []string) {
		for i := from; i < n; i += step {
			all = append(all, fmt.Sprintf("bench/topics/%d", i))
		}
		return all
	}
	return Shape{
		Name: fmt.Sprintf("topics-%d", n), Publishers: clients, Subscribers: clients, fan: 1,
		topics:  func(int) []string { return topics(0, 1) },
		filters: func(subscriber int) []string { return topics(subscriber, clients) },
	}
}

// receiversShape has one publisher and n subscribers to its topic.
func receiversShape(n int) Shape {
	return Shape{
		Name: fmt.Sprintf("receivers-%d", n), Publishers: 1, Subscribers: n, fan: n,
		topic: always("bench/receivers"), filter: always("bench/receivers"),
	}
}

// cost measures few and many in turn, every second round in the opposite order. With an error it returns the rounds that there are.
func (p *ScalePlan) cost(ctx context.Context, c comparison) (r CostReport, err error) {
	r = CostReport{Of: c.of, Few: c.few, Many: c.many}
	broker, err := p.Start(ctx)
	if err != nil {
		return r, err
	}
	defer broker.Stop()
	defer r.summarize()
	for round := range p.Rounds {
		s := CostSample{Round: round + 1}
		if round%2 == 0 {
			err = errors.Join(p.costOf(ctx, broker, c.shape(c.few), &s.Cost, &s.Rate), p.costOf(ctx, broker, c.shape(c.many), &s.Then, &s.RateThen))
		} else {
			err = errors.Join(p.costOf(ctx, broker, c.shape(c.many), &s.Then, &s.RateThen), p.costOf(ctx, broker, c.shape(c.few), &s.Cost, &s.Rate))
		}
		if err != nil {
			return r, err
		}
		r.Samples = append(r.Samples, s)
	}
	return r, nil
}

// costOf measures the cost of a delivery, in nanoseconds, and the deliveries a second.
func (p *ScalePlan) costOf(ctx context.Context, broker ScaleBroker, shape Shape, cost, rate *float64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	load := Load{Shape: shape, Payload: 64, Warmup: min(time.Second, p.Window), Window: p.Window, ProcessorTime: broker.ProcessorTime}
	result, err := Measure(ctx, broker.Plain, load)
	if err == nil && result.Cost <= 0 {
		err = errors.New("the broker delivered nothing, or used no processor time")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", shape.Name, err)
	}
	*cost, *rate = result.Cost, result.Rate
	p.say("%s: %s deliveries/s, %.0f ns each", shape.Name, thousands(result.Rate), result.Cost)
	return nil
}

// Failures says which goals were missed.
func (r ScaleReport) Failures() (missed []string) {
	miss := func(format string, args ...any) { missed = append(missed, fmt.Sprintf(format, args...)) }
	if r.SubscriptionBytes > goalSubscriptionBytes {
		miss("%d subscriptions take %.0f MB, more than %.0f", r.Subscriptions, float64(r.SubscriptionBytes)/1e6, goalSubscriptionBytes/1e6)
	}
	for _, i := range r.Idle {
		if i.Each() > goalIdleBytes {
			miss("an idle connection (%s) takes %.1f KiB, more than %d", i.Transport, i.Each()/1024, goalIdleBytes>>10)
		}
	}
	for _, c := range r.Costs {
		if c.Dearer() > MostDearer {
			miss("a delivery costs %.0f %% more with %d %s than with %d, more than %.0f %%", 100*c.Dearer(), c.Many, c.Of, c.Few, 100*MostDearer)
		}
	}
	if r.Steps != nil && r.Steps.Longest().Used > goalStep {
		miss("the longest step used %v of processor time, more than %v; the host took %v from this machine's processors, and a step that waits for it counts as if it worked",
			r.Steps.Longest().Used, goalStep, r.Steps.Stolen())
	}
	return missed
}
