//go:build !linux

package main

import (
	"errors"
	"io"
	"os"
)

// askSecretly is for Linux only.
func askSecretly(*os.File, io.Writer, string) ([]byte, error) {
	return nil, withHint(errors.New("asking for a password is not supported on this system"), "give it with --password-stdin")
}

// keepOwner has nothing to do: the file belongs to who runs the command.
func keepOwner(string, *os.File) error { return nil }
