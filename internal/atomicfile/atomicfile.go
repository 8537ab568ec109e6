// Package atomicfile writes files that are there whole or not at all.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Permissions of files.
const (
	Secret fs.FileMode = 0o600 // for its owner alone
	Public fs.FileMode = 0o644
)

// Replace writes a file, in place of one of that name if there is one. It is on disk before it takes the name.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return write(path, content, mode, os.Rename)
}

// Create is Replace for a file that must not be there yet; if it is, errors.Is of the error and fs.ErrExist holds.
func Create(path string, content []byte, mode fs.FileMode) error {
	return write(path, content, mode, os.Link)
}

func write(path string, content []byte, mode fs.FileMode, name func(from, to string) error) error {
	return of(path, writeTemporary(path, content, mode, name))
}

// of has an error name the file that was to be written, and not the one beside it that nobody has asked for.
func of(path string, err error) error {
	var file *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &file):
		return &fs.PathError{Op: "write", Path: path, Err: file.Err}
	case errors.As(err, &link):
		return &fs.PathError{Op: "write", Path: path, Err: link.Err}
	}
	return err
}

func writeTemporary(path string, content []byte, mode fs.FileMode, name func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone, if it was renamed
	_, err = f.Write(content)
	if err == nil && mode != Secret {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return name(f.Name(), path)
}
