package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/bench"
)

// pacedFlags are those of the measurements at fixed rates.
type pacedFlags struct {
	pacedPlan
	outputs
	payload int
	qos     uint8
}

const pacedHelp = `

Messages are sent at times that are fixed before (open loop), and latency counts from these times to the receipt, so that a
broker which stops for a moment is charged for every message that it kept waiting. The variants are measured in turn, round
after round; the table has medians, in microseconds.

Exit status: 1 if a variant failed in every round at a number; what was measured is written before.`

func (f *pacedFlags) add(fs *pflag.FlagSet) {
	fs.IntVar(&f.rounds, "rounds", 5, "measure each so many times")
	fs.DurationVar(&f.duration, "duration", 5*time.Second, "of one measurement; the paper's are 60s")
	fs.DurationVar(&f.warmup, "warmup", time.Second, "before each measurement")
	fs.IntVar(&f.payload, "payload", 16<<10, "bytes of each message; the paper's are 16384")
	fs.Uint8Var(&f.qos, "qos", 0, "quality of service: 0, 1 or 2")
	addVariantFlags(fs, &f.variants, &f.peers, &f.peerCA)
	f.outputs.add(fs)
}

// pacedVariants are those that are measured unless others are asked for.
var pacedVariants = []string{bench.NativeTLS, bench.WasmAttested, bench.MosquittoTLS}

func (f *pacedFlags) check() error {
	switch {
	case f.rounds < 1 || f.duration <= 0 || f.warmup < 0:
		return errors.New("--rounds and --duration are more than 0")
	case f.duration+f.warmup > bench.MaxPaceTime:
		return fmt.Errorf("--duration and --warmup are %v together at most", bench.MaxPaceTime)
	}
	return errors.Join(checkPayloads([]int{f.payload}), checkQoS([]int{int(f.qos)}), checkVariants(f.variants), f.outputs.check())
}

// mostRate is a bound that no machine comes near: beyond it is a slip of the keyboard, and a load that does not end for long.
const mostRate = 10_000_000

var errRate = errors.New("--rate is more than 0, and 10,000,000 at most")

// isRate reports whether so many messages a second can be asked for. No comparison with NaN holds.
func isRate(perSecond float64) bool { return perSecond > 0 && perSecond <= mostRate }

func newBenchRate() *cobra.Command {
	return newBenchPaced("rate", "Latency at rising message rates",
		"Measure how long messages take from one publisher to one subscriber, at rates from 1 to 100,000 a second."+pacedHelp,
		bench.RateCase, slices.Concat(bench.PaperRates, bench.BeyondPaperRates),
		func(fs *pflag.FlagSet, list *[]float64, usual []float64) {
			addRates(fs, list, usual, "messages a second")
		})
}

func newBenchSubscribers() *cobra.Command {
	return newBenchPaced("subscribers", "Latency with more and more subscribers of one shared subscription",
		"Measure how long messages take from one publisher, at 25 messages a second, to subscribers that share a subscription."+pacedHelp,
		bench.SubscribersCase, bench.PaperSubscribers, addCounts)
}

func newBenchPublishers() *cobra.Command {
	return newBenchPaced("publishers", "Latency with more and more publishers",
		"Measure how long messages take from publishers, at 5 messages a second each, to 25 subscribers that get everything."+pacedHelp,
		bench.PublishersCase, bench.PaperPublishers, addCounts)
}

func addCounts(fs *pflag.FlagSet, list *[]int, usual []int) {
	fs.IntSliceVar(list, "count", usual, "how many of them")
}

// newBenchPaced makes a command of a case whose points differ in a number.
func newBenchPaced[N any](name, short, long string, makeCase func([]N, int, byte) bench.PacedCase, usual []N,
	addNumbers func(*pflag.FlagSet, *[]N, []N)) *cobra.Command {
	var f pacedFlags
	var numbers []N
	c := &cobra.Command{
		Use: name, Short: short, Long: long,
		Example: fmt.Sprintf("  vouchmq bench %s\n  vouchmq bench %[1]s --rounds 3 --duration 2s --payload 64 --json -", name),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			one := makeCase(numbers, f.payload, f.qos)
			if slices.ContainsFunc(one.Paces, func(p bench.PacedPoint) bool { return !isRate(p.X) }) || len(one.Paces) == 0 {
				return errors.New("all numbers are more than 0, and 10,000,000 at most")
			}
			reports, err := f.measure(c, []bench.PacedCase{one})
			if len(reports) == 0 {
				return err
			}
			table := func(w io.Writer) error { return writePacedTables(w, reports) }
			return errors.Join(err, f.write(c.OutOrStdout(), table, reports[0], reports.WriteCSV), reports.Failed()) // what there is is worth having
		},
	}
	helpWithoutShorthand(c)
	f.add(c.Flags())
	completeWords(c, "variant", variantNames)
	addNumbers(c.Flags(), &numbers, usual)
	return c
}

// pacedPlan is how cases are measured.
type pacedPlan struct {
	rounds           int
	warmup, duration time.Duration
	variants, peers  []string
	peerCA           string
}

// measure starts the brokers and measures the cases.
func (p *pacedPlan) measure(c *cobra.Command, cases []bench.PacedCase) (reports bench.PacedReports, err error) {
	err = withBrokers(c.Context(), func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		variants, err := b.withPeers(p.variants, pacedVariants, p.peers, p.peerCA)
		if err != nil {
			return err
		}
		for _, one := range cases {
			report, err := bench.Paced(c.Context(), bench.PacedPlan{
				Case: one, Variants: variants, Rounds: p.rounds, Warmup: p.warmup, Window: p.duration,
				Progress: func(s bench.PacedSample) { fmt.Fprintf(c.ErrOrStderr(), "round %d  %v\n", s.Round, s) },
			})
			if len(report.Rows) > 0 {
				reports = append(reports, report)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return reports, err
}

func writePacedTables(out io.Writer, reports bench.PacedReports) error {
	for _, r := range reports {
		fmt.Fprintf(out, "%s: %s, median of %d measurements of %v\n\n", r.Title, r.Load(), r.Rounds, time.Duration(r.Window))
		if err := r.WriteTable(out); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	return nil
}
