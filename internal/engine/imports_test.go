package engine

import (
	"maps"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/vouchmq/vouchmq/internal/module/moduletest"
)

// TestModuleAsksTheHostForLittle lets messages through and counts what the module calls of the host: each call leaves compiled code
// and comes back. Go's scheduler reads the clock when the module yields, every 64 steps, and when it collects.
func TestModuleAsksTheHostForLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles modules, which takes the race detector long, and runs nothing at the same time")
	}
	calls := map[string]int{}
	usual := slices.Clone(wasiFunctions)
	defer copy(wasiFunctions, usual)
	for i, f := range usual {
		if f.call != nil {
			wasiFunctions[i].call = func(w *wasi, mem api.Memory, args []uint64) uint32 {
				calls[f.name]++
				return f.call(w, mem, args)
			}
		}
	}
	module, err := Compile(t.Context(), moduletest.Broker(t), ModuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()
	core, err := module.NewCore()
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	s := &stepper{b: t, core: core}
	s.setUp(0, 1)
	packets := benchPublishes(0)
	play := func(steps int) {
		for range steps {
			s.begin()
			s.packets(1, packets)
			s.run()
		}
	}
	play(256)
	clear(calls)
	const steps = 6400
	play(steps)
	total := 0
	for n := range maps.Values(calls) {
		total += n
	}
	const most = 0.005 // calls for each step
	if each := float64(total) / steps; each > most*1.05 {
		t.Errorf("%.3f calls of the host for each step, not more than %.3f before: %v", each, most, calls)
	}
	t.Log(calls)
}
