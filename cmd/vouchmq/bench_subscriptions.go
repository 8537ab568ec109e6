package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

// usualFilters are the numbers of filters that bench subscriptions measures.
var usualFilters = []int{1_000, 10_000, 100_000, 1_000_000}

func newBenchSubscriptions() *cobra.Command {
	var plan bench.MatchPlan
	var measured []string
	var files outputs
	c := &cobra.Command{
		Use:   "subscriptions",
		Short: "Cost of matching a message, and of subscribing, with up to a million filters",
		Long: `Measure how much processor time the broker uses for each delivery while it has 1,000 to 1,000,000 filters, seven of ten of them
exact, two with a + and one with a #, and how much for one more subscription. Messages go to topics that the broker has seen before,
which it remembers, and to topics that it has not seen for long, which it must match with all filters. Each message is delivered once.

The filters belong to sessions of clients that sleep, a thousand to each. Both engines run at the same time and are measured in turn;
the table has the medians, with the least and the most.`,
		Example: `  vouchmq bench subscriptions
  vouchmq bench subscriptions --filters 1000,100000 --rounds 1 --engine native --json -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if plan.Rounds < 1 || plan.Window <= 0 || len(measured) == 0 || len(plan.Filters) == 0 || slices.Min(plan.Filters) < 1000 {
				return errors.New("--rounds and --duration are more than 0, --filters at least 1000 each")
			}
			if err := errors.Join(checkEngine(measured...), files.check()); err != nil {
				return err
			}
			slices.Sort(plan.Filters)
			report, err := match(c, plan, measured)
			if len(report.Samples) == 0 {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "processor time of the broker, median of %d measurements of %v\n\n", report.Rounds, plan.Window)
			return errors.Join(err, files.write(c.OutOrStdout(), report.WriteTable, report, report.WriteCSV)) // what there is is worth having
		},
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntSliceVar(&plan.Filters, "filters", usualFilters, "numbers of filters to measure with")
	fs.IntVar(&plan.Rounds, "rounds", 5, "measure each so many times")
	fs.DurationVar(&plan.Window, "duration", time.Second, "of one measurement")
	fs.StringSliceVar(&measured, "engine", []string{"wasm", "native"}, "engines to measure")
	files.add(fs)
	completeWords(c, "engine", engines)
	return c
}

// match starts a broker with each engine and measures.
func match(c *cobra.Command, plan bench.MatchPlan, engines []string) (report bench.MatchReport, err error) {
	plan.Progress = func(s bench.MatchSample) { fmt.Fprintln(c.ErrOrStderr(), s) }
	err = withBrokers(c.Context(), func(dir string) error {
		for _, engine := range engines {
			b, err := startForScale(c.Context(), c.ErrOrStderr(), dir, engine)
			if err != nil {
				return err
			}
			defer b.Stop()
			plan.Brokers = append(plan.Brokers, bench.MatchBroker{Name: engine, ScaleBroker: b})
		}
		report, err = bench.Match(c.Context(), plan)
		return err
	})
	return report, err
}
