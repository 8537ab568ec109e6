//go:build wasip1

// Command extra is a module that exports a function which is not part of the contract.
package main

func main() {}

//go:wasmexport vouchmq_abi_version
func version() uint32 { return 1 }

//go:wasmexport vouchmq_batch
func batch(uint32) uint32 { return 0 }

//go:wasmexport vouchmq_step
func step(_, _ uint32) uint64 { return 0 }

//go:wasmexport vouchmq_chunk
func chunk(uint32) uint64 { return 0 }

//go:wasmexport backdoor
func backdoor() {}
