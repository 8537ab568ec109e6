package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

func newBenchSoak() *cobra.Command {
	plan := bench.SoakPlan{Payload: 64}
	var engine string
	var files outputs
	c := &cobra.Command{
		Use:   "soak",
		Short: "Long load with connections that come and go; memory, steps, and losses at QoS 1 and 2",
		Long: `Put a broker under load for long: all shapes of "bench throughput" in turn over attested TLS, streams of numbered
messages at QoS 1 and 2 to subscribers that stay and to such that lose their connection and come back, and
connections that come and go, attested and not.

It fails (exit status 1) if memory grows after the first minute (or the first quarter, if that is shorter) by more
than 5 % or 8 MiB, whichever is more, along the line that fits the lowest value of each round of the shapes; if a step of the module uses 20 ms of
processor time or more (--max-step); or if a message at QoS 1 or 2 is lost, comes out of order, or comes twice where
it must not. The longest step by the clock on the wall is shown, too: the load keeps all processors busy, so that it
includes the time in which the broker waited for one.`,
		Example: `  vouchmq bench soak
  vouchmq bench soak --duration 1h --json soak.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return soak(c, plan, engine, files) },
	}
	helpWithoutShorthand(c)
	c.Flags().DurationVar(&plan.Duration, "duration", 10*time.Minute, "of the load")
	c.Flags().DurationVar(&plan.MaxStep, "max-step", bench.DefaultMaxStep, "fail if a step uses that much processor time")
	c.Flags().IntVar(&plan.MaxGrowth, "max-growth", bench.DefaultMaxGrowth, "fail if memory grows by more bytes, and by more than 5 %")
	c.Flags().StringVar(&engine, "engine", "wasm", "wasm or native")
	files.add(c.Flags())
	completeWords(c, "engine", engines)
	return c
}

func soak(c *cobra.Command, plan bench.SoakPlan, engine string, files outputs) error {
	if plan.Duration < 2*time.Second {
		return errors.New("--duration is at least 2s")
	}
	if err := errors.Join(checkEngine(engine), files.check()); err != nil {
		return err
	}
	return withBrokers(c.Context(), func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		broker, err := b.broker(engine)
		if err != nil {
			return err
		}
		plan.Attested, plan.TLS, plan.RSS = broker.Attested(""), broker.TLS(""), broker.RSS
		plan.LongestStep = longestStep(broker)
		plan.Progress = func(s string) { fmt.Fprintln(c.ErrOrStderr(), s) }
		report, err := bench.Soak(c.Context(), plan)
		if err != nil {
			return err
		}
		table := func(w io.Writer) error { return printSoak(w, report) }
		if err := files.write(c.OutOrStdout(), table, report, report.WriteCSV); err != nil {
			return err
		}
		return judgeSoak(c.OutOrStdout(), report)
	})
}

func printSoak(out io.Writer, r bench.SoakReport) error {
	const mib = 1 << 20
	fmt.Fprintf(out, "QoS 0        %d deliveries, %d dropped\n", r.Deliveries, r.DroppedQoS0)
	for _, s := range r.Streams {
		fmt.Fprintf(out, "QoS %d        %d sent, %d received, %d twice, %d out of order, %d reconnections\n",
			s.QoS, s.Sent, s.Received, s.Duplicates, s.Disorder, s.Reconnects)
	}
	fmt.Fprintf(out, "connections  %d came and went beside the load\n", r.Connections)
	if n := len(r.RSS); n > 0 {
		fmt.Fprintf(out, "memory       %.1f MiB at first, %.1f MiB at last; its floor by the fitted line %+.1f MiB, bound %.1f MiB (with backlogs %+.1f)\n",
			float64(r.RSS[0].Bytes)/mib, float64(r.RSS[n-1].Bytes)/mib, r.Growth/mib, r.GrowthBound/mib, r.GrowthOfAll/mib)
	}
	_, err := fmt.Fprintf(out, "longest step %v of processor time, %v by the clock\n", r.LongestStep.Used, r.LongestStep.Wall)
	return err
}

func judgeSoak(out io.Writer, r bench.SoakReport) error {
	if len(r.Failures) > 0 {
		return errors.New("the broker did not keep the bounds: " + strings.Join(r.Failures, "; "))
	}
	_, err := fmt.Fprintln(out, "all bounds kept")
	return err
}
