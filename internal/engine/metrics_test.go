package engine

import (
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
)

func TestMetricsTellMemoryAndTimeOfSteps(t *testing.T) {
	e, err := Start(Config{Core: compiledEcho(t), Applier: &fakeApplier{sent: map[abi.Conn][]byte{}}, Configuration: []byte("limits")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	m := e.Metrics()
	if m.Memory < wasmPage || m.Memory%wasmPage != 0 {
		t.Errorf("the module has a memory of %d bytes", m.Memory)
	}
	if m.StepTime <= 0 || m.StepTime < m.LongestStep {
		t.Errorf("all steps took %v, the longest %v", m.StepTime, m.LongestStep)
	}
	native := startRig(t, Config{}, &fakeLog{})
	if n := native.Metrics().Memory; n != 0 {
		t.Errorf("a native core has a memory of %d bytes", n)
	}
}
