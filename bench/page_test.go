package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPageShowsWhatWasMeasured(t *testing.T) {
	paced := PacedReport{
		Case: "rate", Title: "<One> publisher", Axis: "messages per second", Rounds: 2,
		Rows: []PacedRow{
			{X: 200, Variant: WasmAttested, Latency: Latency{
				Expected: 2000, Delivered: 2000, P50: Micros(time.Millisecond), P99: Micros(2 * time.Millisecond), Curve: make([]Micros, len(CurvePercents)),
			}},
			{X: 20_000, Variant: WasmAttested, Latency: Latency{Expected: 100, Delivered: 100, P50: 5000, P99: Micros(3 * time.Millisecond)}},
			{X: 20_000, Variant: MosquittoTLS, Latency: Latency{Expected: 100, Delivered: 94, P50: Micros(77 * time.Second)}},
			{X: 50_000, Variant: MosquittoTLS, Failed: 2, Error: "connection <lost>"},
		},
		Ratios: []PacedRatio{{X: 200, Of: WasmAttested, To: MosquittoTLS, Spread: Spread{1.05, 1, 1.2}}},
	}
	e := Evaluation{
		Program: "vouchmq 1", Command: "vouchmq bench <script>", Machine: ThisMachine(), Paced: []PacedReport{paced},
		Throughput: Reports{{QoS: 1, Payload: 1024, Rows: []Row{{Shape: "p2p", Variant: NativeTLS, Median: 1e6}}}, {QoS: 1, Payload: 64, Rows: []Row{{Shape: "p2p", Variant: NativeTLS, Median: 2e6, Least: 1e6, Most: 3e6}},
			Ratios: []Ratio{{Shape: "p2p", Of: NativeTLS, To: WasmAttested, Spread: Spread{Value: 2}, Limit: 1.25}}}},
		Match: &MatchReport{Rows: []MatchRow{{Broker: "wasm", Filters: 1000, Known: Spread{1, 1, 1}, Fresh: Spread{30, 20, 40}, Subscribe: Spread{1, 1, 1}}}},
		Scale: &ScaleReport{Steps: &StepsReport{Sessions: 100_000, Subscriptions: 1_000_000, Phases: []StepPhase{
			{Name: "sessions <come>", LongestStep: LongestStep{Used: 12 * time.Millisecond}},
		}}},
		Connect: &ConnectReport{
			Rows: []ConnectRow{
				{ConnectSetting: ConnectSetting{Way: TLS, Rate: 10}, ConnectTimes: ConnectTimes{Due: 2, Made: 2, P50: Micros(3 * time.Millisecond)}},
				{ConnectSetting: ConnectSetting{Way: Attested, Device: FastDevice}, ConnectTimes: ConnectTimes{Due: 3, Error: "refused <by> the broker"}},
			},
			Comparisons: []ConnectComparison{{
				Of: ConnectSetting{Way: Attested, Device: FastDevice, RoundTrip: Micros(barRoundTrip), Rate: 10}, To: TLS, Later: Micros(6 * time.Millisecond),
			}},
		},
		Connections: &ConnectionsReport{
			Rows: []ConnectionsRow{{Way: Attested, Connections: 10_000, Each: 39 << 10, Pinging: 3}}, LeftOut: []string{"<too> many"},
		},
	}
	var page strings.Builder
	if err := e.WritePage(&page); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{
		"QoS 1, point to point, closed loop", "Percentiles at 200 messages/s", ">99.9<", "1.05 (1.00 to 1.20)", "2 rounds of 0s", "fresh topic", "30 (20 to 40)", "sessions &lt;come&gt;", "12ms",
		"longest step, 100,000 sessions, 1,000,000 subscriptions", "not measured",
		"vouchmq bench &lt;script&gt;", "&lt;One&gt; publisher", "connection &lt;lost&gt;", "2,000,000",
		"refused &lt;by&gt; the broker", "&lt;too&gt; many",
		"native-tls / wasm-attested, QoS 1, 64 bytes, p2p", "at most 1.25",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if strings.Contains(text, "http://") || strings.Contains(text, "https://") || strings.Contains(text, "src=") {
		t.Error("the page needs something from elsewhere")
	}
	if strings.Contains(text, "%!") {
		t.Error("the page has a format without its values")
	}
	if strings.Contains(text, ">99.95<") {
		t.Error("a percentile of a thousand messages a round that only one of two thousand is beyond")
	}
	var verdicts []bool
	for _, b := range e.Bars() {
		verdicts = append(verdicts, b.Met())
	}
	if !slices.Equal(verdicts, []bool{false, true, false, false, false, true}) {
		t.Errorf("%+v", e.Bars())
	}
}

// drawing checks that a plot is well-formed, and returns the names of its elements.
func drawing(t *testing.T, text string) (elements []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements = append(elements, e.Name.Local)
		}
	}
}

func count(list []string, of string) (n int) {
	for _, s := range list {
		if s == of {
			n++
		}
	}
	return n
}

func TestPlots(t *testing.T) {
	lines := linePlot{xLabel: "a < b", yLabel: "c & d", lines: []plotLine{
		{name: "<one>", points: []plotPoint{{x: 1, y: 10}, {x: 10, y: 100, low: 50, high: 200}}},
		{name: "two", dashed: true, points: []plotPoint{{x: 100, y: 0}}},
	}}
	if got := drawing(t, string(lines.SVG())); count(got, "circle") != 3 || count(got, "polyline") != 2 {
		t.Errorf("%v", got)
	}
	if text := string(lines.SVG()); !strings.Contains(text, `<line x1="375.0" y1="53.7" x2="375.0" y2="36.3" opacity`) || strings.Contains(text, "%!") {
		t.Errorf("no line from 50 to 200 at 10: %s", text)
	}
	bars := barPlot{yLabel: "rate", names: []string{"a", "<b>"}, groups: []barGroup{{"g", []plotPoint{{y: 1}, {y: 2, low: 1, high: 3}}}}}
	if got := drawing(t, string(bars.SVG())); count(got, "rect") != 2 {
		t.Errorf("%v", got)
	}
	for _, empty := range []string{string(linePlot{}.SVG()), string(barPlot{}.SVG())} {
		if drawing(t, empty); !strings.Contains(empty, "nothing was measured") {
			t.Errorf("%s", empty)
		}
	}
}

// What a bar plot has no value of is something else than 0, and what is written above narrow bars must not lie on its neighbour.
func TestBarsThatAreMissingOrNarrow(t *testing.T) {
	p := barPlot{names: []string{"a", "b"}, groups: []barGroup{{"g", []plotPoint{{y: 12.34}, unmeasured}}}}
	if got := drawing(t, string(p.SVG())); count(got, "rect") != 1 || p.most() != 12.34 || p.upright() {
		t.Errorf("%v, at most %v, upright %v", got, p.most(), p.upright())
	}
	p.names, p.groups = slices.Repeat([]string{"a"}, 7), slices.Repeat(p.groups, 3)
	if !p.upright() || !strings.Contains(string(p.SVG()), `rotate(-90)" text-anchor="start" class="value">12.3<`) {
		t.Error("what is written above 21 bars lies down")
	}
}

func TestFewPowersOfTenAreDivided(t *testing.T) {
	for most, want := range map[float64]bool{20: true, 2000: false} {
		p := linePlot{lines: []plotLine{{points: []plotPoint{{x: 1, y: 1}, {x: 2, y: most}}}}}
		if got := strings.Contains(string(p.SVG()), ">5<"); got != want {
			t.Errorf("up to %v: a line at 5 is %v", most, got)
		}
	}
}

func TestShortNumbers(t *testing.T) {
	for f, want := range map[float64]string{1060: "1,060", 0.1234: "0.123", -19.04: "-19", -123456: "-123,456", 23.25: "23.2", 999: "999"} {
		if got := short(f); got != want {
			t.Errorf("%v is written %s, want %s", f, got, want)
		}
	}
	if got := thousands(-123); got != "-123" {
		t.Error(got)
	}
}

// A way to connect has the same color in all plots of new connections.
func TestWaysKeepTheirColor(t *testing.T) {
	r := ConnectReport{}
	for _, way := range ConnectWays {
		row := ConnectRow{ConnectSetting: ConnectSetting{Way: way}, ConnectTimes: ConnectTimes{Made: 1, PerSecond: 1}}
		if attests(way) {
			row.Device = FastDevice
		}
		r.Rows = append(r.Rows, row)
	}
	all, secure := r.roundTripPlot(), r.saturatedPlot()
	for i, way := range secure.names {
		if at := slices.Index(all.names, way); all.color(at) != secure.color(i) {
			t.Errorf("%s has the colors %d and %d", way, all.color(at), secure.color(i))
		}
	}
}

func TestColorsOfPlotsDiffer(t *testing.T) {
	for _, names := range [][]string{slices.Concat(ConnectWays, BesideWays, []string{"emqx"}), slices.Concat(ConnectWays[1:], BesideWays), {NativeTLS, WasmAttested, MosquittoTLS, "emqx", "nano"}, {"plain", "tls", "attested"}, append(slices.Clone(variantColors), "emqx")} {
		seen := map[int]string{}
		for i, name := range names {
			color := colorOf(name, names[:i]) % len(plotColors)
			if other, taken := seen[color]; taken {
				t.Errorf("%s and %s have the same color", other, name)
			}
			seen[color] = name
		}
	}
}

func TestPlotScale(t *testing.T) {
	log := plotScale{least: 1, most: 100, from: 0, to: 10, log: true}
	for v, want := range map[float64]float64{1: 0, 10: 5, 100: 10, 0: 0} {
		if got := log.at(v); got != want {
			t.Errorf("%v is at %v, want %v", v, got, want)
		}
	}
	for v, want := range map[float64]string{25: "25", 1500: "1.5k", 20_000: "20k", 3e6: "3M", 0.5: "0.5"} {
		if got := axisNumber(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
	if niceStep(9) != 2 || niceStep(19e6) != 5e6 || niceStep(5) != 1 {
		t.Error(niceStep(9), niceStep(19e6), niceStep(5))
	}
}

func TestBarsAreMetAtTheirLimit(t *testing.T) {
	for _, c := range []struct {
		Bar
		met bool
	}{
		{Bar{Value: 1.1, Limit: 1.1}, true}, {Bar{Value: 1.11, Limit: 1.1}, false},
		{Bar{Value: 10, Limit: 10, AtLeast: true}, true}, {Bar{Value: 9.9, Limit: 10, AtLeast: true}, false},
	} {
		if c.Met() != c.met {
			t.Errorf("%v: %v", c.Bar, c.Met())
		}
	}
}
