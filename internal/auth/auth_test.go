package auth

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/abi"
	"github.com/vouchmq/vouchmq/internal/auth/passwords"
	"github.com/vouchmq/vouchmq/internal/guard"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/mqtt"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// handClock is a clock in a test's hands. Who waits, waits until its time has come.
type handClock struct {
	mu   sync.Mutex
	now  time.Time
	tick chan struct{} // closed when time passes
}

func newHandClock() *handClock {
	return &handClock{now: time.Unix(1_800_000_000, 0), tick: make(chan struct{})}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Wait(ctx context.Context, d time.Duration) {
	until := c.Now().Add(d)
	for {
		c.mu.Lock()
		tick, now := c.tick, c.now
		c.mu.Unlock()
		if !now.Before(until) {
			return
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	close(c.tick)
	c.tick = make(chan struct{})
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// argon2 is a line of a password file that is quick to check.
func argon2(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := passwords.HashArgon2([]byte(password), passwords.Argon2Params{Memory: 64, Time: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + hash + "\n"
}

func scramLine(t testing.TB, user, password string) string {
	t.Helper()
	verifier, err := passwords.HashSCRAM([]byte(password), passwords.MinSCRAMIterations)
	if err != nil {
		t.Fatal(err)
	}
	return user + ":" + verifier + "\n"
}

func open(t testing.TB, c Config, options ...Option) *Authenticator {
	t.Helper()
	a, err := New(c, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// connect is a CONNECT; "" for user and nil for password is none.
func connect(user string, password []byte) *abi.AuthRequest {
	return &abi.AuthRequest{
		Stage: abi.AuthConnect, ClientID: "c1", HasUser: user != "", User: user, HasPassword: password != nil, Password: password,
	}
}

func passwordSources(paths ...string) (list []Source) {
	for _, p := range paths {
		list = append(list, Source{Passwords: &Passwords{File: p}})
	}
	return list
}

var remote = netip.MustParseAddrPort("203.0.113.7:4711")

// expect has a client log in.
func expect(t *testing.T, a *Authenticator, c Client, r *abi.AuthRequest, code mqtt.ReasonCode, user string) {
	t.Helper()
	got, answer := a.Login(c).Step(context.Background(), r)
	if got != code || answer.User != user {
		t.Errorf("%+v with user %q, password %q: %s as %q, want %s as %q", c, r.User, r.Password, got, answer.User, code, user)
	}
	if code.Failed() == (answer.Reason == "") {
		t.Errorf("%s with the reason %q", code, answer.Reason)
	}
}

func TestNobodyIsLetInUnlessAllowed(t *testing.T) {
	a := open(t, Config{})
	expect(t, a, Client{Listener: "plain"}, connect("", nil), mqtt.NotAuthorized, "")
	expect(t, a, Client{Listener: "plain", User: "certified", Identities: []string{"sensor"}}, connect("", nil), mqtt.NotAuthorized, "")
	expect(t, a, Client{Listener: "plain"}, connect("alice", []byte("x")), mqtt.BadUserNameOrPassword, "")
}

func TestAnonymous(t *testing.T) {
	file := writeFile(t, "p", argon2(t, "alice", "secret"))
	a := open(t, Config{Anonymous: []string{"plain", "open"}, Sources: []Source{{Listeners: []string{"plain", "tls"}, Passwords: &Passwords{File: file}}}})
	plain, tls, free := Client{Listener: "plain"}, Client{Listener: "tls"}, Client{Listener: "open"}
	expect(t, a, plain, connect("", nil), mqtt.Success, "")
	expect(t, a, tls, connect("", nil), mqtt.NotAuthorized, "")
	expect(t, a, plain, connect("alice", []byte("secret")), mqtt.Success, "alice")
	expect(t, a, plain, connect("alice", []byte("wrong")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, plain, connect("alice", nil), mqtt.BadUserNameOrPassword, "")
	expect(t, a, plain, connect("", []byte("secret")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, free, connect("alice", []byte("whatever")), mqtt.Success, "") // nobody judges there, so it is nobody
}

func TestAttested(t *testing.T) {
	file := writeFile(t, "p", argon2(t, "alice", "secret"))
	a := open(t, Config{Attested: []string{"secure"}, Sources: passwordSources(file)})
	sensor := Client{Listener: "secure", Identities: []string{"sensor"}}
	expect(t, a, sensor, connect("", nil), mqtt.Success, "")
	expect(t, a, sensor, connect("alice", nil), mqtt.Success, "") // the name is not proven, so it does not count
	expect(t, a, sensor, connect("alice", []byte("secret")), mqtt.Success, "alice")
	expect(t, a, sensor, connect("alice", []byte("wrong")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, sensor, connect("nobody", []byte("x")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, Client{Listener: "secure"}, connect("", nil), mqtt.NotAuthorized, "")
	expect(t, a, Client{Listener: "tls", Identities: []string{"sensor"}}, connect("", nil), mqtt.NotAuthorized, "")
}

func TestCertificate(t *testing.T) {
	strict := open(t, Config{Sources: []Source{{Certificate: &Certificate{}}}})
	loose := open(t, Config{Sources: []Source{{Certificate: &Certificate{AnyUserName: true}}}})
	c := Client{Listener: "tls", User: "device7"}
	expect(t, strict, c, connect("", nil), mqtt.Success, "device7")
	expect(t, strict, c, connect("device7", nil), mqtt.Success, "device7")
	expect(t, strict, c, connect("device8", nil), mqtt.BadUserNameOrPassword, "")
	expect(t, loose, c, connect("device8", []byte("x")), mqtt.Success, "device7")
	expect(t, strict, Client{Listener: "tls"}, connect("device7", nil), mqtt.BadUserNameOrPassword, "")
}

func TestPasswordFilesInOrder(t *testing.T) {
	first := writeFile(t, "1", argon2(t, "alice", "one"))
	second := writeFile(t, "2", argon2(t, "alice", "two")+argon2(t, "bob", "b")+scramLine(t, "carol", "c"))
	a := open(t, Config{Sources: passwordSources(first, second)})
	c := Client{Listener: "plain"}
	expect(t, a, c, connect("alice", []byte("one")), mqtt.Success, "alice")
	expect(t, a, c, connect("alice", []byte("two")), mqtt.BadUserNameOrPassword, "") // the first that knows her decides
	expect(t, a, c, connect("bob", []byte("b")), mqtt.Success, "bob")
	expect(t, a, c, connect("carol", []byte("c")), mqtt.Success, "carol")
	expect(t, a, c, connect("carol", []byte("d")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, c, connect("dave", []byte("b")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, c, connect("bob", []byte{}), mqtt.BadUserNameOrPassword, "")
	empty := open(t, Config{Sources: passwordSources(writeFile(t, "3", "# nobody\n"))})
	expect(t, empty, c, connect("bob", []byte("b")), mqtt.BadUserNameOrPassword, "")
}

// TestUnknownUsersCostAHash: else the time of an answer tells who exists.
func TestUnknownUsersCostAHash(t *testing.T) {
	hash, err := passwords.HashArgon2([]byte("x"), passwords.Argon2Params{Memory: 32 << 10, Time: 2, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, Config{Sources: passwordSources(writeFile(t, "p", "alice:"+hash+"\n"))})
	took := func(user string) time.Duration {
		start := time.Now()
		expect(t, a, Client{}, connect(user, []byte("wrong")), mqtt.BadUserNameOrPassword, "")
		return time.Since(start)
	}
	known, unknown := time.Hour, time.Hour
	for range 3 { // by turns: what slows the machine down for a while slows both
		known, unknown = min(known, took("alice")), min(unknown, took("nobody"))
	}
	if unknown < known/10 { // without a hash it would be a thousandth
		t.Errorf("a known user takes %s, an unknown one %s", known, unknown)
	}
}

func TestHashesWaitForTheirTurn(t *testing.T) {
	a := open(t, Config{MaxHashes: 1, Sources: passwordSources(writeFile(t, "p", argon2(t, "alice", "secret")))})
	turns := a.state.Load().hashes
	turns.take(context.Background()) // somebody's hash is being computed
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code, _ := a.Login(Client{}).Step(ctx, connect("alice", []byte("secret"))); code != mqtt.ServerUnavailable {
		t.Errorf("a client that left gets %s", code)
	}
	done := make(chan mqtt.ReasonCode)
	go func() {
		code, _ := a.Login(Client{}).Step(context.Background(), connect("alice", []byte("secret")))
		done <- code
	}()
	select {
	case code := <-done:
		t.Errorf("%s without a turn", code)
	case <-time.After(20 * time.Millisecond):
	}
	turns.give()
	if code := <-done; code != mqtt.Success {
		t.Errorf("after its turn: %s", code)
	}
}

func TestReload(t *testing.T) {
	path := writeFile(t, "users", argon2(t, "alice", "old"))
	c := Config{Sources: passwordSources(path)}
	a := open(t, c)
	if err := os.WriteFile(path, []byte(argon2(t, "alice", "new")+"bob:hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := a.Reload(c)
	if err == nil || !strings.Contains(err.Error(), "users:2: ") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v, want one with the line and without the password", err)
	}
	expect(t, a, Client{}, connect("alice", []byte("old")), mqtt.Success, "alice")
	if err := os.WriteFile(path, []byte(argon2(t, "alice", "new")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(c); err != nil {
		t.Fatal(err)
	}
	expect(t, a, Client{}, connect("alice", []byte("old")), mqtt.BadUserNameOrPassword, "")
	expect(t, a, Client{}, connect("alice", []byte("new")), mqtt.Success, "alice")
	if err := a.Reload(Config{MaxHashes: -1}); err == nil {
		t.Error("a wrong configuration is taken over")
	}
	os.Remove(path)
	if err := a.Reload(c); err == nil {
		t.Error("a missing file is taken over")
	}
	expect(t, a, Client{}, connect("alice", []byte("new")), mqtt.Success, "alice")
}

func TestAPasswordFileThatAllCanReadIsToldOf(t *testing.T) {
	path := writeFile(t, "users", "")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	open(t, Config{Sources: passwordSources(path)}, WithLog(slog.New(slog.NewTextHandler(&b, nil))))
	if !strings.Contains(b.String(), "0600") {
		t.Errorf("the log says %q", b.String())
	}
}

// guarded makes an Authenticator with a guard that locks out after so many failures, and their log.
func guarded(t *testing.T, c Config, failures int) (*Authenticator, *guard.Guard, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	g, err := guard.New(guard.Config{Failures: failures, Delay: time.Nanosecond, MaxDelay: time.Nanosecond},
		guard.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, c, WithGuard(g)), g, log
}

func TestGuessersAreLockedOut(t *testing.T) {
	a, g, log := guarded(t, Config{Sources: passwordSources(writeFile(t, "p", argon2(t, "alice", "secret")))}, 3)
	c := Client{Listener: "tls", Address: remote}
	for i := range 3 {
		expect(t, a, c, connect("alice", fmt.Appendf(nil, "hunter%d", i)), mqtt.BadUserNameOrPassword, "")
	}
	expect(t, a, c, connect("alice", []byte("secret")), mqtt.Banned, "")
	expect(t, a, Client{Address: netip.MustParseAddrPort("203.0.113.8:1")}, connect("alice", []byte("secret")), mqtt.Success, "alice")
	want := `msg="login failed" address=203.0.113.7 listener=tls user=alice client_id=c1 reason="wrong password"`
	if strings.Count(log.String(), want) != 3 || strings.Contains(log.String(), "hunter") {
		t.Errorf("the log is\n%s", log)
	}
	if s := g.Stats(); s != (guard.Stats{Failures: 3, Lockouts: 1, Refused: 1, Locked: 1}) {
		t.Errorf("statistics %+v", s)
	}
}

// TestBeingRightDoesNotCountAfterALockout: many guesses at once would else be free.
func TestBeingRightDoesNotCountAfterALockout(t *testing.T) {
	a, g, _ := guarded(t, Config{Sources: passwordSources(writeFile(t, "p", argon2(t, "alice", "secret")))}, 1)
	turns := a.state.Load().hashes
	for range cap(turns) {
		turns.take(context.Background())
	}
	done := make(chan mqtt.ReasonCode)
	inside := make(chan struct{})
	go func() {
		ctx := &signalling{Context: context.Background(), seen: inside}
		code, _ := a.Login(Client{Address: remote}).Step(ctx, connect("alice", []byte("secret")))
		done <- code
	}()
	<-inside // it has passed the first look, and waits for its turn
	g.Failed(context.Background(), guard.Failure{Address: remote.Addr()})
	turns.give()
	if code := <-done; code != mqtt.Banned {
		t.Errorf("right, but locked out meanwhile: %s", code)
	}
}

// signalling tells when somebody looks whether it has ended.
type signalling struct {
	context.Context
	once sync.Once
	seen chan struct{}
}

func (s *signalling) Err() error {
	s.once.Do(func() { close(s.seen) })
	return s.Context.Err()
}

func TestUnknownMethodAndStages(t *testing.T) {
	a := open(t, Config{Anonymous: []string{""}[:0]})
	for _, c := range []struct {
		r    abi.AuthRequest
		code mqtt.ReasonCode
	}{
		{abi.AuthRequest{Stage: abi.AuthConnect, Method: "KERBEROS"}, mqtt.BadAuthenticationMethod},
		{abi.AuthRequest{Stage: abi.AuthConnect, Method: scramMethod}, mqtt.BadAuthenticationMethod}, // there is no password file
		{abi.AuthRequest{Stage: abi.AuthReconnect}, mqtt.BadAuthenticationMethod},
		{abi.AuthRequest{Stage: abi.AuthContinue, Method: scramMethod}, mqtt.ProtocolError},
		{abi.AuthRequest{}, mqtt.BadAuthenticationMethod},
	} {
		if code, _ := a.Login(Client{}).Step(context.Background(), &c.r); code != c.code {
			t.Errorf("%+v: %s, want %s", c.r, code, c.code)
		}
	}
	if m := a.Methods(); m != nil {
		t.Errorf("methods %v without a password file", m)
	}
}
