package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/vouchmq/vouchmq/internal/abi"
)

// ErrModuleRefused is what all errors are that say why bytes are not run as a module.
var ErrModuleRefused = errors.New("module refused")

// Bounds of what is compiled at all.
const (
	maxModuleSize   = 64 << 20
	wasmPage        = 64 << 10
	maxMemoryPages  = 65536
	defaultMemory   = 1 << 30
	initializeEntry = "_initialize"
)

// ModuleConfig says how the instances of a module run. The zero value is usable.
type ModuleConfig struct {
	// MemoryLimit bounds the memory of an instance in bytes; 0 is 1 GiB, at most 4 GiB. The address space is
	// reserved at once, the memory taken as it is used.
	MemoryLimit uint64
	// Seed is what the Go runtime inside the module takes for randomness. Effects do not depend on it.
	Seed [32]byte
	// Log receives what a crashing module says, 64 KiB at most of each instance; nil is nowhere.
	Log *slog.Logger
}

// Module is a compiled WebAssembly module that follows the contract of package abi. It makes instances.
type Module struct {
	config   ModuleConfig
	cache    wazero.CompilationCache // in memory; shared by the runtimes of the instances
	compiler wazero.Runtime          // keeps the compiled code in the cache
	runtime  wazero.RuntimeConfig
	instance wazero.ModuleConfig
	bytes    []byte
}

// Compile checks and compiles a module. It refuses, with ErrModuleRefused, one that imports anything but
// the few WASI functions a Go reactor needs, or exports anything but the functions of package abi.
func Compile(ctx context.Context, module []byte, config ModuleConfig) (*Module, error) {
	if len(module) > maxModuleSize {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrModuleRefused, len(module), maxModuleSize)
	}
	m := &Module{config: withDefaults(config), bytes: module, cache: wazero.NewCompilationCache()}
	m.runtime = runtimeConfig(m.config.MemoryLimit).WithCompilationCache(m.cache)
	m.compiler = wazero.NewRuntimeWithConfig(ctx, m.runtime)
	m.instance = wazero.NewModuleConfig().WithName("").WithStartFunctions()
	if err := m.check(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func withDefaults(c ModuleConfig) ModuleConfig {
	if c.MemoryLimit == 0 {
		c.MemoryLimit = defaultMemory
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// runtimeConfig asks for the compiler by name: the automatic choice would fall back to the interpreter, fifty
// times slower, without a word. There is no compilation cache on disk: whoever could write to it would own
// the process. Functions are not made to check for cancellation, see the package comment.
func runtimeConfig(memoryLimit uint64) wazero.RuntimeConfig {
	pages := min((memoryLimit+wasmPage-1)/wasmPage, maxMemoryPages)
	return wazero.NewRuntimeConfigCompiler().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(uint32(pages)).
		WithMemoryCapacityFromMax(true).
		WithCustomSections(false).
		WithDebugInfoEnabled(false).
		WithCloseOnContextDone(false)
}

// check compiles the module, looks at what it is, and tries whether an instance starts.
func (m *Module) check(ctx context.Context) error {
	compiled, err := m.compiler.CompileModule(ctx, m.bytes)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModuleRefused, err)
	}
	if err := checkImports(compiled); err != nil {
		return err
	}
	if err := checkExports(compiled); err != nil {
		return err
	}
	core, err := m.NewCore()
	if err != nil {
		return err
	}
	return core.Close()
}

// Kind returns "wasm-compiler".
func (m *Module) Kind() string { return "wasm-compiler" }

// Close frees the compiled code. The instances must have been closed.
func (m *Module) Close() error {
	ctx := context.Background()
	return errors.Join(m.compiler.Close(ctx), m.cache.Close(ctx))
}

// exports is what a module must export, and all that it may, besides its memory.
var exports = map[string]struct{ params, results []api.ValueType }{
	initializeEntry:   {nil, nil},
	abi.ExportVersion: {nil, []api.ValueType{i32}},
	abi.ExportBatch:   {[]api.ValueType{i32}, []api.ValueType{i32}},
	abi.ExportStep:    {[]api.ValueType{i32, i32}, []api.ValueType{i64}},
	abi.ExportChunk:   {[]api.ValueType{i32}, []api.ValueType{i64}},
}

func checkExports(m wazero.CompiledModule) error {
	found := m.ExportedFunctions()
	for name, want := range exports {
		def, ok := found[name]
		if !ok {
			return fmt.Errorf("%w: it does not export the function %s", ErrModuleRefused, name)
		}
		if string(def.ParamTypes()) != string(want.params) || string(def.ResultTypes()) != string(want.results) {
			return fmt.Errorf("%w: its function %s has the wrong signature", ErrModuleRefused, name)
		}
	}
	for name := range found {
		if _, ok := exports[name]; !ok {
			return fmt.Errorf("%w: it exports the function %s, which is not part of the contract", ErrModuleRefused, name)
		}
	}
	if memories := m.ExportedMemories(); len(memories) != 1 || memories["memory"] == nil {
		return fmt.Errorf("%w: it does not export one memory named memory", ErrModuleRefused)
	}
	return nil
}

// wasmCore is an instance of a Module, in a runtime of its own: what one instance did cannot reach the next.
type wasmCore struct {
	ctx     context.Context
	runtime wazero.Runtime
	memory  api.Memory
	batch   api.Function
	step    api.Function
	chunk   api.Function
	stack   [2]uint64
}

// NewCore makes an instance and lets its Go runtime start.
func (m *Module) NewCore() (core Core, err error) {
	ctx := experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(reserve))
	c := &wasmCore{ctx: ctx, runtime: wazero.NewRuntimeWithConfig(ctx, m.runtime)}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: start: %v", ErrCoreFailed, p)
		}
		if err != nil {
			core, err = nil, errors.Join(err, c.Close())
		}
	}()
	world := &wasi{log: m.config.Log, random: rand.NewChaCha8(m.config.Seed)}
	if err := instantiateWASI(ctx, c.runtime, world); err != nil {
		return nil, fmt.Errorf("%w: start: %w", ErrCoreFailed, err)
	}
	instance, err := c.runtime.InstantiateWithConfig(ctx, m.bytes, m.instance)
	if err != nil {
		return nil, fmt.Errorf("%w: start: %w", ErrCoreFailed, err)
	}
	return c, c.bind(instance)
}

// bind starts the module, checks the contract's number and looks up its functions.
func (c *wasmCore) bind(instance api.Module) error {
	c.memory = instance.Memory()
	c.batch = instance.ExportedFunction(abi.ExportBatch)
	c.step = instance.ExportedFunction(abi.ExportStep)
	c.chunk = instance.ExportedFunction(abi.ExportChunk)
	if err := c.call(instance.ExportedFunction(initializeEntry), "start"); err != nil {
		return err
	}
	if err := c.call(instance.ExportedFunction(abi.ExportVersion), "version"); err != nil {
		return err
	}
	if version := uint32(c.stack[0]); version != abi.Version {
		return fmt.Errorf("%w: it follows version %d of the contract, this host version %d", ErrModuleRefused, version, abi.Version)
	}
	return nil
}

// call runs f with the arguments on c.stack and leaves its result there.
func (c *wasmCore) call(f api.Function, where string) error {
	if err := f.CallWithStack(c.ctx, c.stack[:]); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCoreFailed, where, err)
	}
	return nil
}

func (c *wasmCore) Batch(size uint32) ([]byte, error) {
	c.stack[0] = uint64(size)
	if err := c.call(c.batch, "batch"); err != nil {
		return nil, err
	}
	return c.view(uint32(c.stack[0]), size, "batch")
}

func (c *wasmCore) Step(start, end uint32) ([]byte, error) {
	c.stack[0], c.stack[1] = uint64(start), uint64(end)
	if err := c.call(c.step, "step"); err != nil {
		return nil, err
	}
	return c.view(uint32(c.stack[0]>>32), uint32(c.stack[0]), "effects")
}

func (c *wasmCore) Chunk(i uint32) ([]byte, error) {
	c.stack[0] = uint64(i)
	if err := c.call(c.chunk, "chunk"); err != nil {
		return nil, err
	}
	if uint32(c.stack[0]) == 0 {
		return nil, nil
	}
	return c.view(uint32(c.stack[0]>>32), uint32(c.stack[0]), "chunk")
}

// view returns a range of the module's memory. It stays where it is for as long as the instance lives, see
// reserve.
func (c *wasmCore) view(address, size uint32, what string) ([]byte, error) {
	b, ok := c.memory.Read(address, size)
	if !ok {
		return nil, fmt.Errorf("%w: %s of %d bytes at %d lies outside its memory", ErrCoreFailed, what, size, address)
	}
	return b, nil
}

// memorySize asks for pages: in bytes, 4 GiB would be 0.
func (c *wasmCore) memorySize() uint64 {
	pages, _ := c.memory.Grow(0) // cannot fail
	return uint64(pages) * wasmPage
}

func (c *wasmCore) Close() error { return c.runtime.Close(c.ctx) }
