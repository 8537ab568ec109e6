package dcap

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vouchmq/vouchmq/internal/samples"
)

// otherRoot matches what makes, or takes, another root than Intel's.
var otherRoot = regexp.MustCompile(`\b(NewRoot|OpenUnder)\(|\bRoot\{`)

// TestOnlyTestsHaveOtherRoots: no code but that of tests can be made to trust another root than Intel's.
func TestOnlyTestsHaveOtherRoots(t *testing.T) {
	top := filepath.Join("..", "..", "..")
	defined := []string{"attest/internal/dcap/root.go", "attest/collateral/store.go"}
	files := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "dcaptest") {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		name, _ := filepath.Rel(top, path)
		name = filepath.ToSlash(name)
		if !strings.HasPrefix(name, "attest/") || slices.Contains(defined, name) {
			return nil // elsewhere the package cannot be imported
		}
		if found := otherRoot.FindAllString(string(content), -1); len(found) > 0 {
			t.Errorf("%s has %q", name, found)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Fatal(files, err)
	}
}

// TestIntelRoot: the pinned key is that of Intel's certificate.
func TestIntelRoot(t *testing.T) {
	if IntelRoot().key == nil {
		t.Fatal("the pinned key cannot be read")
	}
	if (Root{}).is(IntelRoot().key) {
		t.Error("the zero root accepts a key")
	}
	der, err := x509.MarshalPKIXPublicKey(IntelRoot().key)
	if sum := sha256.Sum256(der); err != nil || hex.EncodeToString(sum[:]) != "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e" {
		t.Errorf("the pinned key has digest %x, %v", sum, err)
	}
	text := samples.Read(t, "sgx/intel-sgx-root-ca.pem")
	c, err := readChain(text)
	if err != nil || len(c) != 1 || !IntelRoot().is(c[0].PublicKey) {
		t.Error(err)
	}
	block, _ := pem.Decode(text)
	if sum := sha256.Sum256(block.Bytes); hex.EncodeToString(sum[:4]) != "44a0196b" {
		t.Errorf("%x", sum)
	}
}
