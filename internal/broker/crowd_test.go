package broker

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/brokertest"
)

// crowdLimits are tight, so that all limits are met.
func crowdLimits(stepWork uint32) abi.Limits {
	l := brokertest.ScriptLimits
	l.MaxInflight, l.ReceiveMaximum, l.TopicAliasMaximum, l.MaxQueued, l.MaxRetained = 5, 4, 3, 20, 20
	l.MaxSubscriptions, l.MaxTopicLevels, l.StallTimeout, l.StepWork = 12, 4, 2000, stepWork
	l.MaxQueuedBytes, l.ConnectTimeout, l.MaxAliasesOut = 20_000, 3000, 2
	return l
}

// TestShortAndLongWay compares a core with one in which nothing goes the short way, with limits that are met all the
// time, and with such that let runs of QoS 1 and 2 through.
func TestShortAndLongWay(t *testing.T) {
	wide := crowdLimits(1 << 20)
	wide.MaxInflight, wide.ReceiveMaximum, wide.MaxQueued = 20, 100, 200
	for i := range 40 {
		long, limits := New(), []abi.Limits{crowdLimits(1 << 20), wide}[i%2]
		long.longWay = true
		w := brokertest.NewCrowd(newRandom(t), []brokertest.Core{New(), long}, []abi.Limits{limits, limits})
		if err := errors.Join(w.Play(300), w.CompareStats(), long.checkGroups()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunsMakeNoDifference compares a core that is given packets as they come with one whose host has found the runs among
// them, and with one that is given the same and knows no short way.
func TestRunsMakeNoDifference(t *testing.T) {
	wide := crowdLimits(1 << 20)
	wide.MaxInflight, wide.ReceiveMaximum, wide.MaxQueued = 20, 100, 200
	for i := range 20 {
		long, limits := New(), []abi.Limits{crowdLimits(1 << 20), wide}[i%2]
		long.longWay = true
		w := brokertest.NewCrowd(newRandom(t), []brokertest.Core{New(), New(), long}, []abi.Limits{limits, limits, limits})
		w.Same = brokertest.SameByType // acknowledgements leave at the end of each event
		w.Rigs[1].Shortest, w.Rigs[2].Shortest = 2, 2
		if err := errors.Join(w.Play(300), w.CompareStats()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStepsMakeNoDifference compares a core that stops after each unit of work, and one that does now and then,
// with one that never does.
func TestStepsMakeNoDifference(t *testing.T) {
	for range 20 {
		limits := []abi.Limits{crowdLimits(1 << 20), crowdLimits(1), crowdLimits(7)}
		w := brokertest.NewCrowd(newRandom(t), []brokertest.Core{New(), New(), New()}, limits)
		w.Rigs[0].Shortest, w.Rigs[1].Shortest = 2, 2
		w.Same = brokertest.SameByType
		if err := errors.Join(w.Play(300), w.CompareStats()); err != nil {
			t.Fatal(err)
		}
		if w.Rigs[0].Stops > 0 || w.Rigs[1].Stops == 0 || w.Rigs[2].Stops == 0 {
			t.Fatalf("%d, %d and %d steps came only part of the way", w.Rigs[0].Stops, w.Rigs[1].Stops, w.Rigs[2].Stops)
		}
	}
}

// TestSameBatchesSameEffects compares two cores byte by byte.
func TestSameBatchesSameEffects(t *testing.T) {
	for range 5 {
		w := brokertest.NewCrowd(newRandom(t), []brokertest.Core{New(), New()}, []abi.Limits{crowdLimits(50), crowdLimits(50)})
		if err := w.Play(500); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.Rigs[0].Trace, w.Rigs[1].Trace) {
			t.Fatal("the effects differ")
		}
	}
}
