// Package module carries the broker's WebAssembly module inside the binary.
//
// The module is built by `make module`, from guest/broker, reproducibly: its bytes depend on its sources and
// on the version of Go alone. It is not committed, so a program that was built without it says so when it is
// asked for the module, and tests build it themselves (package moduletest).
package module

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

// README.md and broker.wasm: the package compiles before the module has been built.
//
//go:embed [Rb]*[dm]
var folder embed.FS

// ErrNotBuilt says that this program was built before the module was.
var ErrNotBuilt = errors.New("this program was built without the broker's module: run `make` (it builds the module, then the binary), or use the native engine")

// Bytes returns the module as it was built. The caller must not change it.
func Bytes() ([]byte, error) {
	b, err := folder.ReadFile("broker.wasm")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, fmt.Errorf("read the embedded module: %w", err)
	}
	return b, nil
}
