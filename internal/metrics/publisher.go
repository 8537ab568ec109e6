package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// SysConfig says how often the values below $SYS are published.
type SysConfig struct {
	Interval time.Duration `yaml:"interval" min:"0s" max:"24h" doc:"time between publications below $SYS; 0s is never"`
}

// DefaultSysInterval is Mosquitto's.
const DefaultSysInterval = 10 * time.Second

// Check says what is wrong with a configuration.
func (c SysConfig) Check() error {
	if c.Interval != 0 && (c.Interval < time.Second || c.Interval > 24*time.Hour) {
		return fmt.Errorf("sys.interval is %v: use 0 for never, or 1s to 24h", c.Interval)
	}
	return nil
}

// Publisher publishes the values below $SYS as retained messages, at QoS 0: for a client that was away the last value
// is enough. Whether clients see them is for the policy's rules, which must name $SYS.
type Publisher struct {
	source  Source
	publish func(publication []byte) bool
	log     *slog.Logger

	history  History
	said     map[string]string // by topic
	restarts uint64            // of the core, when said was made
}

// NewPublisher returns a publisher. publish posts data of [abi.EventPublish], and reports whether there still is an
// engine. log may be nil.
func NewPublisher(source Source, publish func(publication []byte) bool, log *slog.Logger) *Publisher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Publisher{source: source, publish: publish, log: log, said: map[string]string{}}
}

// Run publishes at once, and then at each tick, until ctx ends or the engine is closed.
func (p *Publisher) Run(ctx context.Context, ticks <-chan time.Time) {
	for p.round(ctx) {
		select {
		case <-ticks:
		case <-ctx.Done():
			return
		}
	}
}

// errNoAnswer says why a round was left out.
var errNoAnswer = errors.New("the core did not answer in time")

// round publishes what has changed. It returns false if there is no engine any more.
func (p *Publisher) round(ctx context.Context) bool {
	asking, cancel := context.WithTimeoutCause(ctx, scrapeTimeout, errNoAnswer)
	defer cancel()
	s, err := p.source.Snapshot(asking)
	if err != nil {
		p.log.Debug("$SYS is not published this time", "error", err)
		return ctx.Err() == nil
	}
	if s.Engine.Restarts != p.restarts { // the fresh core has no retained messages
		clear(p.said)
		p.restarts = s.Engine.Restarts
	}
	p.history = p.history.Next(&s)
	return p.publishChanged(Topics(&s, &p.history))
}

func (p *Publisher) publishChanged(topics []Topic) bool {
	for _, t := range topics {
		if said, ok := p.said[t.Name]; ok && said == t.Value {
			continue
		}
		if !p.publish(abi.AppendPublication(nil, &abi.Publication{Topic: t.Name, Payload: []byte(t.Value), Retain: true})) {
			return false
		}
		p.said[t.Name] = t.Value
	}
	return true
}
