package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// askSecretly asks a question on a terminal and reads a line that the terminal does not show. An interrupt while it
// waits ends the program, with the terminal as it was.
func askSecretly(terminal *os.File, prompt io.Writer, question string) ([]byte, error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	restore := func() { unix.IoctlSetTermios(fd, unix.TCSETS, before) }
	defer restoreOnSignal(restore)()
	defer restore()
	quiet := *before
	quiet.Lflag = quiet.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	fmt.Fprint(prompt, question)
	defer fmt.Fprintln(prompt)
	line, err := bufio.NewReader(terminal).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("ask for the password: %w", err)
	}
	return []byte(strings.TrimRight(line, "\r\n")), nil
}

// restoreOnSignal calls restore and ends the program when a signal comes before the function that it returns is called.
func restoreOnSignal(restore func()) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-signals:
			restore()
			os.Exit(exitGeneral)
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// keepOwner gives a new file the owner and group of the one that it replaces, if there is one, and lets the group read
// it if it could before: else the broker could not read what root has written.
func keepOwner(path string, f *os.File) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return fmt.Errorf("keep the owner of %s: %w", path, err)
		}
	}
	return f.Chmod(0o600 | info.Mode().Perm()&0o040)
}
