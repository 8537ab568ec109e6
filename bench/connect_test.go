package bench

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
)

// smallBroker lets everybody in and answers pings. It counts who came.
type smallBroker struct {
	listener net.Listener
	mu       sync.Mutex
	ids      []string
	from     []string // addresses
	refuse   bool
}

func startSmallBroker(t *testing.T) *smallBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &smallBroker{listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return b
}

func (b *smallBroker) addr() string { return b.listener.Addr().String() }

func (b *smallBroker) serve(conn net.Conn) {
	defer conn.Close()
	buf := bufio.NewReader(conn)
	for {
		frame, err := readFrame(buf, nil)
		if err != nil {
			return
		}
		switch mqtt.TypeOf(frame) {
		case mqtt.CONNECT:
			conn.Write(b.connack(frame, conn))
		case mqtt.PINGREQ:
			conn.Write(mqtt.AppendPingresp(nil))
		default:
			return
		}
	}
}

func (b *smallBroker) connack(frame []byte, conn net.Conn) []byte {
	var c mqtt.Connect
	if fault := mqtt.ParseConnect(frame, &c); fault != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = append(b.ids, string(c.ClientID))
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	b.from = append(b.from, host)
	if b.refuse {
		return mqtt.AppendConnack(nil, version, &mqtt.Connack{Reason: mqtt.ServerBusy})
	}
	return mqtt.AppendConnack(nil, version, &mqtt.Connack{})
}

// Clients of the open loop come at their times, each once and as somebody else, and at a low rate more of them than the window has.
func TestOpenLoopOfConnections(t *testing.T) {
	b := startSmallBroker(t)
	r, err := MeasureConnects(t.Context(), DialTCP(b.addr()), ConnectPace{Rate: 100, Window: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Due != 20 || r.Made != 20 || r.P50 <= 0 || r.P99 < r.P50 || r.Max < r.P99 || r.PerSecond < 99 || r.PerSecond > 101 {
		t.Errorf("%+v", r)
	}
	slices.Sort(b.ids)
	if len(slices.Compact(b.ids)) != 21 { // and one before
		t.Errorf("%d clients came: %v", len(b.ids), b.ids)
	}
	r, err = MeasureConnects(t.Context(), DialTCP(b.addr()), ConnectPace{Rate: 50, Window: time.Millisecond})
	if err != nil || r.Due != leastConnects {
		t.Errorf("%+v, %v", r, err)
	}
}

// What a client waits counts from when it was due, also if those before it hold it up.
func TestConnectionsAreLateFromTheirTime(t *testing.T) {
	b := startSmallBroker(t)
	const hold = 50 * time.Millisecond
	var one sync.Mutex
	slow := func(ctx context.Context) (net.Conn, error) {
		one.Lock()
		defer one.Unlock()
		time.Sleep(hold)
		return DialTCP(b.addr())(ctx)
	}
	r, err := MeasureConnects(t.Context(), slow, ConnectPace{Rate: 1000, Window: 4 * time.Millisecond})
	if err != nil || r.Made != 4 || time.Duration(r.Max) < 4*hold-10*time.Millisecond {
		t.Errorf("%+v, %v: the fourth client has waited for three others", r, err)
	}
}

func TestClosedLoopOfConnections(t *testing.T) {
	b := startSmallBroker(t)
	r, err := MeasureConnects(t.Context(), DialTCP(b.addr()), ConnectPace{Clients: 3, Warmup: 10 * time.Millisecond, Window: 300 * time.Millisecond})
	if err != nil || r.Made < 3 || r.Made != r.Due || r.PerSecond <= 0 || uint64(len(b.ids)) < r.Made {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRefusedConnectionsAreAResult(t *testing.T) {
	b := startSmallBroker(t)
	b.refuse = true
	r, err := MeasureConnects(t.Context(), DialTCP(b.addr()), ConnectPace{Rate: 100, Window: 50 * time.Millisecond})
	if err != nil || r.Due != 5 || r.Made != 0 || !strings.Contains(r.Error, "refused the connection") {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureConnects(ctx, DialTCP(b.addr()), ConnectPace{Rate: 1, Window: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestConnectSettings(t *testing.T) {
	slow, tpm := Device{TEE: "sim", QuoteTime: Micros(5 * time.Millisecond)}, Device{TEE: "tpm"}
	all := ConnectChoice{
		Parts: ConnectParts, Ways: ConnectWays, Devices: []Device{FastDevice, slow, tpm}, Rates: []float64{1, 10}, At: 10,
		RoundTrips: []time.Duration{0, time.Second},
	}
	settings := all.Settings()
	// At each rate 4 ways with a fast device and 2 with each of the others, once more 4 over the slow network, and saturated as at a rate.
	if len(settings) != 2*(4+2*2)+4+8 {
		t.Errorf("%d settings", len(settings))
	}
	for i, s := range settings {
		if slices.Contains(settings[:i], s) {
			t.Errorf("twice: %v", s)
		}
		if (s.Device == Device{}) == attests(s.Way) {
			t.Errorf("evidence or no device: %v", s)
		}
	}
	for part, want := range map[string]int{"rate": 8, "round-trip": 8, "quote": 12, "saturated": 8} {
		one := all
		one.Parts = []string{part}
		if got := one.Settings(); len(got) != want {
			t.Errorf("%s: %d settings: %v", part, len(got), got)
		}
	}
}

// What VouchMQ is compared with comes at the same rates, with the first device only, and attested connections are compared with it.
func TestConnectsBeside(t *testing.T) {
	b := startSmallBroker(t)
	slow := Device{TEE: "sim", QuoteTime: Micros(5 * time.Millisecond)}
	choice := ConnectChoice{
		Parts: []string{"saturated"}, Ways: []string{TLS, Attested, NativeAttested, MosquittoTLS, "emqx"}, Devices: []Device{FastDevice, slow},
		Rates: []float64{100}, At: 100, RoundTrips: []time.Duration{0, time.Millisecond},
	}
	if got := choice.Settings(); len(got) != 6 { // attested with each device, the others once
		t.Errorf("saturated: %v", got)
	}
	choice.Parts = []string{"rate", "round-trip", "quote"}
	r, err := Connects(t.Context(), ConnectPlan{
		Settings: choice.Settings(), Rounds: 1, Clients: 1, Window: time.Millisecond,
		Dial: func(context.Context, ConnectSetting) (Dialer, error) { return DialTCP(b.addr()), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for _, row := range r.Rows {
		of[row.Way]++
	}
	// Each at a rate, and over the slow network; attested at a rate once more with the slow device.
	if of[TLS] != 2 || of[NativeAttested] != 2 || of[MosquittoTLS] != 2 || of["emqx"] != 2 || of[Attested] != 3 {
		t.Errorf("%v", of)
	}
	with := map[string]int{}
	for _, c := range r.Comparisons {
		with[c.Of.Way+" "+c.To]++
	}
	// The natively attested one has the fast device alone.
	if with["attested tls"] != 3 || with["attested native-attested"] != 2 || with["attested mosquitto-tls"] != 3 || with["attested emqx"] != 3 || len(with) != 4 {
		t.Errorf("%v", with)
	}
	for _, p := range []string{string(r.ratePlot().SVG()), string(r.roundTripPlot().SVG())} {
		if drawing(t, p); !strings.Contains(p, MosquittoTLS) || !strings.Contains(p, "emqx") {
			t.Errorf("a plot without the others: %s", p)
		}
	}
}

// The bar is about ordinary TLS of the same broker, whatever else attested connections are compared with.
func TestLaterIsThanTLS(t *testing.T) {
	s := ConnectSetting{Way: Attested, Device: FastDevice, Rate: 10, RoundTrip: Micros(barRoundTrip)}
	r := ConnectReport{Comparisons: []ConnectComparison{{Of: s, To: TLS, Later: 1}, {Of: s, To: MosquittoTLS, Later: 2}}}
	if later, ok := r.Later(barRoundTrip); !ok || later != 1 {
		t.Error(later, ok)
	}
}

// How much later CONNACK comes is the median of what it was in each round, where both got in.
func TestConnectComparisons(t *testing.T) {
	const ms = Micros(time.Millisecond)
	tls := ConnectSetting{Way: TLS, RoundTrip: Micros(barRoundTrip), Rate: 10}
	attested := tls
	attested.Way, attested.Device = Attested, FastDevice
	var r ConnectReport
	for _, p50 := range [][2]Micros{{240 * ms, 246 * ms}, {500 * ms, 504 * ms}, {240 * ms, 300 * ms}, {240 * ms, 0}} {
		r.Samples = append(r.Samples, ConnectSample{ConnectSetting: tls, ConnectTimes: ConnectTimes{Due: 1, Made: 1, P50: p50[0], PerSecond: 10}})
		late := ConnectSample{ConnectSetting: attested, ConnectTimes: ConnectTimes{Due: 1, P50: p50[1], PerSecond: 5}}
		if p50[1] > 0 {
			late.Made = 1
		}
		r.Samples = append(r.Samples, late)
	}
	r.summarize([]ConnectSetting{tls, attested})
	want := ConnectComparison{Of: attested, To: TLS, Later: 6 * ms, Ratio: Spread{246.0 / 240, 504.0 / 500, 300.0 / 240}, RateRatio: Spread{0.5, 0.5, 0.5}, Least: 4 * ms, Most: 60 * ms}
	if len(r.Comparisons) != 1 || r.Comparisons[0] != want {
		t.Errorf("%+v", r.Comparisons)
	}
	if row := r.Rows[1]; row.P50 != 300*ms || row.LeastP50 != 246*ms || row.MostP50 != 504*ms || row.Due != 4 || row.Made != 3 {
		t.Errorf("%+v", row)
	}
	if bars := r.bars(); len(bars) != 1 || bars[0].Value != 6 || bars[0].Met() {
		t.Errorf("%+v", bars)
	}
	if _, ok := r.Later(0); ok {
		t.Error("a round trip that was not measured is judged")
	}
}

// TestConnectsMeasuresAll plays two rounds with all ways to connect, of which one is shut.
func TestConnectsMeasuresAll(t *testing.T) {
	b := startSmallBroker(t)
	choice := ConnectChoice{
		Parts: []string{"round-trip"}, Ways: ConnectWays, Devices: []Device{FastDevice}, Rates: []float64{100}, At: 100,
		RoundTrips: []time.Duration{0, barRoundTrip},
	}
	var order []string
	r, err := Connects(t.Context(), ConnectPlan{
		Settings: choice.Settings(), Rounds: 2, Window: time.Millisecond,
		Dial: func(_ context.Context, s ConnectSetting) (Dialer, error) {
			if s.Way == Mutual {
				return func(context.Context) (net.Conn, error) { return nil, errors.New("no mutual today") }, nil
			}
			return DialTCP(b.addr()), nil
		},
		Progress: func(s ConnectSample) { order = append(order, s.Way) },
	})
	if err != nil {
		t.Fatal(err)
	}
	backwards := slices.Clone(order[8:])
	slices.Reverse(backwards)
	if len(order) != 16 || !slices.Equal(order[:8], backwards) {
		t.Errorf("order %v", order)
	}
	if len(r.Rows) != 8 || r.Rows[3].Way != Mutual || r.Rows[3].Made != 0 || r.Rows[3].Error != "no mutual today" || r.Rows[0].Made != 2*leastConnects {
		t.Errorf("%+v", r.Rows)
	}
	if len(r.Comparisons) != 4 || r.Comparisons[1].Of.Way != Attested || r.Comparisons[1].To != TLS {
		t.Errorf("%+v", r.Comparisons)
	}
	writesAll(t, r, 17, "no mutual today", "attested", "sim 0s")
	for _, p := range []string{
		string(r.ratePlot().SVG()), string(r.roundTripPlot().SVG()), string(r.quotePlot().SVG()), string(r.saturatedPlot().SVG()),
	} {
		drawing(t, p)
	}
}

// writesAll checks a report's table, and how many lines its CSV has.
func writesAll(t *testing.T, r interface {
	WriteTable(io.Writer) error
	WriteCSV(io.Writer) error
}, lines int, words ...string) {
	t.Helper()
	var table, list strings.Builder
	if err := errors.Join(r.WriteTable(&table), r.WriteCSV(&list)); err != nil {
		t.Error(err)
	}
	for _, w := range words {
		if !strings.Contains(table.String(), w) {
			t.Errorf("%q is not in the table:\n%s", w, table.String())
		}
	}
	if got := strings.Count(list.String(), "\n"); got != lines {
		t.Errorf("%d lines of CSV, want %d:\n%s", got, lines, list.String())
	}
}

func TestDelayProxyDelaysOpening(t *testing.T) {
	const roundTrip = 30 * time.Millisecond
	b := startSmallBroker(t)
	p, err := NewDelayProxy(b.addr(), roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := MeasureConnects(t.Context(), NetDial(p.Dial).TCP(b.addr()), ConnectPace{Rate: 100, Window: time.Millisecond})
	if err != nil || time.Duration(r.P50) < 2*roundTrip {
		t.Errorf("%+v, %v: opening and CONNECT take a round trip each", r, err)
	}
}

// TestConnackTakesThreeFlights connects to Mosquitto over a slow network: opening, TLS and CONNECT take a round trip each. Where Mosquitto
// leaves Nagle's algorithm on, as it does unless it is told otherwise, CONNACK waits some 40 ms for the acknowledgement of the session
// tickets before it.
func TestConnackTakesThreeFlights(t *testing.T) {
	const roundTrip = 30 * time.Millisecond
	m := mosquitto(t)
	p, err := NewDelayProxy(m.Address, roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	best := time.Hour
	for range 3 { // on a machine with other work
		r, err := MeasureConnects(t.Context(), m.TLSOver(p.Dial), ConnectPace{Rate: 100, Window: time.Millisecond})
		if err != nil || r.Made != leastConnects {
			t.Fatalf("%+v, %v", r, err)
		}
		best = min(best, time.Duration(r.P50))
	}
	if best < 3*roundTrip || best >= 4*roundTrip {
		t.Errorf("CONNACK after %v, with a round trip of %v", best, roundTrip)
	}
}
