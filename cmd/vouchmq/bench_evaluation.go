package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

// evaluationFlags are those of `vouchmq bench evaluation`.
type evaluationFlags struct {
	out              string
	rounds           int
	duration, warmup time.Duration
	quick            bool
	peers            []string
	peerCA           string
}

func newBenchEvaluation() *cobra.Command {
	var f evaluationFlags
	c := &cobra.Command{
		Use:   "evaluation",
		Short: "Everything that the paper measured, and more, as one page with plots",
		Long: `Repeat the evaluation of the paper that VouchMQ comes from, with one command: throughput at QoS 0, 1 and 2, latency at
rising message rates, with more subscribers and with more publishers, new connections, and those that do nothing. VouchMQ is measured natively and in
WebAssembly, over plain TCP, TLS and attested TLS, beside Mosquitto if it is installed, and beside any other broker that --peer names.

It writes evaluation.html, which needs nothing else, and evaluation.json to a folder. It takes more than an hour;
--quick takes a few minutes, and its figures are only good for seeing what there is.`,
		Example: `  vouchmq bench evaluation
  vouchmq bench evaluation --quick --out /tmp/evaluation
  vouchmq bench evaluation --peer emqx=127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.StringVar(&f.out, "out", "evaluation", "folder for the results, which is made")
	fs.IntVar(&f.rounds, "rounds", 5, "measure each so many times")
	fs.DurationVar(&f.duration, "duration", 2*time.Second, "of one measurement; the paper's are 60s")
	fs.DurationVar(&f.warmup, "warmup", 500*time.Millisecond, "before each measurement")
	fs.BoolVar(&f.quick, "quick", false, "one short round, and fewer numbers")
	fs.StringArrayVar(&f.peers, "peer", nil, "another broker that runs already, NAME=HOST:PORT or NAME=tls://HOST:PORT; may be repeated")
	fs.StringVar(&f.peerCA, "peer-cafile", "", "CA that such a broker's certificate is verified with (default: the system's)")
	return c
}

func (f *evaluationFlags) run(c *cobra.Command) error {
	if f.rounds < 1 || f.duration <= 0 || f.warmup < 0 || f.duration+f.warmup > bench.MaxPaceTime {
		return fmt.Errorf("--rounds and --duration are more than 0, --duration and --warmup %v together at most", bench.MaxPaceTime)
	}
	if f.quick {
		f.rounds, f.duration, f.warmup = 1, time.Second, 200*time.Millisecond
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return withBrokers(func(dir string) error {
		r := &evaluationRun{
			evaluationFlags: f, c: c, brokers: &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()},
			result: bench.Evaluation{
				Program: "vouchmq " + version, Command: strings.Join(append([]string{"vouchmq"}, os.Args[1:]...), " "),
				Started: time.Now(), Machine: bench.ThisMachine(),
			},
		}
		defer r.brokers.stop()
		for _, step := range []func() error{r.throughput, r.rate, r.subscribers, r.publishers, r.connect, r.connections} {
			if err := step(); err != nil {
				return errors.Join(err, r.write()) // what there is is worth having
			}
		}
		return r.write()
	})
}

// evaluationRun is one evaluation.
type evaluationRun struct {
	*evaluationFlags
	c       *cobra.Command
	brokers *benchBrokers
	result  bench.Evaluation
}

func (r *evaluationRun) note(format string, args ...any) {
	fmt.Fprintf(r.c.ErrOrStderr(), format+"\n", args...)
}

func (r *evaluationRun) throughput() error {
	names := []string{"native-plain", bench.NativeTLS, "wasm-plain", bench.WasmAttested, bench.MosquittoTLS}
	variants, err := r.brokers.withPeers(nil, names, r.peers, r.peerCA)
	if err != nil {
		return err
	}
	for qos := range byte(3) {
		r.note("throughput, QoS %d", qos)
		report, err := bench.Throughput(r.c.Context(), bench.Plan{
			Shapes: bench.Shapes, Variants: variants, Rounds: r.rounds,
			Load: bench.Load{QoS: qos, Payload: 64, Warmup: r.warmup, Window: r.duration},
			Progress: func(round int, s bench.Sample) {
				r.note("round %d  %-8s %-16s %10.0f deliveries/s", round, s.Shape, s.Variant, s.Rate)
			},
		})
		if err != nil {
			return err
		}
		r.result.Throughput = append(r.result.Throughput, report)
	}
	return nil
}

const (
	paperPayload = 16 << 10 // bytes
	shortPayload = 64       // bytes, as sensors send them
)

func (r *evaluationRun) rate() error {
	beyond := slices.Concat([]float64{200}, bench.BeyondPaperRates)
	return errors.Join(
		r.paced(bench.RateCase(r.some(bench.PaperRates), paperPayload, 0)),
		r.paced(bench.RateCase(beyond, shortPayload, 0)),
	)
}

func (r *evaluationRun) subscribers() error {
	return r.paced(bench.SubscribersCase(fewer(bench.PaperSubscribers, r.quick), paperPayload, 0))
}

func (r *evaluationRun) publishers() error {
	return r.paced(bench.PublishersCase(fewer(bench.PaperPublishers, r.quick), paperPayload, 0))
}

func (r *evaluationRun) some(rates []float64) []float64 { return fewer(rates, r.quick) }

// fewer is the first and the last of a list, and one between, if there is to be little.
func fewer[T any](list []T, quick bool) []T {
	if !quick {
		return list
	}
	return []T{list[0], list[len(list)/2], list[len(list)-1]}
}

func (r *evaluationRun) paced(one bench.PacedCase) error {
	r.note("%s, %d bytes", one.Title, one.Paces[0].Pace.Payload)
	variants, err := r.brokers.withPeers(nil, pacedVariants, r.peers, r.peerCA)
	if err != nil {
		return err
	}
	report, err := bench.Paced(r.c.Context(), bench.PacedPlan{
		Case: one, Variants: variants, Rounds: r.rounds, Warmup: r.warmup, Window: r.duration,
		Progress: func(s bench.PacedSample) { r.note("round %d  %v", s.Round, s) },
	})
	if err == nil {
		r.result.Paced = append(r.result.Paced, report)
	}
	return err
}

// write writes what has been measured.
func (r *evaluationRun) write() error {
	r.result.Took = bench.Seconds(time.Since(r.result.Started).Round(time.Second))
	if r.brokers.other != nil {
		r.result.Others = []string{r.brokers.other.Version}
	}
	page, data := filepath.Join(r.out, "evaluation.html"), filepath.Join(r.out, "evaluation.json")
	text, err := json.MarshalIndent(r.result, "", " ")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(data, append(text, '\n'), 0o644), writeTo(page, nil, r.result.WritePage)); err != nil {
		return err
	}
	out := r.c.OutOrStdout()
	for _, b := range r.result.Bars() {
		verdict := "reached"
		if !b.Met() {
			verdict = "NOT reached"
		}
		fmt.Fprintf(out, "%-70s %8.3g %-3s limit %-6.4g %s\n", b.What, b.Value, b.Unit, b.Limit, verdict)
	}
	fmt.Fprintf(out, "\nwritten to %s and %s\n", page, data)
	return nil
}
