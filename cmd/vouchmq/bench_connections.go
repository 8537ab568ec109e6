package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

// connectionsFlags are those of `vouchmq bench connections`.
type connectionsFlags struct {
	plan   bench.ConnectionsPlan
	engine string
	atMost float64 // KiB
	files  outputs
}

// idleWays are the ways to connect that idle connections are measured over.
var idleWays = []string{bench.Plain, bench.TLS, bench.Attested}

func newBenchConnections() *cobra.Command {
	var f connectionsFlags
	c := &cobra.Command{
		Use:   "connections",
		Short: "Memory and processor time of connections that do nothing",
		Long: `Measure what 1,000 to 50,000 connections cost that do nothing: the memory of the broker's process that is resident, for each of
them, and how long processors work for it in a second, in silence and with the pings that keep connections alive. Connections are added
from one number to the next; those of other variants have a broker of their own.

Each connection is an open file at the broker, and one here. Numbers that the limit of open files does not allow are left out, and
what to raise is said. Connections come from 127.0.0.1, 127.0.0.2 and so on, since one address has too few ports for 50,000.

Exit status: 1 if each of 10,000 attested connections takes more than --at-most KiB of the process's memory.`,
		Example: `  vouchmq bench connections
  vouchmq bench connections --count 1000,5000 --variant attested --rounds 3 --json -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntSliceVar(&f.plan.Counts, "count", evaluatedConnections, "how many connections, rising")
	fs.StringSliceVar(&f.plan.Ways, "variant", idleWays, "how to connect")
	fs.IntVar(&f.plan.Rounds, "rounds", 1, "measure each so many times")
	fs.DurationVar(&f.plan.Window, "duration", 5*time.Second, "of a measurement of processor time, of which there are two for each")
	fs.DurationVar(&f.plan.Settle, "settle", 5*time.Second, "before memory is read")
	fs.DurationVar(&f.plan.KeepAlive, "keep-alive", time.Minute, "between two pings of a connection")
	fs.StringVar(&f.engine, "engine", "wasm", "wasm or native")
	fs.Float64Var(&f.atMost, "at-most", bench.MostIdleBytes>>10, "fail if each of 10,000 attested connections takes more KiB")
	f.files.add(fs)
	return c
}

// evaluatedConnections are how many connections are measured.
var evaluatedConnections = []int{1_000, 5_000, 10_000, 50_000}

func (f *connectionsFlags) check() error {
	p := &f.plan
	switch {
	case p.Rounds < 1 || p.Window <= 0 || p.Settle < 0:
		return errors.New("--rounds and --duration are more than 0")
	case p.KeepAlive < time.Second:
		return errors.New("--keep-alive is 1s at least")
	case len(p.Counts) == 0 || slices.Min(p.Counts) < 1 || slices.Max(p.Counts) > 65_000:
		return errors.New("--count is from 1 to 65,000, which is how many a broker takes")
	}
	slices.Sort(p.Counts)
	p.Counts = slices.Compact(p.Counts)
	return errors.Join(checkEngine(f.engine), allOf("--variant", p.Ways, idleWays), f.files.check())
}

func (f *connectionsFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	return withBrokers(func(dir string) error {
		r, err := f.measure(c, dir)
		if err != nil {
			return err
		}
		if err := f.write(c.OutOrStdout(), r); err != nil {
			return err
		}
		if bytes, ok := r.IdleAttested(); ok && bytes > f.atMost*1024 {
			return fmt.Errorf("an idle attested connection takes %.1f KiB, more than %g", bytes/1024, f.atMost)
		}
		return nil
	})
}

// measure takes the measurements that the limit of open files allows.
func (f *connectionsFlags) measure(c *cobra.Command, dir string) (bench.ConnectionsReport, error) {
	log := c.ErrOrStderr()
	var leftOut []string
	f.plan.Counts = slices.DeleteFunc(slices.Clone(f.plan.Counts), func(count int) bool {
		err := bench.RoomForConnections(count)
		if err != nil {
			leftOut = append(leftOut, err.Error())
			fmt.Fprintln(log, "left out:", err)
		}
		return err != nil
	})
	if len(f.plan.Counts) == 0 {
		return bench.ConnectionsReport{}, errors.New(leftOut[0])
	}
	f.plan.Start = func(ctx context.Context) (bench.ScaleBroker, error) { return startForScale(ctx, log, dir, f.engine) }
	f.plan.Progress = func(s bench.ConnectionsSample) { fmt.Fprintf(log, "round %d  %v\n", s.Round, s) }
	r, err := bench.Connections(c.Context(), f.plan)
	r.LeftOut = leftOut
	return r, err
}

func (f *connectionsFlags) write(out io.Writer, r bench.ConnectionsReport) error {
	fmt.Fprintf(out, "memory and processor time of the broker's process; pings every %v\n\n", time.Duration(r.KeepAlive))
	return f.files.write(out, r.WriteTable, r, r.WriteCSV)
}
