//go:build wasip1

// Command guest is a module for the tests of package engine. It echoes: an event of packets becomes a send
// to the connection that it came from. The first byte of the data may ask for something worse.
package main

import (
	"unsafe"

	"github.com/vouchmq/vouchmq/internal/abi"
)

var (
	batchMemory []byte
	effects     []byte
	hoard       [][]byte
	chunkMemory = []byte("what the core keeps")
)

func main() {}

//go:wasmexport vouchmq_abi_version
func version() uint32 { return abi.Version }

//go:wasmexport vouchmq_batch
func batch(size uint32) uint32 {
	if uint32(cap(batchMemory)) < size {
		batchMemory = make([]byte, size)
	}
	batchMemory = batchMemory[:size]
	return address(batchMemory)
}

//go:wasmexport vouchmq_chunk
func chunk(index uint32) uint64 {
	if index != 0 {
		return 0
	}
	return view(chunkMemory)
}

//go:wasmexport vouchmq_step
func step(start, end uint32) uint64 {
	effects = append(effects[:0], make([]byte, abi.EffectsHeaderSize)...)
	var event abi.Event
	for at := start; at < end; {
		next, err := abi.NextEvent(batchMemory, at, &event)
		if err != nil {
			panic(err)
		}
		handle(&event)
		at = next
	}
	abi.PutEffectsHeader(effects, &abi.EffectsHeader{Size: uint32(len(effects)), Consumed: end})
	return view(effects)
}

func handle(event *abi.Event) {
	if event.Kind != abi.EventPackets || len(event.Data) == 0 {
		return
	}
	switch event.Data[0] {
	case 'T':
		panic("told to trap")
	case 'L':
		for {
		}
	case 'G':
		for {
			hoard = append(hoard, make([]byte, 1<<20))
		}
	}
	effects = abi.AppendEffect(effects, abi.EffectSend, 0, event.Conn, 0, event.Data)
}

func view(b []byte) uint64 { return uint64(address(b))<<32 | uint64(len(b)) }

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
