package bench

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

func TestPaceCountsEachDelivery(t *testing.T) {
	m := mosquitto(t)
	for _, pace := range []Pace{
		{Shape: paperShape(1, 1, false), PerSecond: 2000},
		{Shape: paperShape(3, 4, false), PerSecond: 200, QoS: 1},
		{Shape: paperShape(2, 5, true), PerSecond: 300, QoS: 2},
	} {
		t.Run(fmt.Sprintf("%d to %d, QoS %d", pace.Shape.Publishers, pace.Shape.Subscribers, pace.QoS), func(t *testing.T) {
			pace.Payload, pace.Warmup, pace.Window = 64, 20*time.Millisecond, 200*time.Millisecond
			l, err := MeasurePace(t.Context(), m.TLS, pace)
			if err != nil {
				t.Fatal(err)
			}
			want := uint64(float64(pace.Shape.Publishers*pace.Shape.fan) * pace.PerSecond * pace.Window.Seconds())
			if l.Expected != want || l.Delivered != want {
				t.Errorf("expected %d, delivered %d, want %d", l.Expected, l.Delivered, want)
			}
			if l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max || !l.Kept() {
				t.Errorf("%+v", l)
			}
		})
	}
}

// A window in which no message is due is no latency of 0.
func TestPaceWithoutMessages(t *testing.T) {
	m := mosquitto(t)
	pace := Pace{Shape: paperShape(1, 1, false), PerSecond: 1, Payload: 64, Warmup: 10 * time.Millisecond, Window: 10 * time.Millisecond}
	l, err := MeasurePace(t.Context(), m.Plain, pace)
	if err != nil || l.Expected != 0 || l.P50 != 0 || l.Max != 0 {
		t.Errorf("%+v, %v", l, err)
	}
	var table strings.Builder
	r := PacedReport{Rows: []PacedRow{{X: 1, Variant: MosquittoTLS, Latency: l}}}
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "no message was due") {
		t.Errorf("%v: %s", err, table.String())
	}
}

// stalling is a connection on which one Write takes long: the first after so many bytes.
type stalling struct {
	net.Conn
	after int
	stall time.Duration
}

func (c *stalling) Write(b []byte) (int, error) {
	if c.after > 0 && c.after <= len(b) {
		time.Sleep(c.stall)
	}
	c.after -= len(b)
	return c.Conn.Write(b)
}

// A publisher that cannot write for a while is late with all messages of that time, not only with the one that it was about
// to write.
func TestPaceChargesForWaitingMessages(t *testing.T) {
	m := mosquitto(t)
	const stall = 400 * time.Millisecond
	opened := 0
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := m.Plain(ctx)
		if opened++; opened == 2 && err == nil { // the subscriber comes first
			return &stalling{Conn: conn, after: 50 * 64, stall: stall}, nil // 50 messages, in however many writes
		}
		return conn, err
	}
	l, err := MeasurePace(t.Context(), dial, Pace{Shape: paperShape(1, 1, false), PerSecond: 500, Payload: 64, Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	// Of 500 messages some 200 fall into the stall, and a quarter of these, a tenth of all, waits for three quarters of it.
	if time.Duration(l.P90) < stall*2/3 {
		t.Errorf("90 %% took %v or less, although the publisher stood still for %v", time.Duration(l.P90), stall)
	}
	if l.Delivered != 500 {
		t.Errorf("%d of 500 delivered", l.Delivered)
	}
}

func TestPacedGoesOnWhenABrokerFails(t *testing.T) {
	m := mosquitto(t)
	good := Variant{Name: MosquittoTLS, Dial: m.TLS}
	bad := Variant{Name: NativeTLS, Dial: func(context.Context) (net.Conn, error) { return nil, fmt.Errorf("nobody is there") }}
	var order []string
	r, err := Paced(t.Context(), PacedPlan{
		Case: RateCase([]float64{100}, 64, 0), Variants: []Variant{bad, good}, Rounds: 2, Window: 50 * time.Millisecond,
		Progress: func(s PacedSample) { order = append(order, s.Variant) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "native-tls mosquitto-tls mosquitto-tls native-tls" {
		t.Errorf("measured in the order %s", got)
	}
	if r.Rows[0].Failed != 2 || !strings.Contains(r.Rows[0].Error, "nobody is there") || r.Rows[1].Failed != 0 {
		t.Errorf("%+v", r.Rows)
	}
	var table, csv strings.Builder
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "2 rounds failed: ") {
		t.Errorf("%v\n%s", err, table.String())
	}
	if err := (PacedReports{r}).WriteCSV(&csv); err != nil || strings.Count(csv.String(), "\n") != 5 {
		t.Errorf("%v\n%s", err, csv.String())
	}
}

// TestInterruptedMeasurementsAreKept interrupts in the second round. What was measured before is there.
func TestInterruptedMeasurementsAreKept(t *testing.T) {
	nobody := func(context.Context) (net.Conn, error) { return nil, fmt.Errorf("nobody is there") }
	variants := []Variant{{Name: NativeTLS, Dial: nobody}, {Name: WasmAttested, Dial: nobody}}
	stopped := fmt.Errorf("enough")
	interruptedAfter := func(most int) (context.Context, func()) {
		ctx, stop := context.WithCancelCause(t.Context())
		return ctx, func() {
			if most--; most == 0 {
				stop(stopped)
			}
		}
	}
	ctx, count := interruptedAfter(5)
	paced, err := Paced(ctx, PacedPlan{
		Case: RateCase([]float64{10, 20}, 64, 0), Variants: variants, Rounds: 9, Window: time.Millisecond, Progress: func(PacedSample) { count() },
	})
	if err != stopped || len(paced.Samples) != 5 || len(paced.Rows) != 4 || paced.Rounds != 2 {
		t.Errorf("%v, %+v", err, paced)
	}
	ctx, count = interruptedAfter(1)
	if paced, err = Paced(ctx, PacedPlan{
		Case: RateCase([]float64{10, 20}, 64, 0), Variants: variants, Rounds: 9, Window: time.Millisecond, Progress: func(PacedSample) { count() },
	}); err != stopped || len(paced.Rows) != 1 || paced.Rounds != 1 {
		t.Errorf("%v, %+v", err, paced)
	}
	ctx, count = interruptedAfter(3)
	reports, err := Throughput(ctx, Plan{
		Shapes: Shapes, QoS: []byte{0, 1}, Payloads: []int{64}, Variants: variants, Rounds: 9, Window: time.Millisecond, Progress: func(Sample) { count() },
	})
	if err != stopped || len(reports) != 1 || len(reports[0].Rows) != 3 || reports[0].Rounds != 1 {
		t.Errorf("%v, %+v", err, reports)
	}
}

func TestThroughputIsMeasuredInTurn(t *testing.T) {
	nobody := func(context.Context) (net.Conn, error) { return nil, fmt.Errorf("nobody is there") }
	var order []string
	if _, err := Throughput(t.Context(), Plan{
		Shapes: Shapes[:1], QoS: []byte{0}, Payloads: []int{64}, Variants: []Variant{{Name: "a", Dial: nobody}, {Name: "b", Dial: nobody}}, Rounds: 3, Window: time.Millisecond,
		Progress: func(s Sample) { order = append(order, s.Variant) },
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abbaab" {
		t.Errorf("measured in the order %s", got)
	}
}

func TestHighRateMustBeKept(t *testing.T) {
	row := PacedRow{X: highRate, Variant: WasmAttested, Latency: Latency{Expected: 100, Delivered: 100, P99: Micros(time.Millisecond)}}
	lossy, failed := row, row
	lossy.Delivered, failed.Failed = 94, 1
	for _, c := range []struct {
		PacedRow
		met bool
	}{{row, true}, {lossy, false}, {failed, false}} {
		bars := PacedReport{Rows: []PacedRow{c.PacedRow}}.highRateBars()
		if len(bars) != 1 || bars[0].Met() != c.met {
			t.Errorf("%+v: %v", c.PacedRow, bars)
		}
	}
}

func TestPacedRatioIsOfEachRound(t *testing.T) {
	r := PacedReport{Samples: []PacedSample{
		{X: 1, Variant: WasmAttested, Latency: Latency{P99: 100}}, {X: 1, Variant: MosquittoTLS, Latency: Latency{P99: 200}},
		{X: 1, Variant: WasmAttested, Latency: Latency{P99: 30}}, {X: 1, Variant: MosquittoTLS, Latency: Latency{P99: 10}},
		{X: 1, Variant: WasmAttested, Latency: Latency{P99: 30}}, {X: 1, Variant: MosquittoTLS, Error: "gone"},
	}}
	if got, ok := r.ratio(1, WasmAttested, MosquittoTLS); !ok || got.Spread != (Spread{1.75, 0.5, 3}) {
		t.Errorf("%+v %v", got, ok)
	}
	if _, ok := r.ratio(2, WasmAttested, MosquittoTLS); ok {
		t.Error("a ratio of what was not measured")
	}
}
