package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// mosquitto starts a Mosquitto, or skips the test where there is none; with CI=true that is a failure.
func mosquitto(t *testing.T) *Mosquitto {
	t.Helper()
	m, err := StartMosquitto(t.Context(), t.TempDir())
	if errors.Is(err, ErrNoMosquitto) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMeasureCountsEachDelivery(t *testing.T) {
	m := mosquitto(t)
	p2p, fanIn, fanOut := Shapes[0], Shapes[1], Shapes[2]
	for _, c := range []struct {
		shape Shape
		qos   byte
	}{{p2p, 0}, {p2p, 1}, {p2p, 2}, {fanIn, 1}, {fanOut, 2}} {
		t.Run(fmt.Sprintf("%s QoS %d", c.shape.Name, c.qos), func(t *testing.T) {
			l := Load{Shape: c.shape, QoS: c.qos, Payload: 64, Window: 50 * time.Millisecond}
			r, err := Measure(t.Context(), m.TLS, l)
			if err != nil {
				t.Fatal(err)
			}
			if r.Sent == 0 || r.Delivered != r.Expected || r.Expected != r.Sent*uint64(c.shape.fan) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestMeasureFailsWhenTheBrokerEnds(t *testing.T) {
	m, err := StartMosquitto(t.Context(), t.TempDir())
	if errors.Is(err, ErrNoMosquitto) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { m.Signal(os.Kill) }) // within the window, wherever
	l := Load{Shape: Shapes[0], Payload: 64, Window: time.Minute}
	if _, err := Measure(t.Context(), m.Plain, l); err == nil {
		t.Error("no error")
	}
	if err := m.Stop(); err == nil {
		t.Error("Stop says nothing of a process that was killed")
	}
}

// TestFramesCountInPieces cuts one stream of packets at random places and counts in the pieces.
func TestFramesCountInPieces(t *testing.T) {
	seed := [32]byte{}
	rand.Read(seed[:])
	t.Logf("seed %x", seed)
	random := mathrand.New(mathrand.NewChaCha8(seed))
	var stream []byte
	want := 0
	for range 200 {
		switch random.IntN(4) {
		case 0:
			stream = mqtt.AppendPingresp(stream)
		case 1:
			stream = appendAck(stream, mqtt.PUBREL, 7)
		default:
			stream = appendPublish(stream, "t", byte(random.IntN(3)), 1, make([]byte, random.IntN(40000)))
			want++
		}
	}
	var f frames
	got := 0
	for len(stream) > 0 {
		n := min(len(stream), 1+random.IntN(5))
		if random.IntN(2) == 0 {
			n = min(len(stream), 1+random.IntN(50000))
		}
		publishes, err := f.count(stream[:n])
		if err != nil {
			t.Fatal(err)
		}
		got += publishes
		stream = stream[n:]
	}
	if got != want {
		t.Errorf("counted %d of %d", got, want)
	}
}

func TestFramesSeeTheEnd(t *testing.T) {
	for name, stream := range map[string][]byte{
		"DISCONNECT":        mqtt.AppendDisconnect(nil, version, mqtt.ServerShuttingDown, nil),
		"length of 5 bytes": {0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		var f frames
		if _, err := f.count(stream); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMoreDeliveriesThanMessagesIsAnError(t *testing.T) {
	for delivered, fails := range map[uint64]bool{9: false, 10: false, 11: true} {
		if err := (Result{Expected: 10, Delivered: delivered}).check(); (err != nil) != fails {
			t.Errorf("%d of 10: %v", delivered, err)
		}
	}
}

// What happened within a window is a difference, by the time that it took.
func TestAccounts(t *testing.T) {
	at := time.Now()
	before := account{at, 100, time.Second, 5 * time.Second}
	after := account{at.Add(2 * time.Second), 1100, 2 * time.Second, 8 * time.Second}
	if r, want := after.since(before), (Result{Rate: 500, Cost: 1e6, Processors: Processors{0.5, 1.5}}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
}

func TestPublishChunkIsOneRecord(t *testing.T) {
	all := publishChunks([]string{"bench/p2p/0"}, 64)
	if c := all[0]; len(all) != 1 || len(c.bytes) > chunkSize || len(c.bytes) < chunkSize-100 || c.packets < 150 {
		t.Errorf("%d chunks, the first with %d packets in %d bytes", len(all), c.packets, len(c.bytes))
	}
	if all := publishChunks([]string{"t"}, 1<<20); len(all) != 1 || all[0].packets != 1 {
		t.Errorf("%d chunks of packets that are larger than a chunk", len(all))
	}
}

func TestPublishChunksGoThroughAllTopics(t *testing.T) {
	var topics []string
	for i := range 1000 {
		topics = append(topics, fmt.Sprint("t/", i))
	}
	packets := 0
	for _, c := range publishChunks(topics, 64) {
		packets += c.packets
	}
	if packets != len(topics) {
		t.Errorf("%d packets for %d topics", packets, len(topics))
	}
}

func TestSequence(t *testing.T) {
	for name, c := range map[string]struct {
		numbers []uint64
		want    sequence
	}{
		"in order":     {[]uint64{0, 1, 2}, sequence{received: 3}},
		"lost":         {[]uint64{0, 2}, sequence{received: 2}},
		"lost at head": {[]uint64{1, 2}, sequence{received: 2}},
		"twice":        {[]uint64{0, 0, 1}, sequence{received: 2, duplicates: 1}},
		"out of order": {[]uint64{0, 2, 1, 3}, sequence{received: 4, disorder: 1}},
		"late twice":   {[]uint64{0, 2, 1, 1}, sequence{received: 3, disorder: 1, duplicates: 1}},
	} {
		var s sequence
		for _, n := range c.numbers {
			s.note(binary.BigEndian.AppendUint64(nil, n))
		}
		if s.received != c.want.received || s.duplicates != c.want.duplicates || s.disorder != c.want.disorder {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestStreamFailures(t *testing.T) {
	for name, c := range map[string]struct {
		report StreamReport
		fails  bool
	}{
		"good":                          {StreamReport{QoS: 1, Sent: 5, Received: 5}, false},
		"lost":                          {StreamReport{QoS: 1, Sent: 5, Received: 4}, true},
		"QoS 1 twice":                   {StreamReport{QoS: 1, Sent: 5, Received: 5, Duplicates: 1}, true},
		"QoS 1 twice after reconnect":   {StreamReport{QoS: 1, Sent: 5, Received: 5, Duplicates: 1, Reconnects: 1}, false},
		"QoS 2 twice after reconnect":   {StreamReport{QoS: 2, Sent: 5, Received: 5, Duplicates: 1, Reconnects: 1}, true},
		"out of order":                  {StreamReport{QoS: 2, Sent: 5, Received: 5, Disorder: 1}, true},
		"connection lost, nothing else": {StreamReport{QoS: 2, Sent: 5, Received: 5, Error: "EOF"}, true},
	} {
		if got := len(c.report.failures()) > 0; got != c.fails {
			t.Errorf("%s: %v", name, c.report.failures())
		}
	}
}

func TestGrowth(t *testing.T) {
	samples := func(at func(i int) float64) (all []RSSSample) {
		for i := range 100 {
			all = append(all, RSSSample{Seconds(time.Duration(i) * time.Second), uint64(at(i))})
		}
		return all
	}
	const mib = 1 << 20
	for name, c := range map[string]struct {
		at    func(i int) float64
		grows bool
	}{
		"flat":    {func(int) float64 { return 100 * mib }, false},
		"saw":     {func(i int) float64 { return (100 + 20*float64(i%10)/10) * mib }, false},
		"leak":    {func(i int) float64 { return (100 + 0.2*float64(i)) * mib }, true},
		"shrinks": {func(i int) float64 { return (200 - float64(i)) * mib }, false},
		"sawleak": {func(i int) float64 { return (100 + 20*float64(i%10)/10 + 0.2*float64(i)) * mib }, true},
		"backlog": {func(i int) float64 { return (100 + float64(i%10)*float64(i)) * mib }, false},
	} {
		got, bound := growth(floor(samples(c.at), 10*time.Second), DefaultMaxGrowth)
		if (got > bound) != c.grows || math.IsNaN(got) {
			t.Errorf("%s: grew %.0f, bound %.0f", name, got, bound)
		}
	}
	if got, bound := growth(nil, DefaultMaxGrowth); got > bound || math.IsNaN(got) {
		t.Error("no samples", got, bound)
	}
}

func TestMedian(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Error(m)
	}
}

func TestThroughputRatiosAreOfRounds(t *testing.T) {
	sample := func(variant string, round int, rate float64) Sample {
		return Sample{Shape: "p2p", Payload: 64, Variant: variant, Round: round, Result: Result{
			Rate: rate, Expected: 10, Delivered: 9, Processors: Processors{rate / 64, 1},
		}}
	}
	failed := sample(MosquittoTLS, 2, 0)
	failed.Error = "it is gone"
	p := Plan{
		Shapes: Shapes[:1], QoS: []byte{0}, Payloads: []int{64}, Rounds: 2,
		Variants: []Variant{{Name: WasmAttested}, {Name: NativeTLS}, {Name: MosquittoTLS}},
	}
	r := p.reports([]Sample{
		sample(WasmAttested, 1, 80), sample(NativeTLS, 1, 100), sample(MosquittoTLS, 1, 8),
		failed, sample(NativeTLS, 2, 60), sample(WasmAttested, 2, 40),
	})
	loss := Ratio{Shape: "p2p", Of: NativeTLS, To: WasmAttested, Spread: Spread{1.375, 1.25, 1.5}, Limit: 1.15}
	gain := Ratio{Shape: "p2p", Of: WasmAttested, To: MosquittoTLS, Spread: Spread{10, 10, 10}, Limit: 10, AtLeast: true}
	if len(r) != 1 || !slices.Equal(r[0].Ratios, []Ratio{loss, gain}) {
		t.Fatalf("%+v", r)
	}
	if got, want := r[0].Rows[0], (Row{Shape: "p2p", Variant: WasmAttested, Median: 60, Least: 40, Most: 80, Dropped: 2, Processors: Processors{0.9375, 1}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	var table, list strings.Builder
	if err := errors.Join(r.WriteTable(&table), r.WriteCSV(&list)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"native-tls / wasm-attested", "1.38", "at most 1.15: NOT reached", "at least 10: reached", "1 round failed: it is gone", "0.94"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in the table:\n%s", want, table.String())
		}
	}
	if strings.Count(list.String(), "\n") != 7 || !strings.Contains(list.String(), "0,64,p2p,wasm-attested,2,40.0,") {
		t.Error(list.String())
	}
}

// TestThroughputMeasuresAll goes through all that a plan names, and keeps an error of one broker for a result.
func TestThroughputMeasuresAll(t *testing.T) {
	m := mosquitto(t)
	bad := Variant{Name: "nobody", Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("nobody is there") }}
	measured := 0
	r, err := Throughput(t.Context(), Plan{
		Shapes: Shapes[:1], QoS: []byte{0, 1}, Payloads: []int{64, 256}, Variants: []Variant{{Name: MosquittoTLS, Dial: m.TLS, ProcessorTime: m.ProcessorTime}, bad}, Rounds: 1,
		Window: 30 * time.Millisecond, Progress: func(Sample) { measured++ },
	})
	if err != nil || len(r) != 4 || measured != 8 {
		t.Fatalf("%d reports, %d measurements, error %v", len(r), measured, err)
	}
	for _, report := range r {
		for _, s := range report.Samples {
			if failed := s.Variant == bad.Name; failed != (s.Error != "") || failed != (s.Delivered == 0) {
				t.Errorf("QoS %d, %d bytes: %+v", report.QoS, report.Payload, s)
			}
			if busy := s.Processors; s.Error == "" && (busy.Broker <= 0 || busy.Generator <= 0 || busy.Broker+busy.Generator > float64(runtime.NumCPU())+1) {
				t.Errorf("QoS %d, %d bytes: %+v", report.QoS, report.Payload, s)
			}
		}
		if row := report.Rows[1]; row.Failed != 1 || row.Error == "" {
			t.Errorf("QoS %d, %d bytes: %+v", report.QoS, report.Payload, row)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%v: %s", n, got)
		}
	}
}

// TestDelayProxyAddsTheRoundTrip sends a byte there and back, and a lot of them.
func TestDelayProxyAddsTheRoundTrip(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if _, werr := c.Write(b[:n]); err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	p, err := NewDelayProxy(echo.Addr().String(), 80*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		begun := time.Now()
		c.Write([]byte{1})
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 80*time.Millisecond {
			t.Errorf("there and back in %v", took)
		}
	}
}

func TestParseProcessorTime(t *testing.T) {
	d, err := parseProcessorTime("42 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0 9")
	if err != nil || d != 1750*time.Millisecond {
		t.Errorf("%v, error %v", d, err)
	}
	if _, err := parseProcessorTime("42 (a) S 1 2"); err == nil {
		t.Error("a stat that is cut short is accepted")
	}
}

// TestWhyItDied: of what a process has printed the end is kept, and why it died, however long the trace behind that is.
func TestWhyItDied(t *testing.T) {
	var log tail
	for i := range 2000 {
		fmt.Fprintf(&log, "level=INFO msg=\"line %d about a panic: none\"\n", i)
	}
	if said := log.String(); len(said) > tailSize || !strings.Contains(said, "line 1999") {
		t.Errorf("%d bytes are kept: %.100s", len(said), said)
	}
	for _, words := range []string{"SIGQUIT: ", "quit\n", "PC=0x4ccc01 m=0\n\n"} {
		fmt.Fprint(&log, words)
	}
	for i := range 2000 {
		fmt.Fprintf(&log, "goroutine %d [select]:\n", i)
	}
	if said := log.String(); !strings.HasPrefix(said, "SIGQUIT: quit\nPC=0x4ccc01") || !strings.HasSuffix(said, "goroutine 1999 [select]:\n") {
		t.Errorf("what is kept: %.100s", said)
	}
}

// TestStolenTime reads what the host of a virtual machine took.
func TestStolenTime(t *testing.T) {
	if d, err := parseStolen("cpu  10 20 30 40 50 60 70 284 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"); err != nil || d != 2840*time.Millisecond {
		t.Errorf("%v, error %v", d, err)
	}
	for _, stat := range []string{"", "cpu 1 2 3 4\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu 1 2 3 4 5 6 7 x\n"} {
		if _, err := parseStolen(stat); err == nil {
			t.Errorf("%q says what was stolen", stat)
		}
	}
}

// TestProcessorTimeIsExact lets this process work for less than the 10 ms in which /proc counts.
func TestProcessorTimeIsExact(t *testing.T) {
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < time.Millisecond; {
		runtime.Gosched()
	}
	after, err := processorTime(os.Getpid())
	if err != nil || after <= before || before%(10*time.Millisecond) == 0 && after%(10*time.Millisecond) == 0 {
		t.Errorf("from %v to %v, error %v", before, after, err)
	}
}

func TestParseRSS(t *testing.T) {
	if n, err := parseRSS("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"); err != nil || n != 1234<<10 {
		t.Error(n, err)
	}
	if _, err := parseRSS("Name:\tx\nState:\tZ (zombie)\n"); err == nil {
		t.Error("a process that has ended has memory")
	}
}

func TestStartProcessSaysWhatTheProcessSaid(t *testing.T) {
	p, err := StartProcess(nil, "sh", "-c", "echo no such option; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.WaitListening(context.Background(), "127.0.0.1:1")
	if err == nil || !strings.Contains(err.Error(), "no such option") {
		t.Error(err)
	}
}
