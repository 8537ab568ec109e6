package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/admin"
	"github.com/vouchmq/vouchmq/internal/metrics"
)

// fakeBroker has 2,000 clients, in pages of 300, of whom one has a name that is meant for terminals.
type fakeBroker struct{ reloadErr error }

const evil = "evil\x1b[2J\n"

func (b *fakeBroker) Ask(_ context.Context, q abi.Question) (abi.Answer, error) {
	a := abi.Answer{Kind: q.Kind}
	switch q.Kind {
	case abi.AskSessions:
		for i := q.Cursor; i < min(q.Cursor+300, 2000); i++ {
			s := abi.SessionRecord{ClientID: fmt.Sprintf("pump-%d", i), Version: 5, Conn: 1}
			if i == 1999 {
				s.ClientID = evil
			}
			a.Records = abi.AppendSessionRecord(a.Records, &s)
			a.Count++
		}
		if q.Cursor+300 < 2000 {
			a.Cursor = q.Cursor + 300
		}
	case abi.AskSession:
		if q.Text == "pump-1" {
			a.Records, a.Count = abi.AppendSessionRecord(nil, &abi.SessionRecord{ClientID: "pump-1", Version: 4, Expiry: 1<<32 - 1, Will: true}), 1
		}
	case abi.AskSubscriptions:
		a.Records = abi.AppendSubscriptionRecord(nil, &abi.SubscriptionRecord{ClientID: "pump-1", Filter: "a/#", QoS: 2, Identifier: 7})
		a.Count = 1
	case abi.AskRetained:
		a.Records, a.Count = abi.AppendRetainedRecord(nil, &abi.RetainedRecord{Topic: "t\x1b", Size: 5, ExpiresIn: 60}), 1
	case abi.DoClearRetained:
		a.Count = 4
	case abi.DoDisconnect, abi.DoForget:
		if q.Text == "pump-1" {
			a.Count = 1
		}
	}
	return a, nil
}

func (b *fakeBroker) Snapshot(context.Context) (metrics.Snapshot, error) {
	return metrics.Snapshot{At: time.Unix(90, 0), Facts: metrics.Facts{Started: time.Unix(0, 0)}}, nil
}
func (b *fakeBroker) Connection(abi.Conn) (admin.Connection, bool) {
	return admin.Connection{Address: "192.0.2.1:5", Listener: "plain"}, true
}
func (b *fakeBroker) Listeners() []admin.Listener     { return nil }
func (b *fakeBroker) Draining() bool                  { return false }
func (b *fakeBroker) Reload(context.Context) error    { return b.reloadErr }
func (b *fakeBroker) Unlock(netip.Addr) (bool, error) { return false, nil }
func (b *fakeBroker) Drain(context.Context) error     { return nil }
func (b *fakeBroker) Stop(uint8, string)              {}

// administer lets commands administer a broker, and returns what runs one.
func administer(t *testing.T, b admin.Broker) func(args ...string) (out string, status int) {
	t.Helper()
	folder, err := os.MkdirTemp("", "vouchmq-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := admin.Listen(t.Context(), filepath.Join(folder, "s"), admin.Options{Broker: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), os.RemoveAll(folder)); err != nil {
			t.Error(err)
		}
	})
	t.Setenv(socketEnv, s.Path())
	return func(args ...string) (string, int) {
		var out bytes.Buffer
		root := newRoot()
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(args)
		command, err := root.ExecuteContextC(t.Context())
		if err == nil {
			return out.String(), exitOK
		}
		status := report(command, err)
		return out.String(), status
	}
}

func TestAdministration(t *testing.T) {
	run := administer(t, &fakeBroker{reloadErr: errors.New("vouchmq.yaml:3:7: unknown key")})
	for _, c := range []struct {
		command string
		status  int
		want    []string
	}{
		{"status", 0, []string{"state", "running, for 1m30s"}},
		{"clients", 0, []string{"CLIENT", "pump-0", "192.0.2.1:5", `evil\x1b[2J\n`}},
		{"clients list --name pump-19?", 0, []string{"pump-199 "}},
		{"clients list --state asleep", 1, []string{"neither connected nor offline"}},
		{"clients show pump-1", 0, []string{"3.1.1", "for ever", "a/#, QoS 2"}},
		{"clients show pump-1 --json", 0, []string{`"client_id": "pump-1"`, `"subscription_list": [`}},
		{"clients show nobody", 4, []string{"knows no client", "vouchmq clients list"}},
		{"clients disconnect pump-1", 0, []string{"disconnected pump-1"}},
		{"clients disconnect pump-1 --reason 0x82", 1, []string{"0x82", "0x98"}},
		{"clients disconnect nobody", 4, []string{"no client of that id is connected"}},
		{"clients forget pump-1 --json", 0, []string{`"count": 1`}},
		{"subscriptions", 0, []string{"FILTER", "a/#", "7"}},
		{"retained", 0, []string{`t\x1b`, "60 s"}},
		{"retained list a/#/b", 1, []string{"not a topic filter"}},
		{"retained clear #", 0, []string{"removed 4 retained messages"}},
		{"reload", 4, []string{"vouchmq.yaml:3:7"}},
		{"log-level", 4, []string{"cannot be changed"}},
	} {
		out, status := run(strings.Fields(c.command)...)
		if status != c.status {
			t.Errorf("%s: status %d", c.command, status)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s prints no %q: %.300s", c.command, want, out)
			}
		}
		if strings.ContainsRune(out, '\x1b') {
			t.Errorf("%s prints an escape character", c.command)
		}
	}
}

func TestAListThatCannotBeHadHasNoHeads(t *testing.T) {
	run := administer(t, &fakeBroker{})
	if out, _ := run("clients", "--state", "asleep"); strings.Contains(out, "CLIENT") {
		t.Errorf("%q", out)
	}
}

func TestListsAsJSON(t *testing.T) {
	run := administer(t, &fakeBroker{})
	for command, want := range map[string]int{
		"clients --json": 2000, "clients list --json --name nobody": 0, "subscriptions --json": 1, "retained --json": 1,
	} {
		out, status := run(strings.Fields(command)...)
		var list []map[string]any
		if err := json.Unmarshal([]byte(out), &list); status != 0 || err != nil || len(list) != want {
			t.Errorf("%s: status %d, %d things, error %v", command, status, len(list), err)
		}
	}
}

func TestClientIDsAreCompleted(t *testing.T) {
	run := administer(t, &fakeBroker{})
	if out, _ := run("__complete", "clients", "show", "pump-199"); !strings.HasPrefix(out, "pump-199\npump-1990\n") {
		t.Errorf("%q", out)
	}
	if out, _ := run("__complete", "clients", "forget", "evil"); strings.Contains(out, "evil") {
		t.Errorf("a name that is meant for terminals: %q", out)
	}
	if out, _ := run("__complete", "clients", "show", ""); strings.Count(out, "pump-") != maxCompletions {
		t.Errorf("%d completions", strings.Count(out, "pump-"))
	}
	if out, _ := run("__complete", "subscriptions", "--client", "pump-199"); !strings.HasPrefix(out, "pump-199\n") {
		t.Errorf("%q", out)
	}
}
