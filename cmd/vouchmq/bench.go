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

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
	c.AddCommand(newBenchThroughput(), newBenchSoak(), newBenchConnect(), newBenchHandshakes(), newBenchVerify(), newBenchRate(), newBenchSubscribers(),
		newBenchPublishers(), newBenchScale(), newBenchConnections(), newBenchSubscriptions(), newBenchEvaluation())
	return c
}

// variantNames are all that bench throughput knows, in the order in which they are measured.
var variantNames = []string{
	"native-plain", bench.NativeTLS, bench.NativeAttested,
	"wasm-plain", "wasm-tls", bench.WasmAttested, bench.MosquittoTLS,
}

// outputs are files for the results of a measurement.
type outputs struct{ jsonFile, csvFile string }

func (o *outputs) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.jsonFile, "json", "", "also write all results to this file, - for standard output")
	fs.StringVar(&o.csvFile, "csv", "", "also write all measurements to this file, - for standard output")
}

// check fails if the files cannot be written: better now than after the measurements.
func (o *outputs) check() error {
	return errors.Join(checkOutput("--json", o.jsonFile), checkOutput("--csv", o.csvFile))
}

// checkOutput fails if a file of that name cannot be written. What is in it stays; one that is not there is made.
func checkOutput(flag, path string) error {
	if path == "" || path == "-" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return file.Close()
}

// checkEngine refuses what brokers would refuse later.
func checkEngine(named ...string) error { return allOf("--engine", named, engines) }

// engines are what the core can run in.
var engines = []string{"wasm", "native"}

// write writes results as a table, and to the files that were asked for.
func (o *outputs) write(out io.Writer, table func(io.Writer) error, data any, list func(io.Writer) error) error {
	return errors.Join(
		table(out),
		writeTo(o.jsonFile, out, func(w io.Writer) error { return printJSON(w, data) }),
		writeTo(o.csvFile, out, list),
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

// withBrokers runs f with a temporary folder, which is gone afterwards, however f ends.
func withBrokers(ctx context.Context, f func(dir string) error) error {
	dir, err := os.MkdirTemp("", "vouchmq-bench-")
	if err != nil {
		return err
	}
	defer onHurry(ctx, func() { os.RemoveAll(dir) })()
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
		stopBroker(b.ctx, broker, b.log)
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
		v, err := b.variant(name)
		if errors.Is(err, bench.ErrNoMosquitto) && len(names) == 0 {
			fmt.Fprintf(b.log, "without Mosquitto: %v\n", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// stopBroker ends a broker. How it ends is of interest unless the measurement was interrupted: a terminal interrupts brokers, too, so
// that this is the second signal that they get, and they end at once.
func stopBroker(ctx context.Context, broker *local.Broker, log io.Writer) {
	if err := broker.Stop(); err != nil && ctx.Err() == nil {
		fmt.Fprintln(log, err)
	}
}

// variant starts what is needed for a variant of that name.
func (b *benchBrokers) variant(name string) (bench.Variant, error) {
	if name == bench.MosquittoTLS {
		m, err := b.mosquitto()
		if err != nil {
			return bench.Variant{}, err
		}
		return bench.Variant{Name: name, Dial: m.TLS, ProcessorTime: m.ProcessorTime}, nil
	}
	engine, transport, _ := strings.Cut(name, "-")
	broker, err := b.broker(engine)
	if err != nil {
		return bench.Variant{}, err
	}
	v := bench.Variant{Name: name, Dial: broker.Attested(""), ProcessorTime: broker.ProcessorTime}
	switch transport {
	case "plain":
		v.Dial = broker.Plain()
	case "tls":
		v.Dial = broker.TLS("")
	}
	return v, nil
}

// mosquitto starts Mosquitto, or returns the one that runs already.
func (b *benchBrokers) mosquitto() (*bench.Mosquitto, error) {
	if b.other != nil {
		return b.other, nil
	}
	m, err := startMosquitto(b.ctx, b.dir)
	if err != nil {
		return nil, err
	}
	b.other = m
	fmt.Fprintln(b.log, m.Version)
	return m, nil
}

// startMosquitto starts one with its files in a new folder below dir.
func startMosquitto(ctx context.Context, dir string) (*bench.Mosquitto, error) {
	dir, err := os.MkdirTemp(dir, "mosquitto-")
	if err != nil {
		return nil, err
	}
	return bench.StartMosquitto(ctx, dir)
}

// withoutMosquitto returns the ways without Mosquitto if it is not installed, and says so, unless it was asked for.
func withoutMosquitto(ways []string, asked bool, log io.Writer) []string {
	if asked || !slices.Contains(ways, bench.MosquittoTLS) || bench.HasMosquitto() == nil {
		return ways
	}
	fmt.Fprintf(log, "without Mosquitto: %v\n", bench.ErrNoMosquitto)
	return slices.DeleteFunc(slices.Clone(ways), func(way string) bool { return way == bench.MosquittoTLS })
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
