package engine

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
)

// pair runs the broker's core natively and as WebAssembly, side by side.
type pair struct {
	t            testing.TB
	native, wasm Core
	traffic      *traffic
	effects      int
	kinds        effectKinds
}

// step gives both cores the same events and compares everything that comes out.
func (p *pair) step(events []byte, header abi.BatchHeader) {
	p.t.Helper()
	end := uint32(abi.BatchHeaderSize + len(events))
	batches := [2][]byte{}
	for i, core := range []Core{p.native, p.wasm} {
		b, err := core.Batch(end)
		if err != nil {
			p.t.Fatal(err)
		}
		copy(b[abi.BatchHeaderSize:], events)
		batches[i] = b
	}
	for at, more, steps := uint32(abi.BatchHeaderSize), true, 0; (more || at < end) && steps < 1000; steps++ {
		abi.PutBatchHeader(batches[0], &header)
		abi.PutBatchHeader(batches[1], &header)
		var effects [2][]byte
		for i, core := range []Core{p.native, p.wasm} {
			b, err := core.Step(at, end)
			if err != nil {
				p.t.Fatal(err)
			}
			effects[i] = b
		}
		if !bytes.Equal(effects[0], effects[1]) {
			p.t.Fatalf("effects differ:\nnative % x\nwasm   % x", effects[0], effects[1])
		}
		var h abi.EffectsHeader
		if err := abi.ReadEffectsHeader(effects[0], &h); err != nil {
			p.t.Fatal(err)
		}
		p.compareRanges(effects, batches)
		at, more = h.Consumed, h.More
	}
}

// compareRanges compares what deliveries name, and lets the clients hear the effects.
func (p *pair) compareRanges(effects, batches [2][]byte) {
	p.t.Helper()
	memories := [2]memory{{core: p.native, batch: batches[0]}, {core: p.wasm, batch: batches[1]}}
	var e abi.Effect
	for at := abi.EffectsHeaderSize; at < len(effects[0]); {
		next, err := abi.NextEffect(effects[0], at, &e)
		if err != nil {
			p.t.Fatal(err)
		}
		at = next
		p.effects++
		p.kinds[e.Kind]++
		if e.Kind == abi.EffectDeliver {
			var d abi.Deliver
			if err := abi.ReadDeliver(&e, &d); err != nil {
				p.t.Fatal(err)
			}
			one, err1 := memories[0].Range(d.Span())
			two, err2 := memories[1].Range(d.Span())
			if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
				p.t.Fatalf("payload %+v differs: % x (%v), % x (%v)", d.Payload, one, err1, two, err2)
			}
		}
		p.traffic.hear(&e)
	}
}

// effectKinds counts effects by their kinds.
type effectKinds [16]int

func (k *effectKinds) add(more effectKinds) {
	for i, n := range more {
		k[i] += n
	}
}

// The same core natively and as WebAssembly must do the same, byte for byte. VOUCHMQ_SEED repeats a failure.
func TestNativeAndWasmAgree(t *testing.T) {
	module := compiledBroker(t)
	seeds := []uint64{1, 2, 3, rand.Uint64(), rand.Uint64()}
	if s, err := strconv.ParseUint(os.Getenv("VOUCHMQ_SEED"), 10, 64); err == nil {
		seeds = []uint64{s}
	}
	rounds := 4000
	if testing.Short() {
		rounds = 400
	}
	var kinds effectKinds
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { kinds.add(agree(t, module, seed, rounds)) })
	}
	for _, kind := range []abi.EffectKind{
		abi.EffectSend, abi.EffectDeliver, abi.EffectClose, abi.EffectNote, abi.EffectStats,
		abi.EffectAuthenticate, abi.EffectProceed, abi.EffectAnswer,
	} {
		if kinds[kind] < len(seeds)*rounds/200 {
			t.Errorf("effects of kind %d came %d times only: the traffic is not what it should be", kind, kinds[kind])
		}
	}
}

// agree plays traffic to both engines and returns how many effects of each kind came of it.
func agree(t *testing.T, module *Module, seed uint64, rounds int) effectKinds {
	native, err := NativeFactory(func() GoCore { return broker.New() }).NewCore()
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := module.NewCore()
	if err != nil {
		t.Fatal(err)
	}
	defer wasm.Close()
	p := &pair{t: t, native: native, wasm: wasm, traffic: newTraffic(seed)}
	entropy := rand.NewChaCha8([32]byte{byte(seed)})
	header := abi.BatchHeader{Now: p.traffic.now}
	p.step(abi.AppendEvent(nil, abi.EventConfigure, 0, 0, trafficConfig()), header)
	for range rounds {
		events := bytes.Clone(p.traffic.batch())
		header.Now = p.traffic.now
		_, _ = entropy.Read(header.Entropy[:]) // never fails
		p.step(events, header)
	}
	t.Logf("%d effects, by kind %v", p.effects, p.kinds)
	return p.kinds
}
