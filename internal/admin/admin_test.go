package admin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestStatus(t *testing.T) {
	b := newFake()
	c := serve(t, Options{Broker: b})
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.State != "running" || s.Uptime != 90 || s.Sessions != 26 || s.Dropped != 7 || s.Build.Module != "sha384:00" || !s.Build.Simulated ||
		len(s.Listeners) != 1 || s.Listeners[0].Address != "127.0.0.1:1883" {
		t.Errorf("%+v", s)
	}
	if len(s.LimitsMet) != 2 || s.LimitsMet["queue"] != 9 || s.LimitsMet["connections"] != 3 {
		t.Errorf("limits met: %v", s.LimitsMet)
	}
	if err := c.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err = c.Status(t.Context()); err != nil || s.State != "draining" {
		t.Errorf("state %q, error %v", s.State, err)
	}
	if build, err := c.Build(t.Context()); err != nil || build.Engine != "native" || build.TEE != "sim" {
		t.Errorf("%+v, error %v", build, err)
	}
}

func TestListsOfClients(t *testing.T) {
	c := serve(t, Options{Broker: newFake()})
	for _, test := range []struct {
		filter ClientsFilter
		want   int
	}{
		{ClientsFilter{}, 26},
		{ClientsFilter{Limit: 1}, 26},
		{ClientsFilter{Limit: 7}, 26},
		{ClientsFilter{State: StateConnected}, 13},
		{ClientsFilter{State: StateOffline, Limit: 3}, 13},
		{ClientsFilter{Name: "pump-1*"}, 11},
		{ClientsFilter{Name: "pump-?"}, 10},
		{ClientsFilter{Name: "pump-24", Limit: 1}, 1}, // far behind pages on which nothing fits
		{ClientsFilter{Name: "nobody"}, 0},
	} {
		got := ids(t, c, test.filter)
		seen := map[string]bool{}
		for _, id := range got {
			seen[id] = true
		}
		if len(got) != test.want || len(seen) != test.want {
			t.Errorf("%+v: %d clients, %d different ones, want %d", test.filter, len(got), len(seen), test.want)
		}
	}
	for _, err := range c.Clients(t.Context(), ClientsFilter{State: "asleep"}) {
		if !is(err, BadRequest) {
			t.Errorf("an unknown state gives %v", err)
		}
	}
}

func TestOneClient(t *testing.T) {
	c := serve(t, Options{Broker: newFake()})
	s, err := c.Client(t.Context(), "pump-0")
	if err != nil || !s.Connected || s.Protocol != "5.0" || s.Connection == nil || s.Connection.BytesIn != 7 {
		t.Errorf("%+v, error %v", s, err)
	}
	if s, err = c.Client(t.Context(), "odd/\x1b[31m ä"); err != nil || s.Connected || s.Protocol != "3.1.1" || s.Connection != nil {
		t.Errorf("%+v, error %v", s, err)
	}
	if _, err := c.Client(t.Context(), "nobody"); !is(err, NotFound) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Client(t.Context(), ""); !is(err, BadRequest) {
		t.Errorf("error %v", err)
	}
}

func TestChanges(t *testing.T) {
	b := newFake()
	c := serve(t, Options{Broker: b})
	ctx := t.Context()
	if err := c.Disconnect(ctx, DisconnectRequest{ClientID: "pump-0"}); err != nil {
		t.Error(err)
	}
	if q := b.asked[len(b.asked)-1]; q.Text != "pump-0" || q.Arg != 0x98 {
		t.Errorf("the core is asked %+v", q)
	}
	if err := c.Disconnect(ctx, DisconnectRequest{ClientID: "pump-1"}); !is(err, NotFound) {
		t.Errorf("a client without connection: %v", err)
	}
	if err := c.Disconnect(ctx, DisconnectRequest{ClientID: "pump-0", Reason: 0x82}); !is(err, BadRequest) {
		t.Errorf("a reason that is no administrator's: %v", err)
	}
	if err := c.Forget(ctx, "pump-1"); err != nil {
		t.Error(err)
	}
	if err := c.Forget(ctx, "nobody"); !is(err, NotFound) {
		t.Error(err)
	}
	if n, err := c.ClearRetained(ctx, "r/1"); err != nil || n != 1 {
		t.Errorf("%d removed, error %v", n, err)
	}
	if n, err := c.ClearRetained(ctx, "#"); err != nil || n != 24 || len(b.retained) != 0 {
		t.Errorf("%d removed, %d left, error %v", n, len(b.retained), err)
	}
	if _, err := c.ClearRetained(ctx, "a/#/b"); !is(err, BadRequest) {
		t.Errorf("no filter: %v", err)
	}
}

func TestSubscriptionsAndRetained(t *testing.T) {
	c := serve(t, Options{Broker: newFake()})
	count := func(client, filter string) (n int) {
		for s, err := range c.Subscriptions(t.Context(), client, filter) {
			if err != nil || s.QoS != 1 {
				t.Fatalf("%+v, error %v", s, err)
			}
			n++
		}
		return n
	}
	if all, one, some := count("", ""), count("pump-3", ""), count("", "a/1*"); all != 25 || one != 1 || some != 11 {
		t.Errorf("%d subscriptions, %d of one client, %d by pattern", all, one, some)
	}
	var bytes, n uint32
	for r, err := range c.Retained(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		bytes, n = bytes+r.Bytes, n+1
	}
	if n != 25 || bytes != 300 {
		t.Errorf("%d retained messages of %d bytes", n, bytes)
	}
	for range c.Retained(t.Context(), "") {
		break // who has seen enough may go
	}
}

func TestReloadAndStop(t *testing.T) {
	b := newFake()
	c := serve(t, Options{Broker: b})
	if err := c.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	b.reloadErr = errors.New("vouchmq.yaml:3:7: unknown key")
	if err := c.Reload(t.Context()); !is(err, Refused) || !strings.Contains(err.Error(), "3:7") {
		t.Errorf("error %v", err)
	}
	b.reloadErr = ErrUnavailable
	if err := c.Reload(t.Context()); !is(err, Unavailable) {
		t.Errorf("error %v", err)
	}
	for _, test := range []struct {
		request StopRequest
		want    string
	}{
		{StopRequest{}, "0x8b "},
		{StopRequest{Reference: "b.example"}, "0x9c b.example"},
		{StopRequest{Reason: 0x9d, Reference: "b.example"}, "0x9d b.example"},
		{StopRequest{Reason: 0x8b, Reference: "b.example"}, ""},
		{StopRequest{Reason: 0x80}, ""},
	} {
		b.stopped = ""
		err := c.Stop(t.Context(), test.request)
		if (err == nil) != (test.want != "") || b.stopped != test.want {
			t.Errorf("%+v: stopped with %q, error %v", test.request, b.stopped, err)
		}
	}
}

func TestUnlock(t *testing.T) {
	b := newFake()
	c := serve(t, Options{Broker: b})
	if err := c.Unlock(t.Context(), "203.0.113.7"); err != nil {
		t.Error(err)
	}
	if err := c.Unlock(t.Context(), "203.0.113.8"); !is(err, Refused) {
		t.Errorf("an address that is not locked out: %v", err)
	}
	if err := c.Unlock(t.Context(), "pump-7"); !is(err, BadRequest) {
		t.Errorf("no address: %v", err)
	}
	b.hang = true
	if err := c.Unlock(t.Context(), "203.0.113.7"); !is(err, Unavailable) {
		t.Errorf("a broker that locks nobody out: %v", err)
	}
}

func TestLogLevel(t *testing.T) {
	var level slog.LevelVar
	c := serve(t, Options{Broker: newFake(), Level: &level})
	if got, err := c.Level(t.Context()); err != nil || got != "info" {
		t.Errorf("%q, error %v", got, err)
	}
	if err := c.SetLevel(t.Context(), "Debug"); err != nil || level.Level() != slog.LevelDebug {
		t.Errorf("level %v, error %v", level.Level(), err)
	}
	if err := c.SetLevel(t.Context(), "loud"); !is(err, BadRequest) || level.Level() != slog.LevelDebug {
		t.Errorf("level %v, error %v", level.Level(), err)
	}
	if _, err := serve(t, Options{Broker: newFake()}).Level(t.Context()); !is(err, Unavailable) {
		t.Errorf("error %v", err)
	}
}

func TestCoreThatDoesNotAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes as long as a question may")
	}
	b := newFake()
	b.hang = true
	c := serve(t, Options{Broker: b})
	if _, err := c.Client(t.Context(), "x"); !is(err, Busy) {
		t.Errorf("error %v", err)
	}
}

func TestChangesAreLogged(t *testing.T) {
	var out bytes.Buffer
	c := serve(t, Options{
		Broker: newFake(), Log: slog.New(slog.NewTextHandler(&out, nil)), Redact: func(string) string { return "#hidden" },
	})
	_ = c.Disconnect(context.Background(), DisconnectRequest{ClientID: "pump-0"})
	_ = c.Forget(context.Background(), "nobody")
	_, _ = c.Status(context.Background())
	text := out.String()
	for _, want := range []string{"operation=client/disconnect uid=", "about=#hidden", "level=WARN", "code=not_found"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "pump-0") || strings.Contains(text, "status") || strings.Count(text, "\n") != 2 {
		t.Errorf("the log says too much:\n%s", text)
	}
}
