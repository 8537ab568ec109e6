package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/attest/attesttest"
	"github.com/vouchmq/vouchmq/bench"
)

type benchVerifyFlags struct {
	rounds int
	window time.Duration
	least  float64
	share  float64
	files  outputs
}

func newBenchVerify() *cobra.Command {
	var f benchVerifyFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Verifications of evidence a second, of each platform",
		Long: `Measure on one core how often a second evidence of each platform is verified, with collateral at hand and no quote
remembered: SGX, TDX, SEV-SNP, TPM, Nitro and the simulated TEE. The evidence is made for the measurement, under roots of its own, with
structures, keys and chains as the real ones have them. Time is that of the processor; the last column is the share of it that the
standard library takes to check signatures, by a profile.

Exit status: 1 if one kind of evidence is verified less often than --at-least, and not because of signatures.`,
		Example: `  vouchmq bench verify
  vouchmq bench verify --rounds 5 --duration 2s --json verify.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&f.rounds, "rounds", 3, "measure each platform so many times")
	fs.DurationVar(&f.window, "duration", time.Second, "of one measurement")
	fs.Float64Var(&f.least, "at-least", 1000, "verifications a second that are enough")
	fs.Float64Var(&f.share, "signatures", 0.6, "share of signatures above which less is enough")
	f.files.add(fs)
	return c
}

func (f *benchVerifyFlags) run(c *cobra.Command) error {
	if f.rounds < 1 || f.window <= 0 {
		return errors.New("--rounds and --duration are more than 0")
	}
	if err := f.files.check(); err != nil {
		return err
	}
	evidence, err := attesttest.All()
	if err != nil {
		return err
	}
	r, err := bench.Verifications(c.Context(), bench.VerifyPlan{
		Evidence: evidence, Rounds: f.rounds, Window: f.window,
		Progress: func(round int, name string, each time.Duration) {
			fmt.Fprintf(c.ErrOrStderr(), "round %d  %-14s %8.0f µs\n", round, name, float64(each)/float64(time.Microsecond))
		},
	})
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	return errors.Join(f.files.write(out, r.WriteTable, r, r.WriteCSV), f.judge(r))
}

// judge says which evidence is verified too slowly, for another reason than its signatures.
func (f *benchVerifyFlags) judge(r bench.VerifyReport) (err error) {
	for _, row := range r.Rows {
		if row.PerSecond < f.least && row.Signatures < f.share {
			err = errors.Join(err, fmt.Errorf("%s: %.0f verifications a second are less than %.0f, and signatures are only %.0f %% of their time",
				row.Evidence, row.PerSecond, f.least, 100*row.Signatures))
		}
	}
	return err
}
