package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal: what is written to the keyboard is typed.
func openTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

func TestAskSecretlyHidesWhatIsTyped(t *testing.T) {
	keyboard, terminal := openTerminal(t)
	if !echoes(t, terminal) {
		t.Fatal("the terminal shows nothing from the start")
	}
	var prompt bytes.Buffer
	answer := make(chan string)
	go func() {
		line, err := askSecretly(terminal, &prompt, "Password: ")
		answer <- fmt.Sprintf("%s %v", line, err)
	}()
	for deadline := time.Now().Add(patience); echoes(t, terminal); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the terminal goes on to show what is typed")
		}
	}
	if _, err := keyboard.WriteString("s e cret\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "s e cret <nil>" {
		t.Errorf("got %q", got)
	}
	if !echoes(t, terminal) {
		t.Error("the terminal stays silent")
	}
	if prompt.String() != "Password: \n" {
		t.Errorf("the prompt is %q", prompt.String())
	}
}
