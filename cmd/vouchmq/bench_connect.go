package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

func newBenchConnect() *cobra.Command {
	var count int
	var roundTrip, within time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "connect",
		Short: "Time to CONNACK over a slow network, attested and with ordinary TLS",
		Long: `Connect by turns over attested and over ordinary TLS, through a proxy that delays everything, and measure how long
it takes until CONNACK has come. The evidence travels in the server's first flight, so that attestation should cost
no round trip.

Exit status: 1 if the median with attestation is later than --within allows.`,
		Example: `  vouchmq bench connect
  vouchmq bench connect --round-trip 200ms --count 50`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return connectTimes(c, count, roundTrip, within, asJSON) },
	}
	helpWithoutShorthand(c)
	c.Flags().IntVar(&count, "count", 15, "connections of each kind")
	c.Flags().DurationVar(&roundTrip, "round-trip", 80*time.Millisecond, "that the proxy adds")
	c.Flags().DurationVar(&within, "within", 10*time.Millisecond, "fail if attestation makes CONNACK later than that")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func connectTimes(c *cobra.Command, count int, roundTrip, within time.Duration, asJSON bool) error {
	if count < 1 || roundTrip < 0 {
		return fmt.Errorf("--count is at least 1 and --round-trip not negative")
	}
	return withBrokers(func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		broker, err := b.broker("wasm")
		if err != nil {
			return err
		}
		proxy, err := bench.NewDelayProxy(broker.Listeners["attested"], roundTrip)
		if err != nil {
			return err
		}
		defer proxy.Close()
		r, err := bench.ConnectTimes(c.Context(), broker.Attested(proxy.Addr()), broker.TLS(proxy.Addr()), count)
		if err != nil {
			return err
		}
		if err := writeConnectTimes(c.OutOrStdout(), r, roundTrip, asJSON); err != nil {
			return err
		}
		if r.Difference > within {
			return fmt.Errorf("attestation made CONNACK %v later, more than %v", r.Difference, within)
		}
		return nil
	})
}

func writeConnectTimes(out io.Writer, r bench.ConnectResult, roundTrip time.Duration, asJSON bool) error {
	if asJSON {
		return printJSON(out, r)
	}
	_, err := fmt.Fprintf(out, "round trip %v, median of %d connections until CONNACK\n", roundTrip, len(r.Each))
	for _, line := range []struct {
		name string
		time time.Duration
	}{{"attested", r.Attested}, {"TLS", r.TLS}, {"difference", r.Difference}} {
		fmt.Fprintf(out, "%-10s %v\n", line.name, line.time.Round(10*time.Microsecond))
	}
	return err
}
