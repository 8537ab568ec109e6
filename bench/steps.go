package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// StepsReport is how long the longest step of a broker's core took, with many sessions and subscriptions, under load.
type StepsReport struct {
	Sessions      int         `json:"sessions"` // the clients of the load included
	Subscriptions int         `json:"subscriptions"`
	Phases        []StepPhase `json:"phases"`
	Bytes         uint64      `json:"bytes"` // of the process, resident, at the end
}

// StepPhase is the longest step since the broker started, at the end of a part of the measurement.
type StepPhase struct {
	Name string `json:"name"`
	LongestStep
	Rate   float64       `json:"deliveries_per_second,omitempty"` // of the load
	Stolen time.Duration `json:"stolen_ns,omitempty"`             // by the host, from all processors, in this part; see stolenTime
}

// Stolen is what the host took from this machine's processors meanwhile.
func (r StepsReport) Stolen() (all time.Duration) {
	for _, p := range r.Phases {
		all += p.Stolen
	}
	return all
}

// Longest is the longest step of all.
func (r StepsReport) Longest() LongestStep {
	if len(r.Phases) == 0 {
		return LongestStep{}
	}
	return r.Phases[len(r.Phases)-1].LongestStep
}

// stepLoads are the loads under which steps are measured. The last one is of topics that must be matched with all filters.
var stepLoads = []struct {
	shape func() Shape
	qos   byte
}{
	{func() Shape { return Shapes[0] }, 0},
	{func() Shape { return Shapes[0] }, 1},
	{func() Shape { return Shapes[1] }, 2},
	{func() Shape { return Shapes[2] }, 1},
	{freshShape, 0},
}

// stepClients is how many sessions the load has beside those that sleep, those that come and go included.
const stepClients = 100

// steps makes sessions with subscriptions and looks for the longest step: while they come; under loads, while clients come and
// go; and while all sessions are taken up again under load, which leaves behind what makes the module's collector work.
func (p *ScalePlan) steps(ctx context.Context) (*StepsReport, error) {
	broker, err := p.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer broker.Stop()
	sleepers := max(p.Sessions-stepClients, 1)
	each := (p.Subscriptions + sleepers - 1) / sleepers
	s := &stepsRun{ScalePlan: p, broker: broker, stolen: stolenTime(), report: StepsReport{Sessions: sleepers + stepClients, Subscriptions: sleepers * each}}
	// The first devices are those of freshShape.
	sleep := func() error { return putToSleep(ctx, broker.Plain, 0, sleepers, each, fleetMeasured) }
	if err := sleep(); err != nil {
		return nil, err
	}
	if err := s.phase(ctx, "sessions come, subscribe and leave", 0); err != nil {
		return nil, err
	}
	for _, l := range stepLoads {
		if err := s.load(ctx, l.shape(), l.qos); err != nil {
			return nil, err
		}
	}
	if err := s.beside(ctx, Shapes[0], sleep); err != nil {
		return nil, err
	}
	s.report.Bytes, err = broker.RSS()
	return &s.report, err
}

type stepsRun struct {
	*ScalePlan
	broker ScaleBroker
	report StepsReport
	stolen time.Duration // until the last phase ended
}

// phase notes the longest step so far.
func (s *stepsRun) phase(ctx context.Context, name string, rate float64) error {
	longest, err := s.broker.LongestStep(ctx)
	if err != nil {
		return err
	}
	stolen := stolenTime()
	p := StepPhase{Name: name, LongestStep: longest, Rate: rate, Stolen: stolen - s.stolen}
	s.stolen = stolen
	s.report.Phases = append(s.report.Phases, p)
	s.say("%-44s longest step so far %v of processor time, %v by the clock; the host took %v", name, longest.Used.Round(time.Microsecond),
		longest.Wall.Round(time.Microsecond), p.Stolen)
	return nil
}

// stepWindow is how long each load lasts.
const stepWindow = 3 // times the window of a measurement of throughput

// load measures while clients come and go.
func (s *stepsRun) load(ctx context.Context, shape Shape, qos byte) error {
	var r Result
	visitors, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range churners {
		all.Go(func() {
			for k := 0; visitors.Err() == nil; k++ {
				if err := visit(ctx, s.broker.Plain, fmt.Sprintf("steps-%d-%d", i, k), k%2 == 0); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	r, err := Measure(ctx, s.broker.Plain, Load{Shape: shape, QoS: qos, Payload: 64, Window: stepWindow * s.Window})
	stop()
	all.Wait()
	if e := failed.Load(); err == nil && e != nil {
		err = *e
	}
	if err != nil {
		return fmt.Errorf("%s, QoS %d: %w", shape.Name, qos, err)
	}
	return s.phase(ctx, fmt.Sprintf("%s, QoS %d, clients come and go", shape.Name, qos), r.Rate)
}

// beside does something while messages of a shape are delivered at QoS 0.
func (s *stepsRun) beside(ctx context.Context, shape Shape, do func() error) error {
	crew, ctx := newCrew(ctx)
	m := &measurement{crew: crew, load: Load{Shape: shape, Payload: 64}}
	defer m.end()
	if err := m.connect(ctx, s.broker.Plain, shape, 0); err != nil {
		return err
	}
	m.start()
	begun := time.Now()
	if err := do(); err != nil {
		return err
	}
	rate := float64(m.delivered()) / time.Since(begun).Seconds()
	return s.phase(ctx, shape.Name+", QoS 0, all sessions are taken up again", rate)
}
