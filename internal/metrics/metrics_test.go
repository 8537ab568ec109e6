package metrics

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/testkit"
	"github.com/vouchmq/vouchmq/internal/transport"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var started = time.Unix(1_700_000_000, 0)

// sample returns a snapshot in which everything is there.
func sample() Snapshot {
	s := Snapshot{
		At: started.Add(90 * time.Second),
		Core: abi.Stats{
			Connections: 3, Sessions: 5, Subscriptions: 7, Shared: 2, Retained: 11, Queued: 13, Received: 60, Sent: 120, DroppedQoS0: 1,
			DroppedQueue: 2, Expired: 4, MessageBytes: 1000, Memory: 5000,
		},
		Engine:       engine.Metrics{Kind: "native", StepTime: 3 * time.Second, Restarts: 1, Memory: 65536},
		Transport:    transport.Stats{Connections: 4, Accepted: 9, DroppedQoS0: 8},
		Traffic:      &Traffic{PacketsIn: 100, PacketsOut: 200, BytesIn: 300, BytesOut: 400},
		Guard:        map[string]uint64{"failures": 6},
		LockedOut:    1,
		Limits:       map[string]uint64{"connections": 21, "memory": 1},
		Collateral:   []Collateral{{Document: "tdx-qe", Expiry: started.Add(time.Hour), Usable: true}, {Document: "root"}},
		Certificates: &Certificates{Expiry: started.Add(3 * time.Hour), Renewal: started.Add(90 * time.Second)},
		Facts:        Facts{Version: "v1", Go: "go1", Started: started, TEE: "sim", Simulated: true, Module: "sha384:00", Config: "c", Runtime: "r"},
	}
	s.Core.LimitsMet[abi.LimitMemory] = 2
	s.Engine.StepTimes[3], s.Engine.StepTimes[5], s.Engine.StepTimes[31] = 10, 20, 1
	return s
}

type fakeSource struct {
	snapshot Snapshot
	err      error
	hang     bool
	asked    atomic.Int64
}

func (f *fakeSource) Snapshot(ctx context.Context) (Snapshot, error) {
	f.asked.Add(1)
	if f.hang {
		<-ctx.Done()
		return Snapshot{}, context.Cause(ctx)
	}
	return f.snapshot, f.err
}

// exported returns what a scrape of a snapshot shows: type by name.
func exported(t *testing.T, s Snapshot) map[string]string {
	t.Helper()
	families, err := NewRegistry(&fakeSource{snapshot: s}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]string{}
	for _, f := range families {
		types[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	return types
}

var documentedRow = regexp.MustCompile("(?m)^\\| `(vouchmq_\\w+)` \\| (\\w+) \\|(?: ([^|]+))?? \\|")

func TestEachMetricIsDocumentedWithItsType(t *testing.T) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	types := exported(t, sample())
	documented := map[string]bool{}
	for _, row := range documentedRow.FindAllStringSubmatch(string(text), -1) {
		documented[row[1]] = true
		if types[row[1]] != row[2] {
			t.Errorf("docs/metrics.md says that %s is a %s; it is %q", row[1], row[2], types[row[1]])
		}
		for _, m := range table() {
			if m.name == row[1] && row[3] != documentedLabels(m.labels) {
				t.Errorf("docs/metrics.md says that the labels of %s are %q, not %v", m.name, row[3], m.labels)
			}
		}
	}
	for name := range types {
		if strings.HasPrefix(name, "vouchmq_") && !documented[name] {
			t.Errorf("docs/metrics.md does not have %s", name)
		}
		if !strings.HasPrefix(name, "vouchmq_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s has no prefix", name)
		}
	}
}

func documentedLabels(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	return "`" + strings.Join(labels, "`, `") + "`"
}

func TestNamesFollowTheConventions(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(&fakeSource{snapshot: sample()}))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, f := range families {
		if total := strings.HasSuffix(f.GetName(), "_total"); total != (f.GetType().String() == "COUNTER") {
			t.Errorf("%s is a %s", f.GetName(), f.GetType())
		}
	}
}

func TestNoLabelNamesAClient(t *testing.T) {
	allowed := []string{"version", "go_version", "engine", "tee", "module", "config", "runtime", "reason", "limit", "event", "document"}
	for _, m := range table() {
		for _, l := range m.labels {
			if !slices.Contains(allowed, l) {
				t.Errorf("%s has the label %s: is the number of its values bounded, and do they tell nothing of clients?", m.name, l)
			}
		}
	}
}

func TestTrafficThatIsNotCountedIsNotShown(t *testing.T) {
	s := sample()
	s.Traffic = nil
	if types := exported(t, s); types["vouchmq_received_bytes_total"] != "" || types["vouchmq_messages_received_total"] == "" {
		t.Errorf("shown: %v", types)
	}
}

func TestCoreThatDoesNotAnswerIsShown(t *testing.T) {
	families, err := NewRegistry(&fakeSource{err: errors.New("hangs")}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var responding, process bool
	for _, f := range families {
		switch {
		case f.GetName() == respondingName:
			responding = f.GetMetric()[0].GetGauge().GetValue() == 0
		case strings.HasPrefix(f.GetName(), "vouchmq_"):
			t.Errorf("%s is shown", f.GetName())
		case strings.HasPrefix(f.GetName(), "process_"):
			process = true
		}
	}
	if !responding || !process {
		t.Errorf("not responding: %v, process metrics: %v", responding, process)
	}
}

func TestSnapshotIsKeptForAMoment(t *testing.T) {
	source := &fakeSource{snapshot: sample()}
	now := started
	c := NewCached(source, time.Second, func() time.Time { return now })
	for range 3 {
		if _, err := c.Snapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := source.asked.Load(); n != 1 {
		t.Errorf("asked %d times within the age", n)
	}
	now = now.Add(time.Second)
	if _, err := c.Snapshot(context.Background()); err != nil || source.asked.Load() != 2 {
		t.Errorf("asked %d times after the age, error %v", source.asked.Load(), err)
	}
	now, source.err = now.Add(time.Second), errors.New("fails")
	for range 2 {
		if _, err := c.Snapshot(context.Background()); err == nil {
			t.Error("an old snapshot hides a failure")
		}
	}
	if n := source.asked.Load(); n != 4 {
		t.Errorf("asked %d times, failures included", n)
	}
}

// TestWaitingForASnapshotIsBounded: one who asks a core that hangs does not make others wait longer than they want.
func TestWaitingForASnapshotIsBounded(t *testing.T) {
	source := &fakeSource{hang: true}
	c := NewCached(source, time.Second, time.Now)
	first, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.Snapshot(first)
	}()
	testkit.Await(t, "the first to ask", func() bool { return source.asked.Load() > 0 })
	second, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := c.Snapshot(second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	end()
	<-done
}
