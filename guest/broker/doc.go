//go:build !wasip1

// Command broker is a WebAssembly module and does nothing anywhere else; see main.go and `make module`.
package main

func main() {}
