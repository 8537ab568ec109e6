// Package samples finds recorded evidence of real hardware for tests. It is not part of the repository: the variable
// VOUCHMQ_SAMPLES names the folder, and tests that need it are skipped elsewhere.
package samples

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns where a file of the folder is, by its path below it with slashes. It skips the test where there is no folder.
func Path(t testing.TB, path string) string {
	t.Helper()
	dir := os.Getenv("VOUCHMQ_SAMPLES")
	if dir == "" {
		t.Skip("VOUCHMQ_SAMPLES does not say where recorded evidence is")
	}
	return filepath.Join(dir, filepath.FromSlash(path))
}

// Read returns a file of the folder.
func Read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(Path(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
