package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
)

// echoBytes is testdata/guest, built once.
var echoBytes = sync.OnceValues(func() ([]byte, error) { return moduletest.Bytes(".", "./testdata/guest") })

func echoModule(t testing.TB) []byte {
	t.Helper()
	b, err := echoBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// echo is the same, compiled once with the default configuration.
var echo = sync.OnceValues(func() (*Module, error) {
	b, err := echoBytes()
	if err != nil {
		return nil, err
	}
	return Compile(context.Background(), b, ModuleConfig{})
})

// compiledEcho returns what tests share; nobody closes it.
func compiledEcho(t testing.TB) *Module {
	t.Helper()
	m, err := echo()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sharedBroker is what compiledBroker returns.
var sharedBroker struct {
	once   sync.Once
	module *Module
	err    error
}

// compiledBroker is the broker's module, compiled once with the default configuration: it takes the race detector long. Nobody closes it.
func compiledBroker(t testing.TB) *Module {
	t.Helper()
	b := moduletest.Broker(t)
	sharedBroker.once.Do(func() { sharedBroker.module, sharedBroker.err = Compile(context.Background(), b, ModuleConfig{}) })
	if sharedBroker.err != nil {
		t.Fatal(sharedBroker.err)
	}
	return sharedBroker.module
}

func compileEcho(t testing.TB, config ModuleConfig) *Module {
	t.Helper()
	m, err := Compile(context.Background(), echoModule(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// runOne gives a core one event and returns the effects.
func runOne(core Core, kind abi.EventKind, conn abi.Conn, data string) ([]byte, error) {
	event := abi.AppendEvent(nil, kind, conn, 1, []byte(data))
	end := uint32(abi.BatchHeaderSize + len(event))
	b, err := core.Batch(end)
	if err != nil {
		return nil, err
	}
	abi.PutBatchHeader(b, &abi.BatchHeader{Now: 1})
	copy(b[abi.BatchHeaderSize:], event)
	return core.Step(abi.BatchHeaderSize, end)
}

func TestModuleRuns(t *testing.T) {
	m := compiledEcho(t)
	core, err := m.NewCore()
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	effects, err := runOne(core, abi.EventPackets, 7, "hello")
	if err != nil {
		t.Fatal(err)
	}
	var e abi.Effect
	if _, err := abi.NextEffect(effects, abi.EffectsHeaderSize, &e); err != nil || e.Conn != 7 || string(e.Data) != "hello" {
		t.Fatalf("effect %+v, error %v", e, err)
	}
	if b, err := core.Chunk(0); err != nil || string(b) != "what the core keeps" {
		t.Fatalf("chunk 0 is %q, error %v", b, err)
	}
	if b, err := core.Chunk(1); err != nil || b != nil {
		t.Fatalf("chunk 1 is %q, error %v", b, err)
	}
}

// Views of the module's memory must not move when it grows: the applier holds them while the core runs on.
func TestMemoryStaysInPlaceWhenItGrows(t *testing.T) {
	core, err := compiledEcho(t).NewCore()
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	c := core.(*wasmCore)
	before, size := base(c), c.memory.Size()
	if _, err := core.Batch(64 << 20); err != nil {
		t.Fatal(err)
	}
	if c.memory.Size() <= size {
		t.Fatal("memory did not grow")
	}
	if base(c) != before {
		t.Fatal("memory moved when it grew")
	}
}

func base(c *wasmCore) *byte {
	b, _ := c.memory.Read(0, 1)
	return unsafe.SliceData(b)
}

func TestModuleFailures(t *testing.T) {
	var log strings.Builder
	m := compileEcho(t, ModuleConfig{MemoryLimit: 64 << 20, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, test := range []struct{ name, data, log string }{
		{"trap", "T", "told to trap"},
		{"memory", "G", "out of memory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			core, err := m.NewCore()
			if err != nil {
				t.Fatal(err)
			}
			defer core.Close()
			if _, err := runOne(core, abi.EventPackets, 1, test.data); !errors.Is(err, ErrCoreFailed) {
				t.Fatalf("error %v, want ErrCoreFailed", err)
			}
			if !strings.Contains(log.String(), test.log) {
				t.Fatalf("log does not say %q: %s", test.log, log.String())
			}
			if log.Len() > 4*maxGuestLog {
				t.Fatalf("module wrote %d bytes to the log", log.Len())
			}
		})
	}
}

func TestModulesAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles modules, which takes the race detector long, and runs nothing at the same time")
	}
	whole := echoModule(t)
	wrongVersion := func(t *testing.T) []byte { return moduletest.Build(t, ".", "./testdata/version") }
	for _, test := range []struct {
		name   string
		module func(t *testing.T) []byte
		want   string
	}{
		{"no module", func(*testing.T) []byte { return []byte("MZ") }, "invalid magic number"},
		{"cut short", func(*testing.T) []byte { return whole[:len(whole)/2] }, ""},
		{"opens a file", func(t *testing.T) []byte { return moduletest.Build(t, ".", "./testdata/files") }, wasiModule + "."},
		{"exports more", func(t *testing.T) []byte { return moduletest.Build(t, ".", "./testdata/extra") }, "backdoor"},
		{"wrong version", wrongVersion, "version 999"},
		{"exports nothing", func(*testing.T) []byte { return []byte("\x00asm\x01\x00\x00\x00") }, "does not export"},
		{"foreign import", func(*testing.T) []byte { return foreignImport }, "env.f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := Compile(context.Background(), test.module(t), ModuleConfig{})
			if err == nil {
				_ = m.Close()
				t.Fatal("accepted")
			}
			if !errors.Is(err, ErrModuleRefused) || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %q, want ErrModuleRefused and %q", err, test.want)
			}
		})
	}
}

// foreignImport is (module (import "env" "f" (func))).
var foreignImport = []byte("\x00asm\x01\x00\x00\x00" +
	"\x01\x04\x01\x60\x00\x00" + // type section: () -> ()
	"\x02\x09\x01\x03env\x01f\x00\x00") // import section

// Randomness that the Go runtime in the module gets must not show in the effects.
func TestEffectsDoNotDependOnSeed(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles modules, which takes the race detector long, and runs nothing at the same time")
	}
	var effects [2]string
	for i := range effects {
		core, err := compileEcho(t, ModuleConfig{Seed: [32]byte{byte(i)}}).NewCore()
		if err != nil {
			t.Fatal(err)
		}
		b, err := runOne(core, abi.EventPackets, 1, "x")
		if err != nil {
			t.Fatal(err)
		}
		effects[i] = string(b)
		if err := core.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if effects[0] != effects[1] {
		t.Fatal("effects differ")
	}
}

// A fresh instance after a crash must not take as long as compiling does.
func BenchmarkNewInstance(b *testing.B) {
	m := compiledEcho(b)
	for b.Loop() {
		core, err := m.NewCore()
		if err != nil {
			b.Fatal(err)
		}
		_ = core.Close()
	}
}
