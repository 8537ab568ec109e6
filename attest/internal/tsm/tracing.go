package tsm

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
)

// tracing remembers the kernel's first error: the library passes on its text only.
type tracing struct {
	configfsi.Client
	first error
}

func (t *tracing) note(err error) error {
	if t.first == nil {
		t.first = err
	}
	return err
}

// MkdirTemp makes an entry.
func (t *tracing) MkdirTemp(dir, pattern string) (string, error) {
	name, err := t.Client.MkdirTemp(dir, pattern)
	return name, t.note(err)
}

// ReadFile reads an attribute.
func (t *tracing) ReadFile(name string) ([]byte, error) {
	data, err := t.Client.ReadFile(name)
	return data, t.note(err)
}

// WriteFile writes an attribute.
func (t *tracing) WriteFile(name string, contents []byte) error {
	return t.note(t.Client.WriteFile(name, contents))
}

// RemoveAll removes an entry.
func (t *tracing) RemoveAll(name string) error { return t.note(t.Client.RemoveAll(name)) }

func (t *tracing) explain(err error) error {
	switch {
	case t.first == nil:
		return err
	case errors.Is(t.first, os.ErrPermission):
		return fmt.Errorf("%v: making quotes needs root: %w", err, t.first)
	}
	return fmt.Errorf("%v: %w", err, t.first)
}
