package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// wasiModule is the module that a WASI preview 1 program imports from.
const wasiModule = "wasi_snapshot_preview1"

// Error numbers of WASI preview 1.
const (
	wasiOK    = 0
	wasiBadF  = 8
	wasiFault = 21
	wasiInval = 28
)

// maxGuestLog bounds what one instance may write to the log: enough for the trace of a crash.
const maxGuestLog = 64 << 10

// wasi is the world of one instance: no arguments, no environment, no files. Its clock counts the questions
// it was asked and its randomness is a function of the seed, so what the module computes depends on its
// batches alone.
type wasi struct {
	log    *slog.Logger
	random *rand.ChaCha8
	ticks  uint64
	logged int
}

// wasiFunction is one function that a module may import.
type wasiFunction struct {
	name   string
	params []api.ValueType
	call   func(w *wasi, mem api.Memory, args []uint64) uint32
}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// wasiFunctions is all that a module may import: exactly what the Go runtime needs as a reactor. A module
// that asks for a file, a socket or a directory is refused before it runs.
var wasiFunctions = []wasiFunction{
	{"args_get", []api.ValueType{i32, i32}, func(*wasi, api.Memory, []uint64) uint32 { return wasiOK }},
	{"args_sizes_get", []api.ValueType{i32, i32}, noStrings},
	{"environ_get", []api.ValueType{i32, i32}, func(*wasi, api.Memory, []uint64) uint32 { return wasiOK }},
	{"environ_sizes_get", []api.ValueType{i32, i32}, noStrings},
	{"clock_time_get", []api.ValueType{i32, i64, i32}, (*wasi).clockTimeGet},
	{"fd_write", []api.ValueType{i32, i32, i32, i32}, (*wasi).fdWrite},
	{"poll_oneoff", []api.ValueType{i32, i32, i32, i32}, (*wasi).pollOneoff},
	{"proc_exit", []api.ValueType{i32}, nil}, // does not return, see procExit
	{"random_get", []api.ValueType{i32, i32}, (*wasi).randomGet},
	{"sched_yield", nil, func(*wasi, api.Memory, []uint64) uint32 { return wasiOK }},
}

// instantiateWASI gives the runtime the functions above.
func instantiateWASI(ctx context.Context, runtime wazero.Runtime, w *wasi) error {
	builder := runtime.NewHostModuleBuilder(wasiModule)
	for _, f := range wasiFunctions {
		results := []api.ValueType{i32}
		call := func(_ context.Context, m api.Module, stack []uint64) {
			stack[0] = uint64(f.call(w, m.Memory(), stack))
		}
		if f.call == nil {
			results, call = nil, procExit
		}
		builder = builder.NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(call), f.params, results).Export(f.name)
	}
	_, err := builder.Instantiate(ctx)
	return err
}

// procExit is the module's wish to end: for a reactor always the end of a crash.
func procExit(_ context.Context, _ api.Module, stack []uint64) {
	panic(sys.NewExitError(uint32(stack[0])))
}

// noStrings says that there are 0 strings of 0 bytes.
func noStrings(_ *wasi, mem api.Memory, args []uint64) uint32 {
	if !mem.WriteUint32Le(uint32(args[0]), 0) || !mem.WriteUint32Le(uint32(args[1]), 0) {
		return wasiFault
	}
	return wasiOK
}

// clockTimeGet gives a clock that moves on by a millisecond whenever it is read: the Go runtime's scheduler
// and collector need one that moves, the core takes the time from its batch.
func (w *wasi) clockTimeGet(mem api.Memory, args []uint64) uint32 {
	w.ticks++
	if !mem.WriteUint64Le(uint32(args[2]), w.ticks*1_000_000) {
		return wasiFault
	}
	return wasiOK
}

// fdWrite takes what the Go runtime says when it crashes.
func (w *wasi) fdWrite(mem api.Memory, args []uint64) uint32 {
	fd, list, n := uint32(args[0]), uint32(args[1]), uint32(args[2])
	if fd != 1 && fd != 2 {
		return wasiBadF
	}
	var total uint32
	for i := range min(n, 1024) {
		entry, ok := mem.Read(list+8*i, 8)
		if !ok {
			return wasiFault
		}
		text, ok := mem.Read(binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint32(entry[4:]))
		if !ok {
			return wasiFault
		}
		w.say(text)
		total += uint32(len(text))
	}
	if !mem.WriteUint32Le(uint32(args[3]), total) {
		return wasiFault
	}
	return wasiOK
}

// say logs what the module wrote, as long as it is not too much.
func (w *wasi) say(text []byte) {
	if text = text[:min(len(text), maxGuestLog-w.logged)]; len(text) == 0 {
		return
	}
	w.logged += len(text)
	w.log.Error("module wrote", "text", string(text))
}

// Sizes and offsets of subscription and event in WASI preview 1.
const (
	wasiSubscriptionSize = 48
	wasiEventSize        = 32
)

// pollOneoff is how the Go runtime sleeps. Nothing sleeps here: every timer has gone off.
func (w *wasi) pollOneoff(mem api.Memory, args []uint64) uint32 {
	in, out, n := uint32(args[0]), uint32(args[1]), uint32(args[2])
	if n == 0 || n > 16 {
		return wasiInval
	}
	for i := range n {
		sub, ok := mem.Read(in+i*wasiSubscriptionSize, wasiSubscriptionSize)
		if !ok {
			return wasiFault
		}
		event, ok := mem.Read(out+i*wasiEventSize, wasiEventSize)
		if !ok {
			return wasiFault
		}
		userData := binary.LittleEndian.Uint64(sub)
		clear(event)
		binary.LittleEndian.PutUint64(event, userData) // error 0 and type 0, a clock, follow
	}
	if !mem.WriteUint32Le(uint32(args[3]), n) {
		return wasiFault
	}
	return wasiOK
}

// randomGet seeds the Go runtime's hash tables.
func (w *wasi) randomGet(mem api.Memory, args []uint64) uint32 {
	b, ok := mem.Read(uint32(args[0]), uint32(args[1]))
	if !ok {
		return wasiFault
	}
	_, _ = w.random.Read(b) // never fails
	return wasiOK
}

// checkImports refuses a module that imports anything but wasiFunctions.
func checkImports(m wazero.CompiledModule) error {
	for _, def := range m.ImportedMemories() {
		module, name, _ := def.Import()
		return fmt.Errorf("%w: it imports the memory %s.%s", ErrModuleRefused, module, name)
	}
	for _, def := range m.ImportedFunctions() {
		module, name, _ := def.Import()
		if module != wasiModule || !isWASIFunction(name) {
			return fmt.Errorf("%w: it imports the function %s.%s, which the broker does not give", ErrModuleRefused, module, name)
		}
	}
	return nil
}

func isWASIFunction(name string) bool {
	for _, f := range wasiFunctions {
		if f.name == name {
			return true
		}
	}
	return false
}
