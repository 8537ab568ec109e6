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

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure brokers on this machine: throughput, endurance, time to connect",
		Long: `Measure brokers on this machine. They are started as processes of their own, with their files in a temporary folder,
and ended afterwards; the load generator is this process.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	helpWithoutShorthand(c)
	c.AddCommand(newBenchThroughput(), newBenchSoak(), newBenchConnect(), newBenchHandshakes(), newBenchRate(), newBenchSubscribers(),
		newBenchPublishers(), newBenchScale(), newBenchConnections(), newBenchEvaluation())
	return c
}

// variantNames are all that bench throughput knows, in the order in which they are measured.
var variantNames = []string{
	"native-plain", bench.NativeTLS, "native-attested",
	"wasm-plain", "wasm-tls", bench.WasmAttested, bench.MosquittoTLS,
}

type throughputFlags struct {
	rounds            int
	duration, warmup  time.Duration
	shapes, variants  []string
	peers             []string
	peerCA            string
	payload           int
	qos               uint8
	jsonFile, csvFile string
}

func newBenchThroughput() *cobra.Command {
	var f throughputFlags
	c := &cobra.Command{
		Use:   "throughput",
		Short: "Deliveries a second, of every engine and transport, and of Mosquitto",
		Long: `Measure how many messages a second brokers deliver: VouchMQ with its core native and in WebAssembly, over plain TCP,
TLS and attested TLS, and Mosquitto over TLS if it is installed. The variants are measured in turn, round after
round; the table has the medians.

Shapes: p2p (10 publishers, each to one of 10 subscribers), fan-in (20 to 1), fan-out (1 to 50). At QoS 1 and 2 each
publisher keeps 512 messages in flight, and each subscriber allows 1024.`,
		Example: `  vouchmq bench throughput
  vouchmq bench throughput --shape p2p --variant wasm-attested --variant native-tls --rounds 5 --duration 10s
  vouchmq bench throughput --json results.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	helpWithoutShorthand(c)
	fs := c.Flags()
	fs.IntVar(&f.rounds, "rounds", 3, "measure each variant so many times")
	fs.DurationVar(&f.duration, "duration", 3*time.Second, "of one measurement")
	fs.DurationVar(&f.warmup, "warmup", time.Second, "before each measurement")
	fs.StringSliceVar(&f.shapes, "shape", nil, "p2p, fan-in or fan-out (default: all)")
	addVariantFlags(fs, &f.variants, &f.peers, &f.peerCA)
	fs.IntVar(&f.payload, "payload", 64, "bytes of each message")
	fs.Uint8Var(&f.qos, "qos", 0, "quality of service: 0, 1 or 2")
	fs.StringVar(&f.jsonFile, "json", "", "also write all results to this file, - for standard output")
	fs.StringVar(&f.csvFile, "csv", "", "also write all measurements to this file, - for standard output")
	return c
}

func (f *throughputFlags) check() error {
	if f.rounds < 1 || f.duration <= 0 || f.warmup < 0 {
		return errors.New("--rounds and --duration are more than 0")
	}
	if f.payload < 8 || f.payload > 1<<20 {
		return errors.New("--payload is from 8 to 1,048,576 bytes")
	}
	if f.qos > 2 {
		return fmt.Errorf("--qos %d: QoS is 0, 1 or 2", f.qos)
	}
	return checkVariants(f.variants)
}

func (f *throughputFlags) run(c *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	shapes, err := shapesNamed(f.shapes)
	if err != nil {
		return err
	}
	return withBrokers(func(dir string) error {
		b := &benchBrokers{ctx: c.Context(), dir: dir, log: c.ErrOrStderr()}
		defer b.stop()
		variants, err := b.withPeers(f.variants, variantNames, f.peers, f.peerCA)
		if err != nil {
			return err
		}
		plan := bench.Plan{
			Shapes: shapes, Variants: variants, Rounds: f.rounds,
			Load: bench.Load{QoS: f.qos, Payload: f.payload, Warmup: f.warmup, Window: f.duration},
			Progress: func(round int, s bench.Sample) {
				fmt.Fprintf(c.ErrOrStderr(), "round %d  %-8s %-16s %10.0f deliveries/s\n", round, s.Shape, s.Variant, s.Rate)
			},
		}
		report, err := bench.Throughput(c.Context(), plan)
		if err != nil {
			return err
		}
		return f.write(c.OutOrStdout(), report)
	})
}

func shapesNamed(names []string) (shapes []bench.Shape, err error) {
	if len(names) == 0 {
		return bench.Shapes, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(bench.Shapes, func(s bench.Shape) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown shape %q: there are p2p, fan-in and fan-out", name)
		}
		shapes = append(shapes, bench.Shapes[i])
	}
	return shapes, nil
}

func (f *throughputFlags) write(out io.Writer, r bench.Report) error {
	fmt.Fprintf(out, "QoS %d, %d bytes, median of %d measurements of %v", r.QoS, r.Payload, r.Rounds, time.Duration(r.Window))
	if r.QoS > 0 {
		fmt.Fprintf(out, "; in flight: %d from each publisher, %d to each subscriber", bench.Window, bench.ReceiveMaximum)
	}
	fmt.Fprint(out, "\n\n")
	return errors.Join(
		r.WriteTable(out),
		writeTo(f.jsonFile, out, func(w io.Writer) error { return printJSON(w, r) }),
		writeTo(f.csvFile, out, r.WriteCSV),
	)
}

// writeTo writes to a file, to standard output if it is -, and nowhere if it has no name.
func writeTo(path string, stdout io.Writer, write func(io.Writer) error) error {
	switch path {
	case "":
		return nil
	case "-":
		return write(stdout)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// withBrokers runs f with a temporary folder.
func withBrokers(f func(dir string) error) error {
	dir, err := os.MkdirTemp("", "vouchmq-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return f(dir)
}

// benchBrokers are the brokers of one series of measurements. Each is started when it is needed first.
type benchBrokers struct {
	ctx     context.Context
	dir     string
	log     io.Writer
	vouchmq map[string]*local.Broker // by engine, and what else they differ in
	other   *bench.Mosquitto
	tpm     *local.TPM
}

func (b *benchBrokers) stop() {
	for _, broker := range b.vouchmq {
		if err := broker.Stop(); err != nil {
			fmt.Fprintln(b.log, err)
		}
	}
	if b.other != nil {
		b.other.Stop() // it has done its work, however it ends
	}
	if b.tpm != nil {
		b.tpm.Stop() // the same
	}
}

// variantsOr starts what is needed for the variants of these names, or for the usual ones if there are none. Without names
// Mosquitto may be missing.
func (b *benchBrokers) variantsOr(names, usual []string) (all []bench.Variant, err error) {
	wanted := names
	if len(names) == 0 {
		wanted = usual
	}
	for _, name := range wanted {
		dial, err := b.dialer(name)
		if errors.Is(err, bench.ErrNoMosquitto) && len(names) == 0 {
			fmt.Fprintf(b.log, "without Mosquitto: %v\n", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, bench.Variant{Name: name, Dial: dial})
	}
	return all, nil
}

func (b *benchBrokers) dialer(variant string) (bench.Dialer, error) {
	engine, transport, _ := strings.Cut(variant, "-")
	if variant == bench.MosquittoTLS {
		return b.mosquitto()
	}
	broker, err := b.broker(engine)
	if err != nil {
		return nil, err
	}
	switch transport {
	case "plain":
		return broker.Plain(), nil
	case "tls":
		return broker.TLS(""), nil
	}
	return broker.Attested(""), nil
}

// mosquitto starts Mosquitto, or returns the one that runs already.
func (b *benchBrokers) mosquitto() (bench.Dialer, error) {
	if b.other != nil {
		return b.other.TLS, nil
	}
	dir := filepath.Join(b.dir, "mosquitto")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if b.other, err = bench.StartMosquitto(b.ctx, dir); err != nil {
		return nil, err
	}
	fmt.Fprintln(b.log, b.other.Version)
	return b.other.TLS, nil
}

// broker starts VouchMQ with an engine, or returns the one that runs already.
func (b *benchBrokers) broker(engine string) (*local.Broker, error) {
	return b.started(engine, func(self, dir string) (*local.Broker, error) {
		return local.Start(b.ctx, self, dir, nil, "--engine", engine)
	})
}

// started returns the broker of that name. If there is none it is started, as this program and with its state in a folder.
func (b *benchBrokers) started(name string, start func(self, dir string) (*local.Broker, error)) (*local.Broker, error) {
	if broker := b.vouchmq[name]; broker != nil {
		return broker, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	broker, err := start(self, filepath.Join(b.dir, name))
	if err != nil {
		return nil, err
	}
	if b.vouchmq == nil {
		b.vouchmq = map[string]*local.Broker{}
	}
	b.vouchmq[name] = broker
	return broker, nil
}
