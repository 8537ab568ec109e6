package main

import (
	"encoding/json"
	"net"
	"os"
	"regexp"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
)

// readReady reads the file that a broker writes once its listeners are open.
func readReady(ts *testscript.TestScript, name string) local.Ready {
	var ready local.Ready
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(name)), &ready))
	return ready
}

// cmdSignal sends a signal to the broker of a ready file.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|TERM READYFILE")
	}
	ts.Check(syscall.Kill(readReady(ts, args[1]).ServerPID, signals[args[0]]))
}

// cmdAddress sets variables to host and port of a listener of the broker of a ready file.
func cmdAddress(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: address READYFILE LISTENER HOSTVARIABLE PORTVARIABLE")
	}
	host, port, err := net.SplitHostPort(readReady(ts, args[0]).Listeners[args[1]])
	ts.Check(err)
	ts.Setenv(args[2], host)
	ts.Setenv(args[3], port)
}

// cmdAwaitLine waits until a file has a line that matches.
func cmdAwaitLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: awaitline FILE REGEXP")
	}
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		if want.Match(text) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s has no line with %s:\n%s", args[0], args[1], text)
		}
	}
}
