package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

type handshakesFlags struct {
	plan   bench.HandshakePlan
	atMost float64
	files  outputs
}

func newBenchHandshakes() *cobra.Command {
	var f handshakesFlags
	c := &cobra.Command{
		Use:   "handshakes",
		Short: "Handshakes a second and what they cost, attested and with ordinary TLS",
		Long: `Connect again and again, by turns over ordinary TLS, with a bundle but without asking for evidence, and attested, and
measure handshakes a second and the processor time of each, at the clients and at the broker. The clients are in this
process and verify all evidence anew. The table has the medians; its last columns compare handshakes per second of
processor time with ordinary TLS, clients included and the broker alone.

Exit status: 1 if an attested handshake takes more than --at-most times the processor time of an ordinary one.`,
		Example: `  vouchmq bench handshakes
  vouchmq bench handshakes --clients 64 --rounds 5 --json handshakes.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&f.plan.Rounds, "rounds", 5, "measure each variant so many times")
	fs.IntVar(&f.plan.Clients, "clients", 16, "that connect at the same time")
	fs.DurationVar(&f.plan.Window, "duration", 2*time.Second, "of one measurement")
	fs.DurationVar(&f.plan.Warmup, "warmup", 500*time.Millisecond, "before each measurement")
	fs.Float64Var(&f.atMost, "at-most", 1.6, "fail if an attested handshake costs more than so many ordinary ones")
	f.files.add(fs)
	return c
}

func (f *handshakesFlags) run(c *cobra.Command) error {
	if f.plan.Rounds < 1 || f.plan.Clients < 1 || f.plan.Window <= 0 || f.plan.Warmup < 0 {
		return errors.New("--rounds, --clients and --duration are more than 0")
	}
	if err := f.files.check(); err != nil {
		return err
	}
	return withBrokers(c.Context(), func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		r, err := f.measure(c.Context(), b)
		if len(r.Samples) == 0 {
			return err
		}
		if err := errors.Join(err, f.write(c.OutOrStdout(), r)); err != nil { // what there is is worth having
			return err
		}
		return f.judge(r.Rows[2])
	})
}

func (f *handshakesFlags) measure(ctx context.Context, b *benchBrokers) (bench.HandshakeReport, error) {
	broker, err := b.broker("wasm")
	if err != nil {
		return bench.HandshakeReport{}, err
	}
	f.plan.Broker = broker.ProcessorTime
	f.plan.Variants = []bench.Variant{
		{Name: "TLS", Dial: broker.TLS("")}, {Name: "with a bundle", Dial: broker.Unattested("")}, {Name: "attested", Dial: broker.Attested("")},
	}
	return bench.Handshakes(ctx, f.plan)
}

func (f *handshakesFlags) write(out io.Writer, r bench.HandshakeReport) error {
	return f.files.write(out, r.WriteTable, r, r.WriteCSV)
}

func (f *handshakesFlags) judge(attested bench.HandshakeRow) error {
	if dearer := 1 / attested.Share; dearer > f.atMost {
		return fmt.Errorf("an attested handshake costs %.2f times an ordinary one, more than %.2f", dearer, f.atMost)
	}
	return nil
}
