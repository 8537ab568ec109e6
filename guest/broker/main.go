//go:build wasip1

// Command broker is the broker's core as a WebAssembly module: it binds package broker to the contract of
// package abi, and does nothing else. `make module` builds it; its SHA-384 is what clients verify.
package main

import (
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

//go:wasmexport vouchmq_step
func step(start, end uint32) uint64 { return view(core.Step(start, end)) }

//go:wasmexport vouchmq_chunk
func chunk(index uint32) uint64 { return view(core.Chunk(index)) }

// view is how a slice is told to the host: its address in the upper half, its size in the lower.
func view(b []byte) uint64 { return uint64(address(b))<<32 | uint64(len(b)) }

// address is where a slice lies in the module's memory. The core keeps what it has handed out, and Go's
// collector does not move it.
func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
