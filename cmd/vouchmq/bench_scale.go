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
	var engine, jsonFile string
	c := &cobra.Command{
		Use:   "scale",
		Short: "Memory of many subscriptions and connections, cost of many topics and receivers",
		Long: `Measure how a broker bears many of everything: the memory of a million subscriptions over ten thousand clients, the
memory of ten thousand connections that do nothing, and how much dearer a delivery is with 10,000 topics than with 10
and with 1,000 receivers of a topic than with 10. Memory is what is resident of the whole process.

It fails (exit status 1) if the subscriptions take more than 400 MB, if an idle TLS connection takes more than 45 KiB, or
if a delivery costs more than 20 % more.`,
		Example: `  vouchmq bench scale
  vouchmq bench scale --clients 1000 --subscriptions 100000 --idle 1000 --rounds 1 --json -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return scale(c, plan, engine, jsonFile) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&plan.Clients, "clients", 10_000, "that subscribe")
	fs.IntVar(&plan.Subscriptions, "subscriptions", 1_000_000, "of all clients together")
	fs.IntVar(&plan.Idle, "idle", 10_000, "connections that do nothing")
	fs.IntVar(&plan.Rounds, "rounds", 3, "of the measurements of throughput")
	fs.DurationVar(&plan.Window, "duration", 3*time.Second, "of one measurement of throughput")
	fs.StringSliceVar(&plan.Only, "only", nil, "parts to measure: "+strings.Join(bench.ScaleParts, ", "))
	fs.StringVar(&engine, "engine", "wasm", "wasm or native")
	fs.StringVar(&jsonFile, "json", "", "also write all results to this file, - for standard output")
	return c
}

func scale(c *cobra.Command, plan bench.ScalePlan, engine, jsonFile string) error {
	if min(plan.Clients, plan.Subscriptions, plan.Idle, plan.Rounds) < 1 || plan.Window <= 0 {
		return errors.New("all numbers are more than 0")
	}
	for _, part := range plan.Only {
		if !slices.Contains(bench.ScaleParts, part) {
			return fmt.Errorf("--only %s: there are the parts %s", part, strings.Join(bench.ScaleParts, ", "))
		}
	}
	return withBrokers(func(dir string) error {
		plan.Start = func(ctx context.Context) (bench.ScaleBroker, error) {
			return startForScale(ctx, c.ErrOrStderr(), dir, engine)
		}
		plan.Progress = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
		report, err := bench.Scale(c.Context(), plan)
		if err != nil {
			return err
		}
		if err := writeTo(jsonFile, c.OutOrStdout(), func(w io.Writer) error { return printJSON(w, report) }); err != nil {
			return err
		}
		return judgeScale(c.OutOrStdout(), report)
	})
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
	stop := func() {
		if err := b.Stop(); err != nil {
			fmt.Fprintln(log, err)
		}
	}
	from := b.Over(bench.ManySources())
	return bench.ScaleBroker{Plain: from.Plain(), TLS: from.TLS(""), Attested: from.Attested(""), RSS: b.RSS, ProcessorTime: b.ProcessorTime, Stop: stop}, nil
}

func judgeScale(out io.Writer, r bench.ScaleReport) error {
	const mb = 1e6
	if r.SubscriptionBytes > 0 {
		fmt.Fprintf(out, "subscriptions  %d over %d clients: %.0f MB (%.0f without the subscriptions, %.0f without the clients)\n", r.Subscriptions,
			r.Clients, float64(r.SubscriptionBytes)/mb, float64(r.ClientsBytes)/mb, float64(r.EmptyBytes)/mb)
	}
	for _, i := range r.Idle {
		fmt.Fprintf(out, "idle           %d connections (%s): %.1f KiB each\n", i.Connections, i.Transport, i.Each()/1024)
	}
	for _, c := range r.Costs {
		fmt.Fprintf(out, "%-14s %d: %.0f ns of processor time for each delivery (%.0f deliveries/s); %d: %.0f ns (%.0f): %+.0f %%\n",
			c.Of, c.Few, c.Cost, c.Rate, c.Many, c.Then, c.RateThen, 100*c.Dearer())
	}
	if missed := r.Failures(); len(missed) > 0 {
		return errors.New("goals missed: " + strings.Join(missed, "; "))
	}
	_, err := fmt.Fprintln(out, "all goals reached")
	return err
}
