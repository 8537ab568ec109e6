package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// SoakPlan is a long load on one broker.
type SoakPlan struct {
	Attested Dialer
	TLS      Dialer
	Duration time.Duration
	Payload  int
	// MaxStep is the longest that one step of the module may take, by the processor time that it uses: the load
	// keeps all processors busy, so that the clock on the wall also shows how long the broker waited for one.
	// 0 is DefaultMaxStep.
	MaxStep time.Duration
	// MaxGrowth is how many bytes memory may grow, 0 is DefaultMaxGrowth; 5 % of it are allowed in any case.
	MaxGrowth int
	// RSS is the broker's resident memory in bytes.
	RSS func() (uint64, error)
	// LongestStep asks the broker how long the longest step of its module has taken.
	LongestStep func(context.Context) (LongestStep, error)
	// Progress is told now and then what goes on, nil for nobody.
	Progress func(string)
}

// Bounds of a soak: what a broker must keep to pass.
const (
	// maxGrowth is how much memory may grow from the first minute to the end, by the line that fits the floor of the
	// samples best: a part of the memory itself, or as many bytes, whichever is more. It is above the noise of a garbage
	// collector and below any leak that matters: at 64 bytes lost for each connection or for each thousandth
	// message, ten minutes would show. The floor is what the broker comes back to in each round of the shapes. What
	// lies above it are backlogs, whose height depends on how much of a processor the broker happens to get.
	maxGrowthPart = 0.05
	// DefaultMaxGrowth is that for a long soak. In a short one the collector's own ups and downs are larger.
	DefaultMaxGrowth = 8 << 20
	// settlePart is the part of a soak, at most a minute, in which memory may grow as it likes.
	settlePart = 0.25
	maxSettle  = time.Minute
)

// DefaultMaxStep is what a broker keeps that has the processors that it needs.
const DefaultMaxStep = 20 * time.Millisecond

// SoakReport is what came of a soak.
type SoakReport struct {
	Duration    Seconds        `json:"duration_seconds"`
	Deliveries  uint64         `json:"qos0_deliveries"`
	DroppedQoS0 uint64         `json:"qos0_dropped"`
	Connections uint64         `json:"connections"` // that came and went beside the load
	Streams     []StreamReport `json:"streams"`
	RSS         []RSSSample    `json:"rss"`
	Growth      float64        `json:"growth_bytes"`        // of the floor after settling, by the fitted line
	GrowthOfAll float64        `json:"growth_of_all_bytes"` // the same of all samples, backlogs included
	GrowthBound float64        `json:"growth_bound_bytes"`
	LongestStep LongestStep    `json:"longest_step"`
	Failures    []string       `json:"failures"` // empty if the broker kept all bounds
}

// LongestStep is how long the longest step of a module took.
type LongestStep struct {
	Used time.Duration `json:"processor_ns"` // of processor time; the step that used most
	Wall time.Duration `json:"wall_ns"`      // by the clock on the wall, waiting for a processor included
}

// RSSSample is the broker's memory at one time.
type RSSSample struct {
	At    Seconds `json:"at_seconds"`
	Bytes uint64  `json:"bytes"`
}

// Soak puts a broker under load and reports whether it kept the bounds. An error means that the load could not be
// upheld: a connection was lost or refused.
func Soak(ctx context.Context, p SoakPlan) (SoakReport, error) {
	s := &soak{plan: p, begun: time.Now()}
	ctx, s.fail = context.WithCancelCause(ctx)
	defer s.fail(nil)
	loaded, stop := context.WithTimeoutCause(ctx, p.Duration, errSoaked)
	defer stop()

	streams, err := s.startStreams(loaded)
	if err != nil {
		return SoakReport{}, err
	}
	s.run(func() error { return s.load(loaded) })
	for i := range churners {
		s.run(func() error { return s.churn(loaded, i) })
	}
	s.run(func() error { return s.sample(loaded) })
	s.all.Wait()

	r := s.report
	for _, stream := range streams {
		r.Streams = append(r.Streams, stream.finish())
	}
	if err := context.Cause(ctx); err != nil {
		return r, err
	}
	return r, s.judge(ctx, &r)
}

// errSoaked ends the load when its time is up.
var errSoaked = fmt.Errorf("the time of the soak is up")

type soak struct {
	plan   SoakPlan
	begun  time.Time
	fail   context.CancelCauseFunc
	all    sync.WaitGroup
	report SoakReport // each field is written by one goroutine

	connections atomic.Uint64
}

func (s *soak) run(f func() error) {
	s.all.Go(func() {
		if err := f(); err != nil {
			s.fail(err)
		}
	})
}

func (s *soak) say(format string, args ...any) {
	if s.plan.Progress != nil {
		s.plan.Progress(fmt.Sprintf("%4.0f s  ", time.Since(s.begun).Seconds()) + fmt.Sprintf(format, args...))
	}
}

// loadTime is how long each shape of the load stays, before its connections go and those of the next come. A short
// soak goes through all shapes several times, too: they differ in the memory that they need, and only from one round
// to the next can growth be told from that. The first round falls into the time for settling.
func loadTime(duration time.Duration) time.Duration {
	const rounds = int(1 / settlePart)
	return min(10*time.Second, duration/time.Duration(rounds*len(Shapes)))
}

// load runs the shapes in turn, over attested TLS.
func (s *soak) load(ctx context.Context) error {
	for i := 0; ctx.Err() == nil; i++ {
		shape := Shapes[i%len(Shapes)]
		deadline, _ := ctx.Deadline()
		l := Load{Shape: shape, Payload: s.plan.Payload, Window: min(loadTime(s.plan.Duration), time.Until(deadline))}
		// The load of its own ends in good order: ctx ends only between two shapes.
		r, err := Measure(context.WithoutCancel(ctx), s.plan.Attested, l)
		if err != nil {
			return fmt.Errorf("load %s: %w", shape.Name, err)
		}
		s.report.Deliveries += r.Delivered
		s.report.DroppedQoS0 += r.Dropped()
		s.say("%-7s %s deliveries/s, %d dropped at QoS 0", shape.Name, thousands(r.Rate), r.Dropped())
	}
	return nil
}

// churners is how many connections come and go at the same time.
const churners = 2

// churn connects, subscribes, publishes, and leaves: by turns over attested and ordinary TLS, and by turns in good
// order and without a word.
func (s *soak) churn(ctx context.Context, churner int) error {
	for i := 0; ctx.Err() == nil; i++ {
		dial := s.plan.Attested
		if i%2 == 1 {
			dial = s.plan.TLS
		}
		if err := visit(context.WithoutCancel(ctx), dial, fmt.Sprintf("soak-churn-%d-%d", churner, i), i%4 < 2); err != nil {
			return fmt.Errorf("connection %d of those that come and go: %w", i, err)
		}
		s.connections.Add(1)
		if pause(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return nil
}

// visit is one short connection: it subscribes to a topic of its own, publishes there at QoS 1, and waits for the
// message and for the acknowledgement.
func visit(ctx context.Context, dial Dialer, clientID string, inGoodOrder bool) error {
	conn, buf, err := open(ctx, dial, clientID)
	if err != nil {
		return err
	}
	defer conn.Close()
	topic := "bench/churn/" + clientID
	if err := subscribe(conn, buf, topic, 0); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(dialTime))
	if _, err := conn.Write(appendPublish(nil, topic, 1, 1, []byte("here"))); err != nil {
		return err
	}
	for range 2 { // the message and PUBACK, in whichever order
		if _, err := readFrame(buf, nil); err != nil {
			return err
		}
	}
	if inGoodOrder {
		_, err = conn.Write(disconnectPacket())
	}
	return err
}

// sample reads the broker's memory until ctx ends.
func (s *soak) sample(ctx context.Context) error {
	every := min(2*time.Second, s.plan.Duration/20)
	for pause(ctx, every) == nil {
		rss, err := s.plan.RSS()
		if err != nil {
			return err
		}
		s.report.RSS = append(s.report.RSS, RSSSample{Seconds(time.Since(s.begun)), rss})
	}
	return nil
}

// judge compares what was seen with the bounds.
func (s *soak) judge(ctx context.Context, r *SoakReport) error {
	r.Duration = Seconds(s.plan.Duration)
	r.Connections = s.connections.Load()
	var err error
	if r.LongestStep, err = s.plan.LongestStep(ctx); err != nil {
		return fmt.Errorf("longest step: %w", err)
	}
	later, bound := settled(r.RSS, s.plan.Duration), cmp.Or(s.plan.MaxGrowth, DefaultMaxGrowth)
	r.Growth, r.GrowthBound = growth(floor(later, loadTime(s.plan.Duration)*time.Duration(len(Shapes))), bound)
	r.GrowthOfAll, _ = growth(later, bound)
	if r.Growth > r.GrowthBound {
		r.failed("the floor of memory grew by %.1f MiB, more than %.1f", r.Growth/(1<<20), r.GrowthBound/(1<<20))
	}
	if bound := cmp.Or(s.plan.MaxStep, DefaultMaxStep); r.LongestStep.Used >= bound {
		r.failed("the longest step used %v of processor time, not less than %v", r.LongestStep.Used, bound)
	}
	for _, stream := range r.Streams {
		for _, f := range stream.failures() {
			r.failed("%s: %s", stream.Name, f)
		}
	}
	return nil
}

func (r *SoakReport) failed(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

// settled are the samples after the time in which memory may grow.
func settled(all []RSSSample, duration time.Duration) []RSSSample {
	from := Seconds(min(maxSettle, time.Duration(float64(duration)*settlePart)))
	i := slices.IndexFunc(all, func(s RSSSample) bool { return s.At >= from })
	if i < 0 {
		return nil
	}
	return all[i:]
}

// floor returns the lowest sample of each round, a time in which the load goes through all its shapes. A round that has
// only begun is left out.
func floor(samples []RSSSample, round time.Duration) (lowest []RSSSample) {
	if len(samples) == 0 {
		return nil
	}
	begun := samples[0].At
	low := samples[0]
	for _, s := range samples {
		if time.Duration(s.At-begun) >= round {
			lowest = append(lowest, low)
			begun, low = s.At, s
		}
		if s.Bytes < low.Bytes {
			low = s
		}
	}
	return lowest
}

// growth is what the line of least squares through the samples grows from the first to the last, and the bound for
// it, both in bytes.
func growth(samples []RSSSample, maxBytes int) (grown, bound float64) {
	n := float64(len(samples))
	if n < 2 {
		return 0, float64(maxBytes)
	}
	var meanT, meanB float64
	for _, s := range samples {
		meanT += time.Duration(s.At).Seconds() / n
		meanB += float64(s.Bytes) / n
	}
	var above, below float64
	for _, s := range samples {
		t := time.Duration(s.At).Seconds() - meanT
		above += t * (float64(s.Bytes) - meanB)
		below += t * t
	}
	span := time.Duration(samples[len(samples)-1].At - samples[0].At).Seconds()
	return above / below * span, max(maxGrowthPart*meanB, float64(maxBytes))
}
