package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/cafolder"
)

// passphraseFlags say where the passphrase of an owner's key comes from: never from an argument, which others can see.
type passphraseFlags struct {
	file string
	none bool
}

func (f *passphraseFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "passphrase-file", "", "read the passphrase of the key from the first line of this file, - for standard input (default: ask)")
}

// fresh returns the passphrase for a new key, nil if it is to have none.
func (f *passphraseFlags) fresh(c *cobra.Command) ([]byte, error) {
	switch {
	case f.none:
		return nil, nil
	case f.file != "":
		return f.read(c)
	}
	first, err := askPassphrase(c, "Passphrase for the key of the owner CA: ")
	if err != nil {
		return nil, err
	}
	second, err := askPassphrase(c, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the passphrases differ: nothing is made")
	}
	return first, nil
}

// unlock reads the key of a folder, and asks for its passphrase if it has one.
func (f *passphraseFlags) unlock(c *cobra.Command, folder *cafolder.Folder) (*owner.CA, error) {
	if !folder.Sealed() {
		return folder.Unlock(nil)
	}
	read := f.read
	if f.file == "" {
		read = func(c *cobra.Command) ([]byte, error) { return askPassphrase(c, "Passphrase of "+folder.Dir+": ") }
	}
	passphrase, err := read(c)
	if err != nil {
		return nil, err
	}
	return folder.Unlock(passphrase)
}

func (f *passphraseFlags) read(c *cobra.Command) ([]byte, error) {
	line, err := readFirstLine(f.file, c.InOrStdin())
	if err != nil {
		return nil, fmt.Errorf("--passphrase-file: %w", err)
	}
	return checkPassphrase(line)
}

func checkPassphrase(passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, errors.New("the passphrase is empty")
	}
	return passphrase, nil
}

func askPassphrase(c *cobra.Command, question string) ([]byte, error) {
	terminal, ok := c.InOrStdin().(*os.File)
	if !ok || !isatty.IsTerminal(terminal.Fd()) {
		return nil, withHint(errors.New("standard input is no terminal to ask for the passphrase on"), "give it with --passphrase-file")
	}
	passphrase, err := askSecretly(terminal, c.ErrOrStderr(), question)
	if err != nil {
		return nil, err
	}
	return checkPassphrase(passphrase)
}
