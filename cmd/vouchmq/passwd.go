package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/internal/auth/passwords"
)

type passwdFlags struct {
	delete, list, scram, stdin bool
	params                     passwords.Argon2Params
	iterations                 int
}

func newPasswd() *cobra.Command {
	f := &passwdFlags{params: passwords.DefaultArgon2}
	c := &cobra.Command{
		Use:   "passwd FILE [USER]",
		Short: "Add, change or delete users of a password file",
		Long: `Write a user of a password file, as the broker's configuration names it. The password is asked for, or read from
standard input; the file gets an Argon2id hash of it. Comments and other users stay as they are. A file that is not
there is made, for nobody else to read.

The broker takes over a changed file when it reloads its configuration.`,
		Example: `  vouchmq passwd users alice
  vouchmq passwd users alice --scram --password-stdin
  vouchmq passwd users alice -D
  vouchmq passwd users --list`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error { return passwd(c, args, f) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.BoolVarP(&f.delete, "delete", "D", false, "delete the user")
	fs.BoolVar(&f.list, "list", false, "list the users, and what each can be checked with")
	fs.BoolVar(&f.scram, "scram", false, "write a SCRAM-SHA-256 verifier too, for clients that authenticate with it")
	fs.BoolVar(&f.stdin, "password-stdin", false, "read the password from the first line of standard input")
	fs.Uint32Var(&f.params.Memory, "memory", f.params.Memory, "KiB of memory for each check of the password")
	fs.Uint32Var(&f.params.Time, "passes", f.params.Time, "passes over the memory")
	fs.Uint8Var(&f.params.Threads, "threads", f.params.Threads, "threads for each check of the password")
	fs.IntVar(&f.iterations, "iterations", passwords.DefaultSCRAMIterations, "of the SCRAM verifier")
	c.MarkFlagsMutuallyExclusive("delete", "list")
	return c
}

func passwd(c *cobra.Command, args []string, f *passwdFlags) error {
	text, err := readUsers(args[0])
	if err != nil {
		return err
	}
	switch {
	case f.list && len(args) > 1:
		return errors.New("--list lists all users: leave out the user")
	case f.list:
		return listUsers(c.OutOrStdout(), args[0], text)
	case len(args) < 2:
		return errors.New("say which user")
	}
	if err := passwords.CheckName(args[1]); err != nil {
		return err
	}
	if f.delete {
		return deleteUser(args[0], text, args[1])
	}
	return setUser(c, args[0], text, args[1], f)
}

// readUsers reads a password file; one that is not there is empty. A file that the broker would refuse is not touched.
func readUsers(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = passwords.Parse(path, text)
	return text, err
}

func listUsers(w io.Writer, path string, text []byte) error {
	file, err := passwords.Parse(path, text)
	if err != nil {
		return err
	}
	for _, u := range file.Users() {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", u.Name, u.Kinds()); err != nil {
			return err
		}
	}
	return nil
}

func deleteUser(path string, text []byte, user string) error {
	text, found := passwords.Delete(text, user)
	if !found {
		return fmt.Errorf("%s has no user %q", path, user)
	}
	return replaceFile(path, text)
}

func setUser(c *cobra.Command, path string, text []byte, user string, f *passwdFlags) error {
	if err := f.params.Check(); err != nil {
		return err
	}
	password, err := newPassword(c, user, f.stdin)
	if err != nil {
		return err
	}
	hashes := make([]string, 1, 2)
	if hashes[0], err = passwords.HashArgon2(password, f.params); err != nil {
		return err
	}
	if f.scram {
		verifier, err := passwords.HashSCRAM(password, f.iterations)
		if err != nil {
			return err
		}
		hashes = append(hashes, verifier)
	}
	text = passwords.Set(text, user, hashes...)
	if _, err := passwords.Parse(path, text); err != nil {
		return err // two users can be one for SCRAM
	}
	return replaceFile(path, text)
}

// newPassword asks for a password, twice, or reads it from standard input.
func newPassword(c *cobra.Command, user string, stdin bool) ([]byte, error) {
	if stdin {
		return nonEmpty(readFirstLine("-", c.InOrStdin()))
	}
	terminal, ok := c.InOrStdin().(*os.File)
	if !ok || !isatty.IsTerminal(terminal.Fd()) {
		return nil, withHint(errors.New("standard input is no terminal to ask for the password on"), "give it with --password-stdin")
	}
	first, err := nonEmpty(askSecretly(terminal, c.ErrOrStderr(), fmt.Sprintf("Password for %s: ", user)))
	if err != nil {
		return nil, err
	}
	second, err := askSecretly(terminal, c.ErrOrStderr(), "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the passwords differ: nothing is changed")
	}
	return first, nil
}

func nonEmpty(password []byte, err error) ([]byte, error) {
	if err == nil && len(password) == 0 {
		err = errors.New("the password is empty")
	}
	return password, err
}

// replaceFile writes a file whole or not at all, for its owner alone. It goes to disk before it takes the place of
// the old one. A symbolic link stays one.
func replaceFile(path string, text []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone, if all went well
	_, err = f.Write(text)
	if err == nil {
		err = keepOwner(path, f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
