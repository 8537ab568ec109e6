//go:build wasip1

// Command broker is the broker's core as a WebAssembly module: it binds package broker to the contract of
// package abi, and does nothing else. `make module` builds it; its SHA-384 is what clients verify.
package main

import (
	"runtime"
	"unsafe"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/broker"
)

var core = broker.New()

func main() {} // never runs: the module is a reactor

//go:wasmexport vouchmq_abi_version
func version() uint32 { return abi.Version }

//go:wasmexport vouchmq_batch
func batch(size uint32) uint32 { return address(core.Batch(size)) }

// steps counts the steps since the collector had its turn.
var steps uint32

// stepsPerYield is after how many steps the module yields to Go's scheduler: when an exported function returns, no
// other goroutine runs, and so the collector would never come to mark and sweep what connections leave behind.
const stepsPerYield = 64

//go:wasmexport vouchmq_step
func step(start, end uint32) uint64 {
	if steps++; steps == stepsPerYield {
		steps = 0
		runtime.Gosched()
	}
	return view(core.Step(start, end))
}

//go:wasmexport vouchmq_chunk
func chunk(index uint32) uint64 { return view(core.Chunk(index)) }

// view is how a slice is told to the host: its address in the upper half, its size in the lower.
func view(b []byte) uint64 { return uint64(address(b))<<32 | uint64(len(b)) }

// address is where a slice lies in the module's memory. The core keeps what it has handed out, and Go's
// collector does not move it.
func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
