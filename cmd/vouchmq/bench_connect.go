package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vouchmq/vouchmq/bench"
)

func newBenchConnect() *cobra.Command {
	var count int
	var roundTrip time.Duration
	var asJSON bool
	c := &cobra.Command{
		Use:   "connect",
		Short: "Time to CONNACK over a slow network, attested and with ordinary TLS",
		Long: `Connect by turns over attested and over ordinary TLS, through a proxy that delays everything, and measure how long
it takes until CONNACK has come. The evidence travels in the server's first flight, so that attestation should cost
no round trip.`,
		Example: `  vouchmq bench connect
  vouchmq bench connect --round-trip 200ms --count 50`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return connectTimes(c, count, roundTrip, asJSON) },
	}
	helpWithoutShorthand(c)
	c.Flags().IntVar(&count, "count", 15, "connections of each kind")
	c.Flags().DurationVar(&roundTrip, "round-trip", 80*time.Millisecond, "that the proxy adds")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func connectTimes(c *cobra.Command, count int, roundTrip time.Duration, asJSON bool) error {
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
		if asJSON {
			return printJSON(c.OutOrStdout(), r)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "round trip %v, median of %d connections until CONNACK\nattested   %v\nTLS        %v\ndifference %v\n",
			roundTrip, count, r.Attested.Round(10*time.Microsecond), r.TLS.Round(10*time.Microsecond), r.Difference.Round(10*time.Microsecond))
		return err
	})
}
