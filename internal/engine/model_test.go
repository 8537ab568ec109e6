package engine

import (
	"testing"

	"github.com/vouchmq/vouchmq/internal/broker"
	"github.com/vouchmq/vouchmq/internal/brokertest"
)

// modelCore lets a [brokertest.Rig] drive a core of either engine. An error of the core, which is then of no further
// use, ends the test.
type modelCore struct {
	t    *testing.T
	core Core
}

func (c modelCore) Batch(size uint32) []byte      { return c.must(c.core.Batch(size)) }
func (c modelCore) Step(start, end uint32) []byte { return c.must(c.core.Step(start, end)) }
func (c modelCore) Chunk(i uint32) []byte         { return c.must(c.core.Chunk(i)) }

func (c modelCore) must(b []byte, err error) []byte {
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// TestAgainstModel lets clients do random things with both engines and compares what they get with what a model says.
// VOUCHMQ_SEED repeats a failure, VOUCHMQ_ROUNDS says how often it is done.
func TestAgainstModel(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	module := compiledBroker(t)
	for _, factory := range []Factory{NativeFactory(func() GoCore { return broker.New() }), module} {
		t.Run(factory.Kind(), func(t *testing.T) {
			for _, seed := range brokertest.ModelSeeds(rounds) {
				againstModel(t, factory, seed)
			}
		})
	}
}

func againstModel(t *testing.T, factory Factory, seed uint64) {
	core, err := factory.NewCore()
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	t.Logf("VOUCHMQ_SEED=%d", seed) // a core that fails ends the test at once
	if err := brokertest.PlayModel(modelCore{t, core}, seed, nil); err != nil {
		t.Fatal(err)
	}
}
