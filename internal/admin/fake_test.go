package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/engine"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/transport"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fakeBroker answers as the core does: pages, of which some are empty.
type fakeBroker struct {
	mu            sync.Mutex
	sessions      []abi.SessionRecord
	subscriptions []abi.SubscriptionRecord
	retained      []abi.RetainedRecord
	asked         []abi.Question
	draining      bool
	stopped       string
	reloadErr     error
	hang          bool
}

func newFake() *fakeBroker {
	b := &fakeBroker{}
	for i := range 25 {
		s := abi.SessionRecord{ClientID: fmt.Sprintf("pump-%d", i), Version: 5, Expiry: 60}
		if i%2 == 0 {
			s.Conn, s.KeepAlive = abi.Conn(i+1), 30
		}
		b.sessions = append(b.sessions, s)
		b.subscriptions = append(b.subscriptions, abi.SubscriptionRecord{ClientID: s.ClientID, Filter: fmt.Sprintf("a/%d/#", i), QoS: 1})
		b.retained = append(b.retained, abi.RetainedRecord{Topic: fmt.Sprintf("r/%d", i), Size: uint32(i)})
	}
	b.sessions = append(b.sessions, abi.SessionRecord{ClientID: "odd/\x1b[31m ä", Version: 4})
	return b
}

func (b *fakeBroker) Ask(ctx context.Context, q abi.Question) (abi.Answer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, q)
	if b.hang {
		<-ctx.Done()
		return abi.Answer{}, context.Cause(ctx)
	}
	switch q.Kind {
	case abi.AskSessions:
		return paged(q, b.sessions, abi.AppendSessionRecord), nil
	case abi.AskSession:
		return paged(q, only(b.sessions, func(s abi.SessionRecord) bool { return s.ClientID == q.Text }), abi.AppendSessionRecord), nil
	case abi.AskSubscriptions:
		fits := func(s abi.SubscriptionRecord) bool { return q.Text == "" || s.ClientID == q.Text }
		return paged(q, only(b.subscriptions, fits), abi.AppendSubscriptionRecord), nil
	case abi.AskRetained:
		return paged(q, only(b.retained, covered(q.Text)), abi.AppendRetainedRecord), nil
	case abi.DoClearRetained:
		return b.clear(q), nil
	case abi.DoDisconnect, abi.DoForget:
		i := slices.IndexFunc(b.sessions, func(s abi.SessionRecord) bool {
			return s.ClientID == q.Text && (q.Kind == abi.DoForget || s.Conn != 0)
		})
		if i < 0 {
			return abi.Answer{Kind: q.Kind}, nil
		}
		return abi.Answer{Kind: q.Kind, Count: 1}, nil
	}
	return abi.Answer{}, errors.New("unknown question")
}

// clear removes five at a time.
func (b *fakeBroker) clear(q abi.Question) abi.Answer {
	all := only(b.retained, covered(q.Text))
	some := all[:min(5, len(all))]
	b.retained = only(b.retained, func(r abi.RetainedRecord) bool { return !slices.Contains(some, r) })
	a := abi.Answer{Kind: q.Kind, Count: uint32(len(some))}
	if len(some) < len(all) {
		a.Cursor = 1
	}
	return a
}

func covered(filter string) func(abi.RetainedRecord) bool {
	return func(r abi.RetainedRecord) bool { return mqtt.Match([]byte(filter), []byte(r.Topic)) }
}

func only[T any](list []T, fits func(T) bool) (out []T) {
	for _, item := range list {
		if fits(item) {
			out = append(out, item)
		}
	}
	return out
}

// paged answers with at most 10 records; every second page is empty.
func paged[T any](q abi.Question, list []T, add func([]byte, *T) []byte) abi.Answer {
	const many = 10
	a := abi.Answer{Kind: q.Kind}
	at := int(q.Cursor) / 2
	if q.Cursor%2 == 1 {
		a.Cursor = q.Cursor + 1
		return a
	}
	end := min(at+many, at+max(1, int(q.Limit)), len(list))
	for i := min(at, end); i < end; i++ {
		a.Records = add(a.Records, &list[i])
		a.Count++
	}
	if end < len(list) {
		a.Cursor = uint32(end)*2 - 1
	}
	return a
}

func (b *fakeBroker) Snapshot(ctx context.Context) (metrics.Snapshot, error) {
	if b.hang {
		<-ctx.Done()
		return metrics.Snapshot{}, context.Cause(ctx)
	}
	s := metrics.Snapshot{
		At: time.Unix(1090, 0), Core: abi.Stats{Sessions: 26, Connections: 13, DroppedQoS0: 1, DroppedQueue: 2},
		Engine: engine.Metrics{Kind: "native"}, Transport: transport.Stats{Connections: 13, DroppedQoS0: 4},
		Limits: map[string]uint64{"connections": 3, "unmet": 0},
		Facts:  metrics.Facts{Version: "v1", Started: time.Unix(1000, 0), TEE: "sim", Simulated: true, Module: "sha384:00"},
	}
	s.Core.LimitsMet[abi.LimitQueue] = 9
	return s, nil
}

func (b *fakeBroker) Connection(conn abi.Conn) (Connection, bool) {
	return Connection{Listener: "plain", Address: "192.0.2.1:5", BytesIn: 7}, conn == 1
}

func (b *fakeBroker) Listeners() []Listener { return []Listener{{"plain", "tcp", "127.0.0.1:1883"}} }

func (b *fakeBroker) Draining() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.draining
}

func (b *fakeBroker) Reload(context.Context) error { return b.reloadErr }

// Unlock knows one address that is locked out.
func (b *fakeBroker) Unlock(address netip.Addr) (bool, error) {
	if b.hang {
		return false, fmt.Errorf("%w: nobody has to log in", ErrUnavailable)
	}
	return address == netip.MustParseAddr("203.0.113.7"), nil
}

func (b *fakeBroker) Drain(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draining = true
	return nil
}

func (b *fakeBroker) Stop(reason uint8, reference string) {
	b.stopped = fmt.Sprintf("0x%02x %s", reason, reference)
}

// serve lets a broker be administered, and returns a client of it.
func serve(t *testing.T, o Options) *Client {
	t.Helper()
	s, err := Listen(context.Background(), filepath.Join(t.TempDir(), "s"), o)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(s.Path())
	t.Cleanup(func() {
		c.Close()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func ids(t *testing.T, c *Client, f ClientsFilter) (list []string) {
	t.Helper()
	for s, err := range c.Clients(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s.ClientID)
	}
	return list
}

// is reports whether an error is an Error of a code.
func is(err error, code Code) bool { return errors.Is(err, &Error{Code: code}) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
