package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/demo"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
	"github.com/vouchmq/vouchmq/internal/module/moduletest"
	"github.com/vouchmq/vouchmq/internal/server"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// programFolder holds the program that the scripts run, built as `make` builds it.
var programFolder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "vouchmq-test-")
	if err == nil {
		programFolder = dir
		err = buildProgram(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the program for the tests:", err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// buildProgram builds the module and then the program, without touching the checkout: the module takes its place by
// an overlay.
func buildProgram(dir string) error {
	wasm := filepath.Join(dir, "broker.wasm")
	build := append(append([]string{"build"}, moduletest.Flags...), "-o", wasm, "./guest/broker")
	if err := goCommand(build, "GOOS=wasip1", "GOARCH=wasm"); err != nil {
		return err
	}
	top, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(top, "internal/module/broker.wasm"): wasm}})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	return goCommand([]string{"build", "-overlay", file, "-trimpath", "-ldflags=-X main.version=v0.0.0-test",
		"-o", filepath.Join(dir, "vouchmq"), "./cmd/vouchmq"})
}

func goCommand(args []string, env ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), append(env, "CGO_ENABLED=0", "GOFLAGS=")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// TestScripts runs testdata/script/*.txtar. Beside the commands of testscript they have:
//
//	broker NAME [ARGS...]        vouchmq serve ARGS as a process, with its state in the folder NAME, on free ports;
//	                             $NAME_plain_host, $NAME_plain_port, $NAME_tls_host, $NAME_tls_port say where,
//	                             $NAME_addr is host:port of TLS, $NAME_bundle, $NAME_ca, $NAME_key are its files
//	halt NAME                    end it, and check that it ends in good order
//	listen NAME ARGS...          vouchmq sub ARGS as a process; goes on when it has subscribed
//	heard NAME STATUS            wait for the end of that process, check its exit status; its output is then in NAME.out
//	lose NAME                    end that process without a word
//	status N COMMAND...          run a command and check its exit status; for cmp and such, stdout and stderr are as for exec
//	change FILE                  write the program's module with one byte changed
//	expand FILE                  replace $VARIABLES in a file; $program is the digest of the program, $module that of its module
//	makekey FILE VARIABLE        make a key of a simulated TEE; the variable is its digest, without sha384:
//	await FILE                   wait until a file is there
//	signal NAME FILE             send HUP or TERM to the broker that wrote the ready file
//	address FILE LISTENER H P    set variables to host and port of a listener of that broker
//	awaitline FILE REGEXP        wait until a line of a file matches
//	port VARIABLE                set a variable to a port for a broker to listen on
//	nobody VARIABLE              set a variable to a port on which nothing listens, nor will until the script ends
//	setvar VARIABLE FILE         set a variable to what is in a file, such as stdout
//	tamper FILE TO               copy a PEM file with one bit in its middle changed
//	swapkey FILE TO              copy a certificate request with another key in place of its own
//	csr NAME KEY FILE            make a key and a certificate request (PKCS #10) for it, as other programs do
func TestScripts(t *testing.T) { runScripts(t, "script") }

// TestBench runs testdata/bench/*.txtar: measurements, which the other scripts would disturb if they ran beside them.
func TestBench(t *testing.T) { runScripts(t, "bench") }

func runScripts(t *testing.T, folder string) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setup,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"broker": cmdBroker, "halt": cmdHalt, "listen": cmdListen, "heard": cmdHeard, "lose": cmdLose, "status": cmdStatus,
			"port": cmdPort, "nobody": cmdNobody, "change": cmdChange, "expand": cmdExpand, "makekey": cmdMakeKey, "await": cmdAwait,
			"signal": cmdSignal, "address": cmdAddress, "awaitline": cmdAwaitLine,
			"setvar": cmdSetVar, "tamper": cmdTamper, "swapkey": cmdSwapKey, "csr": cmdCSR,
		},
	})
}

// setup gives each script the program, and a place for the processes that it starts.
func setup(e *testscript.Env) error {
	program, err := os.ReadFile(filepath.Join(programFolder, "vouchmq"))
	if err != nil {
		return err
	}
	e.Setenv("program", attest.Sum(program).String())
	module, err := os.ReadFile(filepath.Join(programFolder, "broker.wasm"))
	if err != nil {
		return err
	}
	e.Setenv("module", attest.Sum(module).String())
	e.Setenv("PATH", programFolder+string(os.PathListSeparator)+e.Getenv("PATH")+":/usr/sbin")
	e.Setenv(passwordEnv, "")
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		return err
	}
	e.Setenv("deploy", deploy)
	e.Values[processesKey{}] = &processes{brokers: map[string]*local.Broker{}, clients: map[string]*clientProcess{}}
	return nil
}

// condition is [tool:NAME]: a program is installed. With CI=true a missing one is a failure.
func condition(c string) (bool, error) {
	if c == "short" {
		return testing.Short(), nil
	}
	name, ok := strings.CutPrefix(c, "tool:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", c)
	}
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		return false, fmt.Errorf("%s is not installed, and CI=true: %w", name, err)
	}
	return err == nil, nil
}

// processes are what a script has started, by name; there is one set for each script.
type processes struct {
	brokers map[string]*local.Broker
	clients map[string]*clientProcess
}

type clientProcess struct {
	cmd  *exec.Cmd
	out  *os.File
	log  *os.File
	done chan struct{}
}

type processesKey struct{}

func processesOf(ts *testscript.TestScript) *processes {
	if p, ok := ts.Value(processesKey{}).(*processes); ok {
		return p
	}
	ts.Fatalf("no processes")
	return nil
}

func cmdBroker(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: broker NAME [ARGS...]")
	}
	name := args[0]
	b, err := local.Start(context.Background(), filepath.Join(programFolder, "vouchmq"), ts.MkAbs(name), nil, args[1:]...)
	ts.Check(err)
	ts.Defer(func() { b.Stop() }) // again, if the script has done so
	processesOf(ts).brokers[name] = b
	for variable, listener := range map[string]string{"plain": server.PlainListener, "tls": server.AttestedListener} {
		host, port := b.HostPort(listener)
		ts.Setenv(name+"_"+variable+"_host", host)
		ts.Setenv(name+"_"+variable+"_port", port)
	}
	ts.Setenv(name+"_addr", b.Listeners[server.AttestedListener])
	ts.Setenv(name+"_bundle", b.Bundle)
	ts.Setenv(name+"_ca", b.OwnerCA)
	ts.Setenv(name+"_key", b.ClientKey)
	ts.Setenv(name+"_module", b.Module)
}

func cmdHalt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || processesOf(ts).brokers[args[0]] == nil {
		ts.Fatalf("usage: halt NAME")
	}
	b := processesOf(ts).brokers[args[0]]
	ts.Check(b.Stop())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(b.Output()), 0o600))
}

func cmdListen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: listen NAME ARGS...")
	}
	name := args[0]
	c := &clientProcess{done: make(chan struct{})}
	var err error
	c.out, err = os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	c.log, err = os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	c.cmd = exec.Command(filepath.Join(programFolder, "vouchmq"), append([]string{"sub", "-d"}, args[1:]...)...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Dir = c.out, c.log, ts.MkAbs(".")
	ts.Check(c.cmd.Start())
	go func() {
		c.cmd.Wait() // its status is in cmd.ProcessState
		c.out.Close()
		c.log.Close()
		close(c.done)
	}()
	ts.Defer(func() {
		c.cmd.Process.Kill() // it has ended, if all went well
		<-c.done
	})
	processesOf(ts).clients[name] = c
	awaitSubscribed(ts, name, c)
}

func awaitSubscribed(ts *testscript.TestScript, name string, c *clientProcess) {
	deadline := time.After(patience)
	for {
		text, err := os.ReadFile(ts.MkAbs(name + ".log"))
		ts.Check(err)
		if strings.Contains(string(text), "subscribed") {
			return
		}
		select {
		case <-c.done:
			ts.Fatalf("%s ended before it had subscribed:\n%s", name, text)
		case <-deadline:
			ts.Fatalf("%s did not subscribe:\n%s", name, text)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func cmdHeard(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: heard NAME STATUS")
	}
	c := processesOf(ts).clients[args[0]]
	select {
	case <-c.done:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; it printed:\n%s", args[0], ts.ReadFile(args[0]+".out"))
	}
	if got := strconv.Itoa(c.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with status %s, not %s:\n%s", args[0], got, args[1], ts.ReadFile(args[0]+".log"))
	}
}

func cmdLose(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lose NAME")
	}
	c := processesOf(ts).clients[args[0]]
	ts.Check(c.cmd.Process.Kill())
	<-c.done
}

func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("%s ended with status %d, not %s", strings.Join(args[1:], " "), status, args[0])
	}
}

func cmdChange(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: change FILE")
	}
	wasm, err := os.ReadFile(filepath.Join(programFolder, "broker.wasm"))
	ts.Check(err)
	changed, err := demo.ChangeOneByte(wasm)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), changed, 0o600))
}

func cmdExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func cmdMakeKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: makekey FILE VARIABLE")
	}
	key, err := sim.NewKey()
	ts.Check(err)
	pem, err := key.Marshal()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem, 0o600))
	ts.Setenv(args[1], strings.TrimPrefix(key.Digest().String(), "sha384:"))
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not come", args[0])
		}
	}
}

// cmdPort sets a variable to a port that is free. It is none of those that Linux gives to who does not name one, so that
// nobody else gets it before the broker does.
func cmdPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: port VARIABLE")
	}
	for range 100 {
		port := strconv.Itoa(20_000 + rand.IntN(12_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			ts.Check(l.Close())
			ts.Setenv(args[0], port)
			return
		}
	}
	ts.Fatalf("no port is free")
}

// cmdNobody gives the port of the near end of a connection.
func cmdNobody(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: nobody VARIABLE")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	conn, err := net.Dial("tcp", l.Addr().String())
	ts.Check(err)
	ts.Defer(func() { conn.Close(); l.Close() })
	_, port, _ := net.SplitHostPort(conn.LocalAddr().String())
	ts.Setenv(args[0], port)
}
