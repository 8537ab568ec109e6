// Package moduletest builds WebAssembly modules for tests, with the flags that `make module` uses.
package moduletest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Flags are what makes the bytes of a module depend on its sources and on the version of Go alone.
var Flags = []string{"-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="}

// brokerPackage is the module of the broker.
const brokerPackage = "github.com/vouchmq/vouchmq/guest/broker"

var broker = sync.OnceValues(func() ([]byte, error) { return Bytes(".", brokerPackage) })

// Broker returns the broker's module, built once for all tests of a process.
func Broker(t testing.TB) []byte {
	t.Helper()
	module, err := broker()
	if err != nil {
		t.Fatalf("build the broker's module: %v", err)
	}
	return module
}

// Build returns the module of the Go program pkg, as seen from the folder dir, built with further variables
// of the environment.
func Build(t testing.TB, dir, pkg string, env ...string) []byte {
	t.Helper()
	module, err := Bytes(dir, pkg, env...)
	if err != nil {
		t.Fatalf("build the module %s: %v", pkg, err)
	}
	return module
}

// Bytes is Build where there is no test at hand.
func Bytes(dir, pkg string, env ...string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "vouchmq-module-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	out := filepath.Join(folder, "module.wasm")
	cmd := exec.Command("go", append(append([]string{"build"}, Flags...), "-o", out, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0"), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	return os.ReadFile(out)
}
