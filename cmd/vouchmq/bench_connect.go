package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vouchmq/vouchmq/bench"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/local"
)

// connectBenchFlags are those of `vouchmq bench connect`.
type connectBenchFlags struct {
	only, variants, tees []string
	peers                []string
	peerCA               string
	rates                []float64
	at                   float64
	roundTrips, quotes   []time.Duration
	rounds, clients      int
	duration, warmup     time.Duration
	atMost               time.Duration
	files                outputs
}

func newBenchConnect() *cobra.Command {
	var f connectBenchFlags
	c := &cobra.Command{
		Use:   "connect",
		Short: "Latency and rate of new connections: plain, TLS, attested, mutually attested",
		Long: `Measure how long clients that connect wait until CONNACK has come, and how many a second can connect. Clients come at times that are
fixed before (open loop), and wait from these times on; opening the connection, TLS and evidence are in it. They come over plain TCP, over
ordinary TLS, over attested TLS, and over attested TLS for which they give evidence, too; and, to compare, to VouchMQ with its core
native, to Mosquitto over TLS if it is installed, and to any other broker that --peer names. Settings are measured in turn, round after
round; the table has medians, and what is compared are measurements of the same round.

Not all combinations are measured, but four parts, of which --only takes some:

  rate        every variant, at each --rate
  round-trip  every variant, with each --round-trip that a proxy adds, at --at connections a second
  quote       attested and mutual, at each --rate, with TEEs that are slow: the simulated one with each --quote, and a TPM in software if swtpm is
              installed
  saturated   every variant and TEE: as many connections as --clients can make, one after the other

Other parts than round-trip have the first round trip, and other parts than quote and saturated the first quote time.

Exit status: 1 if no client gets in with a setting, or if attestation makes CONNACK later than --at-most allows, with the longest
--round-trip and no quote time; the evidence travels in the first flight of the server, so that attestation should cost no round trip.`,
		Example: `  vouchmq bench connect
  vouchmq bench connect --only round-trip --round-trip 200ms --at 20 --rounds 9
  vouchmq bench connect --only rate --rate 10,100,1000 --variant tls,attested --csv -
  vouchmq bench connect --only rate,saturated --variant attested,mosquitto-tls --peer emqx=127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	f.define(c.Flags())
	completeWords(c, "variant", connectVariants)
	completeWords(c, "only", bench.ConnectParts)
	completeWords(c, "tee", []string{"sim", "tpm"})
	return c
}

func (f *connectBenchFlags) define(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.only, "only", bench.ConnectParts, "parts to measure")
	fs.StringSliceVar(&f.variants, "variant", nil, strings.Join(connectVariants, ", ")+" (default: all, Mosquitto if it is installed)")
	addPeerFlags(fs, &f.peers, &f.peerCA)
	fs.StringSliceVar(&f.tees, "tee", nil, "what the broker attests with: sim, tpm (default: sim, and tpm if it can be had)")
	addRates(fs, &f.rates, bench.PaperConnectRates, "new connections a second; the paper's are from 1 to 50")
	fs.Float64Var(&f.at, "at", 10, "new connections a second where round trips are compared")
	fs.DurationSliceVar(&f.roundTrips, "round-trip", evaluatedRoundTrips, "that a proxy adds")
	fs.DurationSliceVar(&f.quotes, "quote", evaluatedQuotes, "time that the simulated TEE takes for a quote, one at a time")
	fs.IntVar(&f.rounds, "rounds", 5, "measure each so many times")
	fs.IntVar(&f.clients, "clients", 16, "that connect at the same time, where it is saturated")
	fs.DurationVar(&f.duration, "duration", time.Second, "of one measurement, which has three connections at least; the paper's are 10s")
	fs.DurationVar(&f.warmup, "warmup", 300*time.Millisecond, "before each saturated measurement")
	fs.DurationVar(&f.atMost, "at-most", bench.MostLater, "fail if attestation makes CONNACK later than that")
	f.files.add(fs)
}

var (
	evaluatedRoundTrips = []time.Duration{0, 20 * time.Millisecond, 80 * time.Millisecond}
	evaluatedQuotes     = []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond}
)

// connectVariants are all ways to connect that are known.
var connectVariants = slices.Concat(bench.ConnectWays, bench.BesideWays)

func (f *connectBenchFlags) check() error {
	negative := func(d time.Duration) bool { return d < 0 }
	switch {
	case f.rounds < 1 || f.clients < 1 || f.duration <= 0 || f.warmup < 0:
		return errors.New("--rounds, --clients and --duration are more than 0")
	case len(f.rates) == 0 || !(slices.Min(append(f.rates, f.at)) > 0) || slices.Max(append(f.rates, f.at)) > 10_000:
		return errors.New("--rate and --at are more than 0, and 10,000 at most")
	case len(f.roundTrips) == 0 || slices.ContainsFunc(f.roundTrips, negative):
		return errors.New("--round-trip is not negative")
	case len(f.quotes) == 0 || slices.ContainsFunc(f.quotes, negative) || slices.Max(f.quotes) > time.Second:
		return errors.New("--quote is not negative, and 1s at most")
	}
	return errors.Join(
		allOf("--only", f.only, bench.ConnectParts), allOf("--variant", f.variants, connectVariants), allOf("--tee", f.tees, []string{"sim", "tpm"}),
		f.files.check(),
	)
}

// allOf refuses words that are not among those there are.
func allOf(flag string, words, there []string) error {
	for _, w := range words {
		if !slices.Contains(there, w) {
			return fmt.Errorf("%s %s: there are %s", flag, w, strings.Join(there, ", "))
		}
	}
	return nil
}

func (f *connectBenchFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	return withBrokers(c.Context(), func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		r, err := f.measure(b)
		if len(r.Samples) == 0 {
			return err
		}
		if err := errors.Join(err, f.write(c.OutOrStdout(), r)); err != nil { // what there is is worth having
			return err
		}
		return f.judge(r)
	})
}

// measure takes the measurements.
func (f *connectBenchFlags) measure(b *benchBrokers) (bench.ConnectReport, error) {
	peers, err := namedPeers(f.peers, f.peerCA)
	if err != nil {
		return bench.ConnectReport{}, err
	}
	if _, err := b.answering(peers); err != nil {
		return bench.ConnectReport{}, err
	}
	devices, err := f.devices(b)
	if err != nil {
		return bench.ConnectReport{}, err
	}
	choice := bench.ConnectChoice{
		Parts: f.only, Ways: waysOr(f.variants, connectVariants, peers, b.log), Devices: devices, RoundTrips: f.roundTrips, Rates: f.rates, At: f.at,
	}
	settings := choice.Settings()
	if len(settings) == 0 {
		return bench.ConnectReport{}, errors.New("there is nothing to measure: quote is for the variants attested and mutual")
	}
	n := &connectNetwork{brokers: b, peers: peers, proxies: map[string]*bench.DelayProxy{}}
	defer n.close()
	done := 0
	return bench.Connects(b.ctx, bench.ConnectPlan{
		Settings: settings, Rounds: f.rounds, Clients: f.clients, Warmup: f.warmup, Window: f.duration, Dial: n.dial,
		Progress: func(s bench.ConnectSample) {
			done++
			fmt.Fprintf(b.log, "%d of %d  round %d  %v\n", done, len(settings)*f.rounds, s.Round, s)
		},
	})
}

// devices are what brokers attest with. A TPM may be missing unless it is named.
func (f *connectBenchFlags) devices(b *benchBrokers) (all []bench.Device, err error) {
	if len(f.tees) == 0 || slices.Contains(f.tees, "sim") {
		for _, q := range f.quotes {
			all = append(all, bench.Device{TEE: "sim", QuoteTime: bench.Micros(q)})
		}
	}
	slow := slices.Contains(f.only, "quote") || slices.Contains(f.only, "saturated") || len(all) == 0
	if !slow || len(f.tees) > 0 && !slices.Contains(f.tees, "tpm") {
		return all, nil
	}
	switch _, err := b.withTPM("wasm"); {
	case errors.Is(err, local.ErrNoTPM) && len(f.tees) == 0:
		fmt.Fprintf(b.log, "without a TPM: %v\n", err)
		return all, nil
	case err != nil:
		return nil, fmt.Errorf("--tee tpm: %w", err)
	}
	return append(all, bench.Device{TEE: "tpm"}), nil
}

// waysOr are the ways that were asked for, or all if there were none, then without Mosquitto if it is missing; and the peers.
func waysOr(asked, all []string, peers []benchPeer, log io.Writer) []string {
	ways := asked
	if len(asked) == 0 {
		ways = withoutMosquitto(all, false, log)
	}
	ways = slices.Clone(ways)
	for _, p := range peers {
		ways = append(ways, p.name)
	}
	return ways
}

// withTPM starts a broker with a TPM, or returns the one that runs already.
func (b *benchBrokers) withTPM(engine string) (*local.Broker, error) {
	return b.started(engine+"-tpm", func(self, dir string) (broker *local.Broker, err error) {
		if b.tpm == nil {
			if b.tpm, err = local.StartTPM(b.ctx); err != nil {
				return nil, err
			}
		}
		return local.StartWithTPM(b.ctx, b.tpm, self, dir, "--engine", engine)
	})
}

// withDevice starts a broker with a device, or returns the one that runs already.
func (b *benchBrokers) withDevice(engine string, d bench.Device) (*local.Broker, error) {
	switch {
	case d.TEE == "tpm":
		return b.withTPM(engine)
	case d.QuoteTime == 0:
		return b.broker(engine)
	}
	quoteTime := time.Duration(d.QuoteTime).String()
	return b.started(engine+"-"+quoteTime, func(self, dir string) (*local.Broker, error) {
		return local.Start(b.ctx, self, dir, nil, "--engine", engine, "--quote-time", quoteTime)
	})
}

// connectNetwork reaches brokers, over proxies if it is to be slow.
type connectNetwork struct {
	brokers *benchBrokers
	peers   []benchPeer
	proxies map[string]*bench.DelayProxy // by target and round trip
}

func (n *connectNetwork) close() {
	for _, p := range n.proxies {
		p.Close()
	}
}

func (n *connectNetwork) dial(_ context.Context, s bench.ConnectSetting) (bench.Dialer, error) {
	if peer := peerNamed(n.peers, s.Way); peer != nil {
		over, err := n.over(peer.address, time.Duration(s.RoundTrip))
		return peer.over(over), err
	}
	if s.Way == bench.MosquittoTLS {
		return n.mosquitto(time.Duration(s.RoundTrip))
	}
	return n.vouchmq(s)
}

func (n *connectNetwork) mosquitto(roundTrip time.Duration) (bench.Dialer, error) {
	m, err := n.brokers.mosquitto()
	if err != nil {
		return nil, err
	}
	over, err := n.over(m.Address, roundTrip)
	return m.TLSOver(over), err
}

func (n *connectNetwork) vouchmq(s bench.ConnectSetting) (bench.Dialer, error) {
	broker, err := n.brokers.withDevice(engineOf(s.Way, "wasm"), s.Device)
	if err != nil {
		return nil, err
	}
	listener := "attested"
	if s.Way == bench.Plain {
		listener = "plain"
	}
	over, err := n.over(broker.Listeners[listener], time.Duration(s.RoundTrip))
	if err != nil {
		return nil, err
	}
	broker = broker.Over(over)
	switch s.Way {
	case bench.Plain:
		return broker.Plain(), nil
	case bench.TLS, bench.NativeTLS:
		return broker.TLS(""), nil
	case bench.Mutual:
		return broker.Mutual("", time.Duration(s.Device.QuoteTime))
	}
	return broker.Attested(""), nil
}

// engineOf is the engine that a way to connect is about.
func engineOf(way, otherwise string) string {
	if strings.HasPrefix(way, "native-") {
		return "native"
	}
	return otherwise
}

// over returns a network to a target with a round trip, nil for that of this machine.
func (n *connectNetwork) over(target string, roundTrip time.Duration) (bench.NetDial, error) {
	if roundTrip == 0 {
		return nil, nil
	}
	name := fmt.Sprint(target, " ", roundTrip)
	if n.proxies[name] == nil {
		proxy, err := bench.NewDelayProxy(target, roundTrip)
		if err != nil {
			return nil, err
		}
		n.proxies[name] = proxy
	}
	return n.proxies[name].Dial, nil
}

func (f *connectBenchFlags) write(out io.Writer, r bench.ConnectReport) error {
	fmt.Fprintf(out, "median of %d measurements of %v; saturated: %d clients\n\n", r.Rounds, time.Duration(r.Window), r.Clients)
	return f.files.write(out, r.WriteTable, r, r.WriteCSV)
}

func (f *connectBenchFlags) judge(r bench.ConnectReport) error {
	if err := r.Failed(); err != nil {
		return err
	}
	longest := slices.Max(f.roundTrips)
	if later, ok := r.Later(longest); ok && later > f.atMost {
		return fmt.Errorf("attestation made CONNACK %v later with a round trip of %v, more than %v", later, longest, f.atMost)
	}
	return nil
}
