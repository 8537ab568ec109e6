package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

// connectionsFlags are those of `vouchmq bench connections`.
type connectionsFlags struct {
	plan      bench.ConnectionsPlan
	engine    string
	variants  []string
	peers     []string
	peerCA    string
	processes map[string]int // of peers, by name
	atMost    float64        // KiB
	files     outputs
}

// idleWays are the ways to connect that idle connections are measured over.
var idleWays = slices.Concat([]string{bench.Plain, bench.TLS, bench.Attested}, bench.BesideWays)

func newBenchConnections() *cobra.Command {
	var f connectionsFlags
	c := &cobra.Command{
		Use:   "connections",
		Short: "Memory and processor time of connections that do nothing",
		Long: `Measure what 1,000 to 50,000 connections cost that do nothing: the memory of the broker's process that is resident, for each of
them, and how long processors work for it in a second, in silence and with the pings that keep connections alive. Connections are added
from one number to the next; those of other variants have a broker of their own. Compared are VouchMQ with its core native, Mosquitto
if it is installed, and any broker that --peer names, if --peer-process says which process it is: else its memory cannot be measured.

Each connection is an open file at the broker, and one here. Numbers that the limit of open files does not allow are left out, and
what to raise is said. Connections come from 127.0.0.1, 127.0.0.2 and so on, since one address has too few ports for 50,000.

Exit status: 1 if each of 10,000 attested connections takes more than --at-most KiB of the process's memory.`,
		Example: `  vouchmq bench connections
  vouchmq bench connections --count 1000,5000 --variant attested --rounds 3 --json -
  vouchmq bench connections --variant attested --peer emqx=127.0.0.1:1883 --peer-process emqx=4711`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntSliceVar(&f.plan.Counts, "count", evaluatedConnections, "how many connections, rising")
	fs.StringSliceVar(&f.variants, "variant", nil, strings.Join(idleWays, ", ")+" (default: all, Mosquitto if it is installed)")
	addPeerFlags(fs, &f.peers, &f.peerCA)
	fs.StringToIntVar(&f.processes, "peer-process", nil, "number of the process of a peer on this machine, NAME=PID; may be repeated")
	fs.IntVar(&f.plan.Rounds, "rounds", 1, "measure each so many times")
	fs.DurationVar(&f.plan.Window, "duration", 5*time.Second, "of a measurement of processor time, of which there are two for each")
	fs.DurationVar(&f.plan.Settle, "settle", 5*time.Second, "before memory is read")
	fs.DurationVar(&f.plan.KeepAlive, "keep-alive", time.Minute, "between two pings of a connection")
	fs.StringVar(&f.engine, "engine", "wasm", "of plain, tls and attested: wasm or native")
	fs.Float64Var(&f.atMost, "at-most", bench.MostIdleBytes>>10, "fail if each of 10,000 attested connections takes more KiB")
	f.files.add(fs)
	completeWords(c, "variant", idleWays)
	completeWords(c, "engine", engines)
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
	return errors.Join(checkEngine(f.engine), allOf("--variant", f.variants, idleWays), f.files.check())
}

func (f *connectionsFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	return withBrokers(c.Context(), func(dir string) error {
		r, err := f.measure(c, dir)
		if len(r.Samples) == 0 {
			return err
		}
		if err := errors.Join(err, f.write(c.OutOrStdout(), r)); err != nil { // what there is is worth having
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
	peers, leftOut, err := f.measurable(c, dir)
	if err != nil {
		return bench.ConnectionsReport{}, err
	}
	f.plan.Counts = slices.DeleteFunc(slices.Clone(f.plan.Counts), func(count int) bool {
		err := bench.RoomForConnections(count)
		if err != nil {
			leftOut = append(leftOut, err.Error())
			fmt.Fprintln(log, "left out:", err)
		}
		return err != nil
	})
	f.plan.Ways = waysOr(f.variants, idleWays, peers, log)
	if len(f.plan.Counts) == 0 {
		return bench.ConnectionsReport{}, errors.New(leftOut[len(leftOut)-1])
	}
	f.plan.Start = func(ctx context.Context, way string) (bench.ScaleBroker, error) {
		if peer := peerNamed(peers, way); peer != nil {
			return f.peerForScale(*peer), nil
		}
		if way == bench.MosquittoTLS {
			return mosquittoForScale(ctx, dir)
		}
		return startForScale(ctx, log, dir, engineOf(way, f.engine))
	}
	f.plan.Progress = func(s bench.ConnectionsSample) { fmt.Fprintf(log, "round %d  %v\n", s.Round, s) }
	r, err := bench.Connections(c.Context(), f.plan)
	r.LeftOut = leftOut
	return r, err
}

// measurable are the peers whose process is known, and what to say of the others.
func (f *connectionsFlags) measurable(c *cobra.Command, dir string) (known []benchPeer, leftOut []string, err error) {
	peers, err := namedPeers(f.peers, f.peerCA)
	if err != nil {
		return nil, nil, err
	}
	if _, err := (&benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}).answering(peers); err != nil {
		return nil, nil, err
	}
	for name, pid := range f.processes {
		if peerNamed(peers, name) == nil {
			return nil, nil, fmt.Errorf("--peer-process %s=%d: there is no --peer of that name", name, pid)
		}
		if _, err := bench.ResidentMemory(pid); err != nil {
			return nil, nil, fmt.Errorf("--peer-process %s=%d: %w", name, pid, err)
		}
	}
	known, leftOut = f.knownPeers(peers)
	for _, reason := range leftOut {
		fmt.Fprintln(c.ErrOrStderr(), "left out:", reason)
	}
	return known, leftOut, nil
}

// knownPeers are those whose process is known; of the others it says why they are left out.
func (f *connectionsFlags) knownPeers(peers []benchPeer) (known []benchPeer, leftOut []string) {
	for _, p := range peers {
		if _, ok := f.processes[p.name]; ok {
			known = append(known, p)
		} else {
			leftOut = append(leftOut, p.name+": its memory cannot be measured, for its process is not known (--peer-process)")
		}
	}
	return known, leftOut
}

// peerForScale is a peer as it runs already; it is not stopped.
func (f *connectionsFlags) peerForScale(p benchPeer) bench.ScaleBroker {
	pid := f.processes[p.name]
	return bench.ScaleBroker{
		TLS:           p.over(bench.ManySources()),
		RSS:           func() (uint64, error) { return bench.ResidentMemory(pid) },
		ProcessorTime: func() (time.Duration, error) { return bench.ProcessorTime(pid) },
		Stop:          func() {},
	}
}

// mosquittoForScale starts a Mosquitto that nobody has connected to.
func mosquittoForScale(ctx context.Context, dir string) (bench.ScaleBroker, error) {
	m, err := startMosquitto(ctx, dir)
	if err != nil {
		return bench.ScaleBroker{}, err
	}
	return bench.ScaleBroker{
		TLS: m.TLSOver(bench.ManySources()), RSS: m.RSS, ProcessorTime: m.ProcessorTime,
		Stop: func() { m.Stop() }, // it has done its work, however it ends
	}, nil
}

func (f *connectionsFlags) write(out io.Writer, r bench.ConnectionsReport) error {
	fmt.Fprintf(out, "memory and processor time of the broker's process; pings every %v\n\n", time.Duration(r.KeepAlive))
	return f.files.write(out, r.WriteTable, r, r.WriteCSV)
}
