package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
)

func newBenchScale() *cobra.Command {
	var plan bench.ScalePlan
	var engine string
	var files outputs
	c := &cobra.Command{
		Use:   "scale",
		Short: "Memory of many subscriptions and connections, cost of many topics and receivers",
		Long: `Measure how a broker bears many of everything: the memory of a million subscriptions over ten thousand clients, the
memory of ten thousand connections that do nothing, how much dearer a delivery is with 10,000 topics than with 10
and with 1,000 receivers of a topic than with 10, and how long the longest step of the core takes with 100,000 sessions and as many
subscriptions: while the sessions come and subscribe, under load while clients come and go, and while all sessions are taken up
again. Of those sessions a hundred are connected; the others sleep, as those of clients do that come now and then. Memory is what is
resident of the whole process.

It fails (exit status 1) if the subscriptions take more than 400 MB, if an idle connection takes more than 40 KiB, if a
delivery costs more than 15 % more, which is the median of what it costs more in each round, or if a step uses more than 10 ms of processor time.`,
		Example: `  vouchmq bench scale
  vouchmq bench scale --only steps
  vouchmq bench scale --clients 1000 --subscriptions 100000 --idle 1000 --rounds 1 --json -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return scale(c, plan, engine, files) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&plan.Clients, "clients", 10_000, "that subscribe")
	fs.IntVar(&plan.Subscriptions, "subscriptions", 1_000_000, "of all clients together")
	fs.IntVar(&plan.Idle, "idle", 10_000, "connections that do nothing")
	fs.IntVar(&plan.Sessions, "sessions", 100_000, "in all, for the longest step")
	fs.IntVar(&plan.Rounds, "rounds", 5, "of the measurements of throughput")
	fs.DurationVar(&plan.Window, "duration", 3*time.Second, "of one measurement of throughput")
	fs.StringSliceVar(&plan.Only, "only", nil, "parts to measure: "+strings.Join(bench.ScaleParts, ", "))
	fs.StringVar(&engine, "engine", "wasm", "wasm or native")
	files.add(fs)
	completeWords(c, "only", bench.ScaleParts)
	completeWords(c, "engine", engines)
	return c
}

func scale(c *cobra.Command, plan bench.ScalePlan, engine string, files outputs) error {
	if min(plan.Clients, plan.Subscriptions, plan.Idle, plan.Sessions, plan.Rounds) < 1 || plan.Window <= 0 {
		return errors.New("all numbers are more than 0")
	}
	for _, part := range plan.Only {
		if !slices.Contains(bench.ScaleParts, part) {
			return fmt.Errorf("--only %s: there are the parts %s", part, strings.Join(bench.ScaleParts, ", "))
		}
	}
	if err := errors.Join(checkEngine(engine), files.check()); err != nil {
		return err
	}
	return withBrokers(c.Context(), func(dir string) error {
		report, err := measureScale(c, dir, engine, plan)
		if !report.Measured() {
			return err
		}
		table := func(w io.Writer) error { return printScale(w, report) }
		err = errors.Join(err, files.write(c.OutOrStdout(), table, report, report.WriteCSV))
		if err != nil { // what there is is worth having, and is not judged
			return err
		}
		return judgeScale(c.OutOrStdout(), report)
	})
}

func measureScale(c *cobra.Command, dir, engine string, plan bench.ScalePlan) (bench.ScaleReport, error) {
	plan.Start = func(ctx context.Context) (bench.ScaleBroker, error) {
		return startForScale(ctx, c.ErrOrStderr(), dir, engine)
	}
	plan.Progress = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
	return bench.Scale(c.Context(), plan)
}

func startForScale(ctx context.Context, log io.Writer, dir, engine string) (bench.ScaleBroker, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.ScaleBroker{}, err
	}
	dir, err = os.MkdirTemp(dir, "scale-")
	if err != nil {
		return bench.ScaleBroker{}, err
	}
	b, err := local.Start(ctx, self, filepath.Join(dir, "state"), nil, "--engine", engine)
	if err != nil {
		return bench.ScaleBroker{}, err
	}
	stop := func() { stopBroker(ctx, b, log) }
	from := b.Over(bench.ManySources())
	return bench.ScaleBroker{
		Plain: from.Plain(), TLS: from.TLS(""), Attested: from.Attested(""), RSS: b.RSS, ProcessorTime: b.ProcessorTime, Stop: stop, LongestStep: longestStep(b),
	}, nil
}

// longestStep asks a broker how long the longest step of its core has taken.
func longestStep(b *local.Broker) func(context.Context) (bench.LongestStep, error) {
	return func(ctx context.Context) (bench.LongestStep, error) {
		s, err := b.Stats(ctx)
		return s.Longest(), err
	}
}

func printScale(out io.Writer, r bench.ScaleReport) (err error) {
	const mb = 1e6
	if r.SubscriptionBytes > 0 {
		_, err = fmt.Fprintf(out, "subscriptions  %d over %d clients: %.0f MB (%.0f without the subscriptions, %.0f without the clients)\n", r.Subscriptions,
			r.Clients, float64(r.SubscriptionBytes)/mb, float64(r.ClientsBytes)/mb, float64(r.EmptyBytes)/mb)
	}
	for _, i := range r.Idle {
		_, err = fmt.Fprintf(out, "idle           %d connections (%s): %.1f KiB each\n", i.Connections, i.Transport, i.Each()/1024)
	}
	for _, c := range r.Costs {
		_, err = fmt.Fprintf(out, "%-14s %d: %.0f ns of processor time for each delivery (%.0f deliveries/s); %d: %.0f ns (%.0f); ratio round by round %v\n",
			c.Of, c.Few, c.Cost, c.Rate, c.Many, c.Then, c.RateThen, c.Ratio)
	}
	if r.Steps != nil {
		longest := r.Steps.Longest()
		_, err = fmt.Fprintf(out, "steps          %d sessions, %d subscriptions, %.0f MB: the longest took %v of processor time, %v by the clock; the host took %v from this machine's processors\n",
			r.Steps.Sessions, r.Steps.Subscriptions, float64(r.Steps.Bytes)/mb, longest.Used, longest.Wall, r.Steps.Stolen())
	}
	return err
}

func judgeScale(out io.Writer, r bench.ScaleReport) error {
	if missed := r.Failures(); len(missed) > 0 {
		return errors.New("goals missed: " + strings.Join(missed, "; "))
	}
	_, err := fmt.Fprintln(out, "all goals reached")
	return err
}
