package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/bench"
)

// evaluationFlags are those of `vouchmq bench evaluation`.
type evaluationFlags struct {
	out              string
	rounds           int
	duration, warmup time.Duration
	quick            bool
	only             []string
	peers            []string
	peerCA           string
}

func newBenchEvaluation() *cobra.Command {
	var f evaluationFlags
	c := &cobra.Command{
		Use:   "evaluation",
		Short: "Everything that the paper measured, and more, as one page with plots",
		Long: `Repeat the evaluation of the paper that VouchMQ comes from, and more, with one command: throughput at QoS 0, 1 and 2 and with
payloads up to 64 KiB, latency at rising message rates, with more subscribers and with more publishers, new and idle connections,
handshakes, the cost of matching with up to a million filters, and the longest step of the core with 100,000 sessions. VouchMQ is
measured natively and in WebAssembly, over plain TCP, TLS and attested TLS, beside Mosquitto if it is installed, and beside any other
broker that --peer names. Of the paper's numbers of rates, subscribers and publishers it takes some; the commands for each case take all.

It writes evaluation.html, which needs nothing else, evaluation.json, and lists of all measurements (CSV) to a folder, and says which
aims are reached. It takes about forty minutes; --quick takes about five, and its figures are only good for seeing what there is. If it
is interrupted, what has been measured until then is written.

Exit status: 1 if a part ends with an error, or a variant failed in every round of a measurement. That an aim is not reached is none.`,
		Example: `  vouchmq bench evaluation
  vouchmq bench evaluation --quick --out /tmp/evaluation
  vouchmq bench evaluation --only throughput,handshakes
  vouchmq bench evaluation --peer emqx=127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.StringVar(&f.out, "out", "evaluation", "folder for the results, which is made")
	fs.IntVar(&f.rounds, "rounds", 5, "measure each so many times")
	fs.DurationVar(&f.duration, "duration", 1500*time.Millisecond, "of one measurement; the paper's are 60s")
	fs.DurationVar(&f.warmup, "warmup", 300*time.Millisecond, "before each measurement")
	fs.BoolVar(&f.quick, "quick", false, "one short round unless more are asked for, and fewer numbers")
	fs.StringSliceVar(&f.only, "only", nil, "parts to measure: "+strings.Join(partNames(), ", ")+" (default: all)")
	addPeerFlags(fs, &f.peers, &f.peerCA)
	completeWords(c, "only", partNames())
	return c
}

func (f *evaluationFlags) run(c *cobra.Command) error {
	if f.rounds < 1 || f.duration <= 0 || f.warmup < 0 || f.duration+f.warmup > bench.MaxPaceTime {
		return fmt.Errorf("--rounds and --duration are more than 0, --duration and --warmup %v together at most", bench.MaxPaceTime)
	}
	for _, part := range f.only {
		if !slices.Contains(partNames(), part) {
			return fmt.Errorf("--only %s: there are the parts %s", part, strings.Join(partNames(), ", "))
		}
	}
	if f.quick {
		f.hasten(c.Flags())
	}
	return withBrokers(c.Context(), func(dir string) error {
		brokers := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		if _, err := brokers.answeringPeers(f.peers, f.peerCA); err != nil {
			return err
		}
		if err := f.checkFolder(); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
		r := &evaluationRun{
			evaluationFlags: f, c: c, brokers: brokers,
			result: bench.Evaluation{
				Program: "vouchmq " + version, Command: strings.Join(append([]string{"vouchmq"}, os.Args[1:]...), " "),
				Started: time.Now(), Machine: bench.ThisMachine(),
			},
		}
		defer r.brokers.stop()
		return errors.Join(r.measure(), r.write(), r.result.Failed()) // what there is is worth having
	})
}

// hasten has little measured, but for what was asked for.
func (f *evaluationFlags) hasten(asked *pflag.FlagSet) {
	if !asked.Changed("rounds") {
		f.rounds = 1
	}
	if !asked.Changed("duration") {
		f.duration = 500 * time.Millisecond
	}
	if !asked.Changed("warmup") {
		f.warmup = 100 * time.Millisecond
	}
}

// checkFolder makes the folder for the results, and fails if nothing can be written to it.
func (f *evaluationFlags) checkFolder() error {
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	return checkOutput(evaluationPage, filepath.Join(f.out, evaluationPage))
}

// evaluationPage is the name of the page in its folder.
const evaluationPage = "evaluation.html"

// evaluationRun is one evaluation.
type evaluationRun struct {
	*evaluationFlags
	c       *cobra.Command
	brokers *benchBrokers
	result  bench.Evaluation
}

// evaluationParts are what an evaluation measures, in this order.
var evaluationParts = []struct {
	name    string
	measure func(*evaluationRun) error
}{
	{"throughput", (*evaluationRun).throughput},
	{"payloads", (*evaluationRun).payloads},
	{"rate", (*evaluationRun).rate},
	{"subscribers", (*evaluationRun).subscribers},
	{"publishers", (*evaluationRun).publishers},
	{"open-loop", (*evaluationRun).openLoop},
	{"connect", (*evaluationRun).connect},
	{"handshakes", (*evaluationRun).handshakes},
	{"connections", (*evaluationRun).connections},
	{"subscriptions", (*evaluationRun).subscriptions},
	{"scale", (*evaluationRun).scale},
	{"steps", (*evaluationRun).steps},
}

func partNames() (names []string) {
	for _, p := range evaluationParts {
		names = append(names, p.name)
	}
	return names
}

// measure takes all measurements that were asked for.
func (r *evaluationRun) measure() error {
	for _, part := range evaluationParts {
		if len(r.only) > 0 && !slices.Contains(r.only, part.name) {
			continue
		}
		begun := time.Now()
		r.note("== %s", part.name)
		if err := part.measure(r); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		r.note("== %s took %v", part.name, time.Since(begun).Round(time.Second))
	}
	return nil
}

func (r *evaluationRun) note(format string, args ...any) {
	fmt.Fprintf(r.c.ErrOrStderr(), format+"\n", args...)
}

const (
	paperPayload = 16 << 10 // bytes
	shortPayload = 64       // bytes, as sensors send them
)

// throughput measures the table that most aims are about.
func (r *evaluationRun) throughput() error {
	names := []string{bench.NativeTLS, "wasm-plain", bench.WasmAttested, bench.MosquittoTLS}
	return r.closedLoop(names, bench.Plan{Shapes: bench.Shapes, Payloads: []int{shortPayload}, Rounds: r.rounds})
}

// payloads measures larger messages, point to point.
func (r *evaluationRun) payloads() error {
	sizes := []int{1 << 10, 16 << 10, 64 << 10}
	if r.quick {
		sizes = sizes[2:]
	}
	return r.closedLoop(pacedVariants, bench.Plan{Shapes: bench.Shapes[:1], Payloads: sizes, Rounds: r.rounds})
}

func (r *evaluationRun) closedLoop(names []string, plan bench.Plan) error {
	variants, err := r.brokers.withPeers(nil, names, r.peers, r.peerCA)
	if err != nil {
		return err
	}
	plan.QoS, plan.Variants, plan.Warmup, plan.Window = []byte{0, 1, 2}, variants, r.warmup, r.duration
	plan.Progress = func(s bench.Sample) { r.note("%v", s) }
	reports, err := bench.Throughput(r.c.Context(), plan)
	r.result.Throughput = append(r.result.Throughput, reports...)
	return err
}

func (r *evaluationRun) rate() error {
	return errors.Join(
		r.paced(bench.RateCase(fewer([]float64{5, 25, 100, 200}, r.quick), paperPayload, 0), r.rounds),
		r.paced(bench.RateCase(fewer([]float64{200, 5_000, 20_000, 100_000}, r.quick), shortPayload, 0), r.rounds),
	)
}

func (r *evaluationRun) subscribers() error {
	return r.paced(bench.SubscribersCase(fewer([]int{1, 4, 16, 64, 256}, r.quick), paperPayload, 0), r.rounds)
}

func (r *evaluationRun) publishers() error {
	return r.paced(bench.PublishersCase(fewer([]int{5, 20, 40, 64}, r.quick), paperPayload, 0), r.rounds)
}

// openLoopRate is how many messages a second go in all, so that those of 64 KiB do not fill a processor.
const openLoopRate = 1_000

func (r *evaluationRun) openLoop() error {
	return r.paced(bench.OpenLoopCase(bench.Shapes[0], openLoopRate, fewer([]int{64, 1 << 10, 16 << 10, 64 << 10}, r.quick), 1), r.rounds)
}

// fewer is the first and the last of a list, and one between, if there is to be little.
func fewer[T any](list []T, quick bool) []T {
	if !quick {
		return list
	}
	return []T{list[0], list[len(list)/2], list[len(list)-1]}
}

func (r *evaluationRun) paced(one bench.PacedCase, rounds int) error {
	r.note("%s, up to %d bytes", one.Title, one.Paces[len(one.Paces)-1].Pace.Payload)
	variants, err := r.brokers.withPeers(nil, pacedVariants, r.peers, r.peerCA)
	if err != nil {
		return err
	}
	report, err := bench.Paced(r.c.Context(), bench.PacedPlan{
		Case: one, Variants: variants, Rounds: rounds, Warmup: r.warmup, Window: r.duration,
		Progress: func(s bench.PacedSample) { r.note("round %d  %v", s.Round, s) },
	})
	if len(report.Rows) > 0 {
		r.result.Paced = append(r.result.Paced, report)
	}
	return err
}

func (r *evaluationRun) handshakes() error {
	f := handshakesFlags{plan: bench.HandshakePlan{Rounds: r.rounds, Clients: 16, Warmup: r.warmup, Window: r.duration}}
	report, err := f.measure(r.c.Context(), r.brokers)
	if len(report.Samples) > 0 {
		r.result.Handshakes = &report
	}
	return err
}

// subscriptions measures what matching costs.
func (r *evaluationRun) subscriptions() error {
	plan := bench.MatchPlan{Filters: usualFilters, Rounds: r.rounds, Window: r.duration}
	if r.quick {
		plan.Filters, plan.Window = []int{1_000, 20_000}, r.duration/2
	}
	report, err := match(r.c, plan, []string{"wasm", "native"})
	if len(report.Samples) > 0 {
		r.result.Match = &report
	}
	return err
}

// scale measures what many topics and receivers cost.
func (r *evaluationRun) scale() error {
	return r.scaled(bench.ScalePlan{Rounds: r.rounds, Window: r.duration, Only: []string{"topics", "receivers"}})
}

// steps looks for the longest step.
func (r *evaluationRun) steps() error {
	plan := bench.ScalePlan{Sessions: 100_000, Subscriptions: 1_000_000, Window: r.duration, Only: []string{"steps"}}
	if r.quick {
		plan.Sessions, plan.Subscriptions, plan.Window = 5_000, 50_000, r.duration/2
	}
	return r.scaled(plan)
}

// scaled adds what a plan gives to what others gave.
func (r *evaluationRun) scaled(plan bench.ScalePlan) error {
	report, err := measureScale(r.c, r.brokers.dir, "wasm", plan)
	switch {
	case !report.Measured():
	case r.result.Scale == nil:
		r.result.Scale = &report
	default:
		r.result.Scale.Steps = report.Steps
	}
	return err
}

// write writes what has been measured.
func (r *evaluationRun) write() error {
	r.result.Took = bench.Seconds(time.Since(r.result.Started).Round(time.Second))
	if r.brokers.other != nil {
		r.result.Others = []string{r.brokers.other.Version}
	}
	page, data := filepath.Join(r.out, evaluationPage), filepath.Join(r.out, "evaluation.json")
	text, err := json.MarshalIndent(r.result, "", " ")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(data, append(text, '\n'), 0o644), writeTo(page, nil, r.result.WritePage), r.writeLists()); err != nil {
		return err
	}
	out := r.c.OutOrStdout()
	for _, aim := range r.result.Aims() {
		fmt.Fprintf(out, "%s: %s\n", aim.What, aim.Limit)
		for _, b := range aim.Bars {
			fmt.Fprintf(out, "    %v\n", b)
		}
		if len(aim.Bars) == 0 {
			fmt.Fprintln(out, "    not measured")
		}
	}
	fmt.Fprintf(out, "\nwritten to %s and %s, and all measurements to files beside them (CSV)\n", page, data)
	return nil
}

// writeLists writes all measurements of each part that was measured, for other programs to plot.
func (r *evaluationRun) writeLists() (err error) {
	list := func(name string, write func(io.Writer) error) {
		err = errors.Join(err, writeTo(filepath.Join(r.out, name), nil, write))
	}
	e := &r.result
	if len(e.Throughput) > 0 {
		list("throughput.csv", e.Throughput.WriteCSV)
	}
	if len(e.Paced) > 0 {
		list("latency.csv", bench.PacedReports(e.Paced).WriteCSV)
	}
	if e.Connect != nil {
		list("connect.csv", e.Connect.WriteCSV)
	}
	if e.Connections != nil {
		list("connections.csv", e.Connections.WriteCSV)
	}
	if e.Handshakes != nil {
		list("handshakes.csv", e.Handshakes.WriteCSV)
	}
	if e.Scale != nil {
		list("scale.csv", e.Scale.WriteCSV)
	}
	if e.Match != nil {
		list("subscriptions.csv", e.Match.WriteCSV)
	}
	return err
}
