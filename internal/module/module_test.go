package module_test

import (
	"crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vouchmq/vouchmq/internal/module"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
)

// Whoever builds the module must get the digest that the policy names, wherever they keep the sources.
func TestModuleIsReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the module twice from scratch")
	}
	var digests [2][sha512.Size384]byte
	from := filepath.Join("..", "..")
	for i := range digests {
		dir := t.TempDir()
		copySources(t, from, dir)
		from = dir
		cache := t.TempDir()
		digests[i] = sha512.Sum384(moduletest.Build(t, dir, "./guest/broker", "GOCACHE="+cache))
	}
	if digests[0] != digests[1] {
		t.Fatalf("two builds in two folders differ:\n%x\n%x", digests[0], digests[1])
	}
	if here := sha512.Sum384(moduletest.Broker(t)); here != digests[0] {
		t.Fatalf("the build in the checkout differs from the one of its copy:\n%x\n%x", here, digests[0])
	}
}

// copySources copies what the module is built from.
func copySources(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"go.mod", "go.sum", "guest", "internal/abi", "internal/mqtt", "internal/broker"} {
		source, target := filepath.Join(from, name), filepath.Join(to, name)
		info, err := os.Stat(source)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(target, os.DirFS(source))
		} else {
			var b []byte
			if b, err = os.ReadFile(source); err == nil {
				err = os.WriteFile(target, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBytes(t *testing.T) {
	b, err := module.Bytes()
	if _, statErr := os.Stat("broker.wasm"); statErr != nil {
		if !errors.Is(err, module.ErrNotBuilt) {
			t.Fatalf("without a module: %v, want ErrNotBuilt", err)
		}
		return
	}
	if err != nil || len(b) < 8 || string(b[:4]) != "\x00asm" {
		t.Fatalf("%d bytes, error %v: not a module", len(b), err)
	}
}
