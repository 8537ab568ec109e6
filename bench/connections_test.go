package bench

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestConnections adds connections to a broker whose memory and processor time are what the test says.
func TestConnections(t *testing.T) {
	b := startSmallBroker(t)
	started, stopped := 0, 0
	used := time.Duration(0)
	r, err := Connections(t.Context(), ConnectionsPlan{
		Ways: []string{Plain, TLS}, Counts: []int{10, 30}, Rounds: 2, Window: 50 * time.Millisecond, KeepAlive: 100 * time.Millisecond,
		Start: func(context.Context, string) (ScaleBroker, error) {
			started++
			before := len(b.came())
			return ScaleBroker{
				Plain: DialTCP(b.addr()), TLS: DialTCP(b.addr()), Stop: func() { stopped++ },
				RSS: func() (uint64, error) { return 1<<20 + uint64(len(b.came())-before)*1024, nil },
				ProcessorTime: func() (time.Duration, error) {
					used += 10 * time.Millisecond
					return used, nil
				},
			}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if started != 4 || stopped != 4 || len(r.Samples) != 8 || len(r.Rows) != 4 {
		t.Errorf("%d brokers, %d stopped, %d samples, %d rows", started, stopped, len(r.Samples), len(r.Rows))
	}
	if got := len(b.came()); got != 4*30 {
		t.Errorf("%d clients came, and 30 to each broker are enough", got)
	}
	if got := strings.Join(each(r.Samples, func(s ConnectionsSample) string { return s.Way }), " "); got != "plain plain tls tls tls tls plain plain" {
		t.Errorf("measured in the order %s", got)
	}
	for _, row := range r.Rows {
		if row.Added != 1024 || row.ToTLS != 1 || row.Each != 1024+float64(1<<20)/float64(row.Connections) || row.Silent <= 0 {
			t.Errorf("%+v", row)
		}
	}
	if s := r.Samples[1]; s.Connections != 30 || s.Pings != 16 { // half of them in half the time, and one at its begin
		t.Errorf("%+v", s)
	}
	r.LeftOut = []string{"50,000 are too many"}
	writesAll(t, r, 9, "plain", "50,000 are too many")
	drawing(t, string(r.memoryPlot().SVG()))
	drawing(t, string(r.processorPlot().SVG()))
}

// Other brokers are reached by TLS, and shown beside VouchMQ.
func TestConnectionsBeside(t *testing.T) {
	b := startSmallBroker(t)
	var started []string
	r, err := Connections(t.Context(), ConnectionsPlan{
		Ways: []string{Attested, NativeAttested, MosquittoTLS, "emqx"}, Counts: []int{2}, Rounds: 1, Window: time.Millisecond, KeepAlive: time.Second,
		Start: func(_ context.Context, way string) (ScaleBroker, error) {
			started = append(started, way)
			s := ScaleBroker{
				TLS: DialTCP(b.addr()), Stop: func() {}, RSS: func() (uint64, error) { return 1 << 20, nil },
				ProcessorTime: func() (time.Duration, error) { return 0, nil },
			}
			if strings.HasSuffix(way, Attested) {
				s.Attested, s.TLS = s.TLS, nil
			}
			return s, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(started, r.ways()) || len(r.Rows) != 4 {
		t.Errorf("started %v, measured %v", started, r.ways())
	}
	if p := string(r.memoryPlot().SVG()); !strings.Contains(p, MosquittoTLS) || !strings.Contains(p, "emqx") {
		t.Errorf("a plot without the others: %s", p)
	}
}

func TestManySources(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems have to be told of other addresses of their own")
	}
	b := startSmallBroker(t)
	conns, err := openMany(t.Context(), manySources(2).TCP(b.addr()), 5)
	defer closeMany(conns)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(b.from)
	if want := []string{"127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.3"}; !slices.Equal(b.from, want) {
		t.Errorf("connections from %v, want %v", b.from, want)
	}
}

func (b *smallBroker) came() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}

func TestIdleAttestedBar(t *testing.T) {
	row := ConnectionsRow{Way: Attested, Connections: barConnections, Each: MostIdleBytes + 1, LeastEach: 39 << 10, MostEach: 42 << 10}
	r := ConnectionsReport{Rows: []ConnectionsRow{{Way: Attested, Connections: 1000, Each: 1 << 20}, row}}
	if bars := r.bars(); len(bars) != 1 || bars[0].Met() || bars[0].Spread != "39 to 42" {
		t.Errorf("%+v", bars)
	}
	r.Rows = r.Rows[:1]
	if _, ok := r.IdleAttested(); ok || r.bars() != nil {
		t.Error("few connections are judged, which share what the process has anyway")
	}
}

func TestRoomForConnections(t *testing.T) {
	if err := RoomForConnections(10); err != nil {
		t.Error(err)
	}
	err := RoomForConnections(1 << 40)
	if err == nil {
		t.Skip("this system has no bound")
	}
	for _, want := range []string{"open files", "ulimit -Hn", "LimitNOFILE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
