package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/vouchmq/vouchmq/internal/atomicfile"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, step := range []struct {
		write   func(string, []byte, fs.FileMode) error
		content string
		mode    fs.FileMode
		err     error
		after   string
	}{
		{atomicfile.Create, "one", atomicfile.Secret, nil, "one"},
		{atomicfile.Create, "two", atomicfile.Secret, fs.ErrExist, "one"},
		{atomicfile.Replace, "three", atomicfile.Public, nil, "three"},
	} {
		if err := step.write(path, []byte(step.content), step.mode); !errors.Is(err, step.err) {
			t.Errorf("write %s: %v", step.content, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != step.after {
			t.Errorf("after %s: %q, %v", step.content, b, err)
		}
		if info, err := os.Stat(path); err != nil || step.err == nil && info.Mode() != step.mode {
			t.Error(step.content, info.Mode(), err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
	if err := atomicfile.Replace(filepath.Join(dir, "none", "a"), nil, atomicfile.Secret); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
