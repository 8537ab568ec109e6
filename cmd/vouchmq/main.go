// Command vouchmq is VouchMQ, all of it: the attested broker, its clients, and the tools to look at both.
//
// Each command has a file of its own here, with its flags and what it prints; what it does is in packages.
// Exit statuses are listed in exit.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set when the binary is linked, see the Makefile.
var version = "unknown"

func main() {
	os.Exit(run(os.Args[1:]))
}

// run runs one command and returns the exit status.
func run(args []string) int {
	ctx, stop := interruptible()
	defer stop()
	root := newRoot()
	root.SetArgs(joinProperties(args))
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	return report(command, misuse(command, err))
}

// interruptible is a context that ends at the first SIGINT or SIGTERM. The second one ends the process at once.
func interruptible() (context.Context, func()) {
	ctx, hurried := withHurry(context.Background())
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		s, ok := <-signals
		if !ok {
			return
		}
		cancel(interrupted{s})
		if _, ok := <-signals; ok {
			hurried()
			fmt.Fprintln(os.Stderr, "stopped at once")
			os.Exit(exitGeneral)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// interrupted says that a signal asked for an end.
type interrupted struct{ os.Signal }

func (i interrupted) Error() string { return "interrupted (" + i.Signal.String() + ")" }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "vouchmq",
		Short: "An MQTT broker that proves what it is before you send it anything",
		Long: `VouchMQ is an MQTT broker that runs as one WebAssembly module inside a trusted execution environment (TEE).
A client verifies, inside TLS 1.3 and before it sends its first byte, which TEE it talks to and exactly which code
and configuration run in it.

Start with a broker on this machine. It needs no configuration; its TEE is simulated, and it says so:

  vouchmq serve

It prints the commands to try next.

Exit status: 0 done; 1 wrong usage, or another error; 2 no connection; 3 attestation refused; 4 the broker
refused; 27 timeout.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		readable := strings.ReplaceAll(err.Error(), `\x00`, " ") // see propertySeparator
		return withHint(errors.New(readable), "see: "+c.CommandPath()+" --help")
	})
	root.AddCommand(newServe(), newGateway(), newConfig(), newPub(), newSub(), newInspect(), newVersion(), newDemo(), newBench(),
		newStatus(), newClients(), newSubscriptions(), newRetained(), newReload(), newUnlock(), newLogLevel(), newPasswd(),
		newCA(), newEnroll(), newBundle(), newTPM(), newVerify(), newPolicy(), newCollateral())
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		refuseUnknown(c)
	}
	return root
}

// refuseUnknown has commands that only group others refuse words that are none of these; cobra shows help, and says that all went well.
func refuseUnknown(c *cobra.Command) {
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = cobra.NoArgs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
}
