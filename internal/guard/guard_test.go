package guard

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// handClock is a clock in a test's hands. Waiting takes no time; it is noted.
type handClock struct {
	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Wait(_ context.Context, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited = append(c.waited, d)
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newGuard(t *testing.T, c Config) (*Guard, *handClock) {
	t.Helper()
	clock := &handClock{now: time.Unix(1_800_000_000, 0)}
	g, err := New(c, Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return g, clock
}

func fail(g *Guard, address string, times int) {
	for range times {
		g.Failed(context.Background(), Failure{Address: netip.MustParseAddr(address)})
	}
}

func allowed(g *Guard, address string) bool { return g.Allowed(netip.MustParseAddr(address)) }

func TestDelaysGrow(t *testing.T) {
	g, clock := newGuard(t, Config{Failures: 100, Delay: 100 * time.Millisecond, MaxDelay: time.Second})
	fail(g, "203.0.113.7", 7)
	fail(g, "203.0.113.8", 2)
	want := "[100ms 200ms 400ms 800ms 1s 1s 100ms]"
	if got := fmt.Sprint(clock.waited); got != want {
		t.Errorf("waited %s, want %s", got, want)
	}
}

func TestLockout(t *testing.T) {
	g, clock := newGuard(t, Config{Failures: 3, Window: time.Minute, Lockout: time.Hour})
	fail(g, "203.0.113.7", 2)
	if !allowed(g, "203.0.113.7") {
		t.Fatal("locked out too early")
	}
	fail(g, "203.0.113.7", 1)
	if allowed(g, "203.0.113.7") || allowed(g, "::ffff:203.0.113.7") {
		t.Error("not locked out after three failures")
	}
	if !allowed(g, "203.0.113.8") {
		t.Error("the neighbour is locked out")
	}
	clock.pass(30 * time.Minute)
	fail(g, "203.0.113.7", 4) // were on their way; they do not make it longer
	if s := g.Stats(); s != (Stats{Failures: 7, Lockouts: 1, Refused: 2, Locked: 1}) {
		t.Errorf("statistics %+v", s)
	}
	clock.pass(30 * time.Minute)
	if !allowed(g, "203.0.113.7") || g.Stats().Locked != 0 {
		t.Error("still locked out after an hour")
	}
	fail(g, "203.0.113.7", 2)
	if !allowed(g, "203.0.113.7") {
		t.Error("old failures count")
	}
}

func TestFailuresBeyondTheWindowDoNotCount(t *testing.T) {
	g, clock := newGuard(t, Config{Failures: 3, Window: time.Minute})
	fail(g, "203.0.113.7", 2)
	clock.pass(time.Minute)
	fail(g, "203.0.113.7", 2)
	if !allowed(g, "203.0.113.7") {
		t.Error("failures of another window count")
	}
	fail(g, "203.0.113.7", 1)
	if allowed(g, "203.0.113.7") {
		t.Error("three failures of one window do not count")
	}
}

func TestIPv6CountsByNetwork(t *testing.T) {
	g, _ := newGuard(t, Config{Failures: 3})
	for i := range 3 {
		fail(g, fmt.Sprintf("2001:db8:1:2:%x::1", i), 1)
	}
	if allowed(g, "2001:db8:1:2:ffff::9") || allowed(g, "2001:db8:1:2::1%eth0") {
		t.Error("the /64 is not locked out")
	}
	if !allowed(g, "2001:db8:1:3::1") {
		t.Error("another /64 is locked out")
	}
}

func TestExemptAndLocal(t *testing.T) {
	g, clock := newGuard(t, Config{Failures: 1, Exempt: []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32"}})
	for _, a := range []string{"10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8::1"} {
		fail(g, a, 5)
		if !allowed(g, a) {
			t.Errorf("%s is exempt and locked out", a)
		}
	}
	g.Failed(context.Background(), Failure{})
	if !g.Allowed(netip.Addr{}) || len(clock.waited) != 0 {
		t.Error("who has no address is locked out, or waits")
	}
	fail(g, "192.0.2.2", 1)
	if allowed(g, "192.0.2.2") {
		t.Error("who is not exempt is let in")
	}
	if n := g.Stats().Failures; n != 22 {
		t.Errorf("%d failures are counted", n)
	}
}

func TestDisabledAndReload(t *testing.T) {
	g, clock := newGuard(t, Config{Disabled: true, Failures: 1})
	fail(g, "203.0.113.7", 5)
	if !allowed(g, "203.0.113.7") || len(clock.waited) != 0 || g.Stats().Failures != 5 {
		t.Error("a guard that is disabled does more than count")
	}
	if err := g.Reload(Config{Failures: 2}); err != nil {
		t.Fatal(err)
	}
	fail(g, "203.0.113.7", 2)
	if allowed(g, "203.0.113.7") {
		t.Error("the reload has no effect")
	}
	if err := g.Reload(Config{Failures: 3, Exempt: []string{"here"}}); err == nil || allowed(g, "203.0.113.7") {
		t.Error("a wrong configuration was taken over, or the lockout forgotten")
	}
	if !g.Unlock(netip.MustParseAddr("203.0.113.7")) || !allowed(g, "203.0.113.7") || g.Unlock(netip.MustParseAddr("203.0.113.7")) {
		t.Error("the address cannot be unlocked")
	}
}

// TestMemoryIsBounded has many strangers fail once: one that is locked out must not be forgotten for it.
func TestMemoryIsBounded(t *testing.T) {
	g, clock := newGuard(t, Config{Failures: 2, MaxAddresses: 10, Window: time.Minute})
	fail(g, "203.0.113.7", 2)
	for i := range 1000 {
		fail(g, fmt.Sprintf("198.18.%d.%d", i/250, i%250), 1)
	}
	if n := g.failing.order.Len(); n != 10 || len(g.failing.byKey) != n {
		t.Errorf("%d addresses are kept, %d by key", n, len(g.failing.byKey))
	}
	if allowed(g, "203.0.113.7") {
		t.Error("strangers pushed out an address that is locked out")
	}
	clock.pass(time.Minute)
	fail(g, "203.0.113.9", 1)
	if n := g.failing.order.Len(); n != 1 {
		t.Errorf("%d addresses are kept after the window", n)
	}
}

func TestCheckNamesTheField(t *testing.T) {
	for field, c := range map[string]Config{
		"failures": {Failures: -1}, "window": {Window: 25 * time.Hour}, "lockout": {Lockout: -1}, "delay": {Delay: time.Hour},
		"max_delay": {MaxDelay: time.Hour}, "max_addresses": {MaxAddresses: -1}, "exempt[1]": {Exempt: []string{"::1", "1.2.3"}},
	} {
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), field+" ") {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

func TestSystemClockWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	SystemClock{}.Wait(ctx, time.Hour)
	SystemClock{}.Wait(context.Background(), time.Nanosecond)
}

// hostile are words of clients that try to look like something else in the log.
var hostile = []string{
	"alice", "", `x" address=192.0.2.99 listener=`, "x\nlevel=WARN msg=\"login failed\" address=192.0.2.99 listener=",
	`","address":"192.0.2.99","listener":"`, `{"level":"WARN","msg":"login failed","address":"192.0.2.99","listener":"`,
	"\xff\xfe\u202e", strings.Repeat("long", 100), ` msg="login failed" address=192.0.2.99 listener=`,
}

// logLines are lines of failed logins from 203.0.113.7 and 2001:db8::7, and others that must not be taken for one.
func logLines(t *testing.T, handler func(*bytes.Buffer) slog.Handler) (failures, others []string) {
	t.Helper()
	for _, words := range hostile {
		var b bytes.Buffer
		log := slog.New(handler(&b))
		g, err := New(Config{Disabled: true}, Options{Log: log, Clock: &handClock{}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"203.0.113.7", "2001:db8::7"} {
			g.Failed(context.Background(), Failure{
				Address: netip.MustParseAddr(a), Listener: "tls", User: words, ClientID: words, Reason: "wrong password",
			})
		}
		failures = append(failures, strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")...)
		b.Reset()
		log.Warn("client disconnected", "client_id", words, "reason", words)
		others = append(others, strings.TrimSuffix(b.String(), "\n"))
	}
	return failures, others
}

var handlers = map[string]func(*bytes.Buffer) slog.Handler{
	"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
}

// failRegexes are those of the filter that is shipped, as fail2ban puts them together.
func failRegexes(t *testing.T) (list []*regexp.Regexp) {
	t.Helper()
	text, err := os.ReadFile(filter)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "_prefix = ")
	prefix, rest, _ := strings.Cut(rest, "\n")
	_, rest, _ = strings.Cut(rest, "failregex = ")
	rest, _, _ = strings.Cut(rest, "\n\n")
	for line := range strings.Lines(rest) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "%(_prefix)s", prefix)
		list = append(list, regexp.MustCompile(strings.ReplaceAll(line, "<HOST>", `(?P<host>[0-9a-fA-F:.]+)`)))
	}
	if len(list) != 2 {
		t.Fatalf("the filter has %d expressions", len(list))
	}
	return list
}

const filter = "../../deploy/fail2ban/vouchmq-filter.conf"

// dates are what fail2ban cuts out of a line before it looks at the rest.
var dates = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:\s*(?:Z|[+-]\d\d:?\d\d))?`)

func TestFail2banFilterReadsTheLog(t *testing.T) {
	expressions := failRegexes(t)
	find := func(line string) string {
		line = dates.ReplaceAllString(line, "")
		for _, x := range expressions {
			if m := x.FindStringSubmatch(line); m != nil {
				return m[1]
			}
		}
		return ""
	}
	for name, handler := range handlers {
		failures, others := logLines(t, handler)
		if len(failures) != 2*len(hostile) {
			t.Fatalf("%s: %d lines for %d failures", name, len(failures), 2*len(hostile))
		}
		for i, line := range failures {
			want := []string{"203.0.113.7", "2001:db8::7"}[i%2]
			for _, prefix := range []string{"", "host vouchmq[123]: "} {
				if got := find(prefix + line); got != want {
					t.Errorf("%s: found %q, not %s, in %s", name, got, want, line)
				}
			}
			if len(line) > 600 {
				t.Errorf("%s: a line of %d bytes", name, len(line))
			}
		}
		for _, line := range others {
			if got := find(line); got != "" {
				t.Errorf("%s: found %q in %s", name, got, line)
			}
		}
	}
}

// TestFail2banItself has fail2ban read the filter, where it is installed.
func TestFail2banItself(t *testing.T) {
	tool, err := exec.LookPath("fail2ban-regex")
	if err != nil {
		t.Skip("fail2ban is not installed (Debian package fail2ban)")
	}
	for name, handler := range handlers {
		failures, others := logLines(t, handler)
		file := filepath.Join(t.TempDir(), name+".log")
		if err := os.WriteFile(file, []byte(strings.Join(append(failures, others...), "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, file, filter).CombinedOutput()
		want := fmt.Sprintf("%d matched, %d missed", len(failures), len(others))
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, want, out)
		}
	}
}

func TestNamesAreRedacted(t *testing.T) {
	var b bytes.Buffer
	redact := func(name string) string { return "#" + strconv.Itoa(len(name)) }
	g, err := New(Config{}, Options{Log: slog.New(slog.NewTextHandler(&b, nil)), Redact: redact})
	if err != nil {
		t.Fatal(err)
	}
	g.Failed(context.Background(), Failure{Address: netip.MustParseAddr("203.0.113.7"), User: "alice", ClientID: "pump", Reason: "wrong password"})
	if want := "address=203.0.113.7 listener=\"\" user=#5 client_id=#4"; !strings.Contains(b.String(), want) {
		t.Errorf("the line is %s", b.String())
	}
}
