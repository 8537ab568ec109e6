package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

// throughputFlags are those of `vouchmq bench throughput`.
type throughputFlags struct {
	pacedPlan
	outputs
	shapes   []string
	payloads []int
	qos      []int
	rate     float64
}

func newBenchThroughput() *cobra.Command {
	var f throughputFlags
	c := &cobra.Command{
		Use:   "throughput",
		Short: "Deliveries a second, of every engine and transport, and of Mosquitto",
		Long: `Measure how many messages a second brokers deliver: VouchMQ with its core native and in WebAssembly, over plain TCP,
TLS and attested TLS, Mosquitto over TLS if it is installed, and any other broker that --peer names. The variants are measured in
turn, round after round, every second round in the opposite order; the table has the medians with the least and the most, and ratios
are taken within each round. CPUs are how many processors the broker and the load generator, which is this process, kept busy: where
the load generator has most of them, it is what bounds the figure.

Shapes: p2p (10 publishers, each to one of 10 subscribers), fan-in (20 to 1), fan-out (1 to 50). --payload and --qos may have
several values: all of them are measured, in each round.

Publishers send as fast as the broker takes it (closed loop): at QoS 0 TCP holds them up, at QoS 1 and 2 each keeps 1024 messages in
flight, or fewer if the broker says so, and at most 1 MiB, and each subscriber allows 4096. With --rate they send so many messages a second in all, at times that are fixed before (open
loop), and what is measured is how long messages take from these times on.

Exit status: 1 if a variant failed in every round with a shape, QoS and payload; what was measured is written before.`,
		Example: `  vouchmq bench throughput
  vouchmq bench throughput --shape p2p --variant wasm-attested --variant native-tls --rounds 5 --duration 10s
  vouchmq bench throughput --qos 0,1,2 --payload 64,1024,16384,65536 --json results.json
  vouchmq bench throughput --rate 20000 --shape fan-in --csv -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&f.rounds, "rounds", 5, "measure each variant so many times")
	fs.DurationVar(&f.duration, "duration", 3*time.Second, "of one measurement")
	fs.DurationVar(&f.warmup, "warmup", time.Second, "before each measurement")
	fs.StringSliceVar(&f.shapes, "shape", nil, "p2p, fan-in or fan-out (default: all)")
	addVariantFlags(fs, &f.variants, &f.peers, &f.peerCA)
	fs.IntSliceVar(&f.payloads, "payload", []int{64}, "bytes of each message")
	fs.IntSliceVar(&f.qos, "qos", []int{0}, "quality of service: 0, 1, 2")
	fs.Float64Var(&f.rate, "rate", 0, "messages a second in all, and measure latency (default: as many as the broker takes)")
	f.outputs.add(fs)
	completeWords(c, "variant", variantNames)
	completeWords(c, "shape", []string{"p2p", "fan-in", "fan-out"})
	return c
}

func (f *throughputFlags) check() error {
	switch {
	case f.rounds < 1 || f.duration <= 0 || f.warmup < 0:
		return errors.New("--rounds and --duration are more than 0")
	case f.rate != 0 && !isRate(f.rate):
		return errRate
	case f.rate > 0 && f.duration+f.warmup > bench.MaxPaceTime:
		return fmt.Errorf("--duration and --warmup are %v together at most", bench.MaxPaceTime)
	}
	return errors.Join(checkPayloads(f.payloads), checkQoS(f.qos), checkVariants(f.variants), f.outputs.check())
}

func checkPayloads(payloads []int) error {
	if len(payloads) == 0 || slices.Min(payloads) < 8 || slices.Max(payloads) > 1<<20 {
		return errors.New("--payload is from 8 to 1,048,576 bytes")
	}
	return nil
}

func checkQoS(levels []int) error {
	for _, q := range levels {
		if q < 0 || q > 2 {
			return fmt.Errorf("--qos %d: QoS is 0, 1 or 2", q)
		}
	}
	if len(levels) == 0 {
		return errors.New("--qos: QoS is 0, 1 or 2")
	}
	return nil
}

func (f *throughputFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	shapes, err := shapesNamed(f.shapes)
	if err != nil {
		return err
	}
	if f.rate > 0 {
		return f.openLoop(c, shapes)
	}
	return withBrokers(c.Context(), func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		variants, err := b.withPeers(f.variants, variantNames, f.peers, f.peerCA)
		if err != nil {
			return err
		}
		reports, err := bench.Throughput(c.Context(), bench.Plan{
			Shapes: shapes, QoS: f.levels(), Payloads: f.payloads, Variants: variants, Rounds: f.rounds, Warmup: f.warmup, Window: f.duration,
			Progress: func(s bench.Sample) { fmt.Fprintln(c.ErrOrStderr(), s) },
		})
		if len(reports) == 0 {
			return err
		}
		return errors.Join(err, f.write(c.OutOrStdout(), reports.WriteTable, reports, reports.WriteCSV), reports.Failed()) // what there is is worth having
	})
}

// levels are the values of --qos.
func (f *throughputFlags) levels() (levels []byte) {
	for _, q := range f.qos {
		levels = append(levels, byte(q))
	}
	return levels
}

// openLoop measures latency at a fixed rate.
func (f *throughputFlags) openLoop(c *cobra.Command, shapes []bench.Shape) error {
	var cases []bench.PacedCase
	for _, qos := range f.levels() {
		for _, shape := range shapes {
			cases = append(cases, bench.OpenLoopCase(shape, f.rate, f.payloads, qos))
		}
	}
	reports, err := f.measure(c, cases)
	if len(reports) == 0 {
		return err
	}
	table := func(w io.Writer) error { return writePacedTables(w, reports) }
	return errors.Join(err, f.write(c.OutOrStdout(), table, reports, reports.WriteCSV), reports.Failed())
}

func shapesNamed(names []string) (shapes []bench.Shape, err error) {
	if len(names) == 0 {
		return bench.Shapes, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(bench.Shapes, func(s bench.Shape) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown shape %q: there are p2p, fan-in and fan-out", name)
		}
		shapes = append(shapes, bench.Shapes[i])
	}
	return shapes, nil
}
