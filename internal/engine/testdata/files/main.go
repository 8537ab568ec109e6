//go:build wasip1

// Command files is a module that wants to open a file.
package main

import "os"

func main() {}

//go:wasmexport vouchmq_abi_version
func version() uint32 {
	_, _ = os.ReadFile("/etc/passwd")
	return 1
}
