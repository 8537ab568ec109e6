package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/internal/mqtt"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

// service answers with a fixed text, and keeps what it was asked.
type service struct {
	status int
	answer string

	mu    sync.Mutex
	asked []string
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.Header.Get("Content-Type")+" "+string(body))
	if s.status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	if s.status != 0 {
		w.WriteHeader(s.status)
	}
	io.WriteString(w, s.answer)
}

func (s *service) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func ask(t *testing.T, c HTTP, options ...Option) *Authenticator {
	t.Helper()
	return open(t, Config{Sources: []Source{{HTTP: &c}}}, options...)
}

func TestHTTPAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		answer string
		code   mqtt.ReasonCode
		user   string
	}{
		{0, `{"result":"allow"}`, mqtt.Success, "alice"},
		{0, `{"result":"allow","user":"alice@plant","more":[1]}`, mqtt.Success, "alice@plant"},
		{0, `{"result":"deny"}`, mqtt.BadUserNameOrPassword, ""},
		{0, `{"result":"ignore"}`, mqtt.BadUserNameOrPassword, ""},
		{0, `{"result":"ALLOW"}`, mqtt.ServerUnavailable, ""},
		{0, `{}`, mqtt.ServerUnavailable, ""},
		{0, ``, mqtt.ServerUnavailable, ""},
		{0, `{"result":"allow"} {"result":"deny"}`, mqtt.ServerUnavailable, ""},
		{0, `{"result":"allow","user":7}`, mqtt.ServerUnavailable, ""},
		{0, `{"result":"allow","user":"a\u0000b"}`, mqtt.ServerUnavailable, ""},
		{0, `{"result":"allow","pad":"` + strings.Repeat("x", 5000) + `"}`, mqtt.ServerUnavailable, ""},
		{500, `{"result":"allow"}`, mqtt.ServerUnavailable, ""},
		{401, `{"result":"allow"}`, mqtt.ServerUnavailable, ""},
		{204, ``, mqtt.ServerUnavailable, ""},
		{302, `{"result":"allow"}`, mqtt.ServerUnavailable, ""},
	} {
		s := &service{status: c.status, answer: c.answer}
		expect(t, ask(t, HTTP{URL: serve(t, s)}), Client{}, connect("alice", []byte("pw")), c.code, c.user)
		if n := len(s.questions()); n != 1 {
			t.Errorf("%d %s: %d questions", c.status, c.answer, n)
		}
	}
}

func TestHTTPQuestion(t *testing.T) {
	s := &service{answer: `{"result":"allow"}`}
	a := ask(t, HTTP{URL: serve(t, s)})
	expect(t, a, Client{Listener: "tls", Address: remote}, connect("al\"ice", []byte("pw")), mqtt.Success, "al\"ice")
	expect(t, a, Client{Listener: "unix"}, connect("", []byte{0xff, 0}), mqtt.Success, "")
	expect(t, a, Client{}, connect("", nil), mqtt.NotAuthorized, "") // nothing to ask about
	want := []string{
		`POST application/json {"client_id":"c1","user":"al\"ice","password":"pw","listener":"tls","address":"203.0.113.7","port":4711}`,
		`POST application/json {"client_id":"c1","password_base64":"/wA=","listener":"unix"}`,
	}
	if got := s.questions(); !reflect.DeepEqual(got, want) {
		t.Errorf("asked:\n%s", strings.Join(got, "\n"))
	}
}

func TestHTTPIgnoreAsksTheNext(t *testing.T) {
	url := serve(t, &service{answer: `{"result":"ignore"}`})
	broken := serve(t, &service{status: 500})
	file := writeFile(t, "p", argon2(t, "alice", "secret"))
	next := Source{Passwords: &Passwords{File: file}}
	a := open(t, Config{Sources: []Source{{HTTP: &HTTP{URL: url}}, next}})
	expect(t, a, Client{}, connect("alice", []byte("secret")), mqtt.Success, "alice")
	b := open(t, Config{Sources: []Source{{HTTP: &HTTP{URL: broken}}, next}})
	expect(t, b, Client{}, connect("alice", []byte("secret")), mqtt.ServerUnavailable, "")
}

func TestHTTPTroubleIsLoggedNowAndThen(t *testing.T) {
	var b bytes.Buffer
	clock := newHandClock()
	a := ask(t, HTTP{URL: serve(t, &service{status: 503})}, WithClock(clock), WithLog(slog.New(slog.NewTextHandler(&b, nil))))
	for range 5 {
		expect(t, a, Client{}, connect("alice", []byte("hunter2")), mqtt.ServerUnavailable, "")
	}
	clock.pass(troubleInterval)
	expect(t, a, Client{}, connect("alice", []byte("hunter2")), mqtt.ServerUnavailable, "")
	text := b.String()
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, "503") || !strings.Contains(text, "not_logged=4") || strings.Contains(text, "hunter2") {
		t.Errorf("the log is\n%s", text)
	}
}

// TestHTTPIsBounded has a service that keeps all waiting: only so many are asked about at once.
func TestHTTPIsBounded(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for n, m := now.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		now.Add(-1)
		io.WriteString(w, `{"result":"allow"}`)
	}))
	a := ask(t, HTTP{URL: url, MaxRequests: 2, Timeout: time.Minute})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { expect(t, a, Client{}, connect("alice", []byte("x")), mqtt.Success, "alice") })
	}
	testkit.Await(t, "two questions at once", func() bool { return most.Load() == 2 })
	close(release)
	all.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d questions at once", n)
	}
}

func TestHTTPReadsNoEndlessAnswer(t *testing.T) {
	const timeout = 20 * time.Second
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(bytes.Repeat([]byte(" "), 1024))
		}
	}))
	start := time.Now()
	expect(t, ask(t, HTTP{URL: url, Timeout: timeout}), Client{}, connect("alice", []byte("x")), mqtt.ServerUnavailable, "")
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("it was read for %s", took)
	}
}

func TestHTTPTakesNoLongerThanItsTimeout(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer close(release)
	a := ask(t, HTTP{URL: url, MaxRequests: 1, Timeout: 50 * time.Millisecond})
	var all sync.WaitGroup
	for range 3 { // one is asked about, the others wait for their turn
		all.Go(func() { expect(t, a, Client{}, connect("alice", []byte("x")), mqtt.ServerUnavailable, "") })
	}
	all.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code, _ := a.Login(Client{}).Step(ctx, connect("alice", []byte("x"))); code != mqtt.ServerUnavailable {
		t.Errorf("for a client that left: %s", code)
	}
}

// TestHTTPOverTLS has both sides verify each other.
func TestHTTPOverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(&service{answer: `{"result":"allow"}`})
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := file("c.pem", "CERTIFICATE", server.Certificate().Raw), file("k.pem", "PRIVATE KEY", der)
	good := HTTP{URL: server.URL, CA: certificate, Certificate: certificate, Key: key}
	expect(t, ask(t, good), Client{}, connect("alice", []byte("x")), mqtt.Success, "alice")
	expect(t, ask(t, HTTP{URL: server.URL, CA: certificate}), Client{}, connect("alice", []byte("x")), mqtt.ServerUnavailable, "")
	expect(t, ask(t, HTTP{URL: server.URL, Certificate: certificate, Key: key}), Client{}, connect("alice", []byte("x")), mqtt.ServerUnavailable, "")
	for _, bad := range []HTTP{{URL: server.URL, CA: key}, {URL: server.URL, CA: dir + "/none"}, {URL: server.URL, Certificate: key, Key: key}} {
		if _, err := New(Config{Sources: []Source{{HTTP: &bad}}}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func FuzzHTTPAnswer(f *testing.F) {
	f.Add([]byte(`{"result":"allow","user":"alice"}`))
	f.Add([]byte(`{"result":"deny"}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer(text)
		if err != nil {
			return
		}
		var m map[string]any
		if json.Unmarshal(text, &m) != nil || a.User != "" && !validUser(a.User) {
			t.Errorf("%q is accepted as %+v", text, a)
		}
		if v := a.verdict(&question{&Client{}, connect("bob", nil)}); v.opinion == accepts && v.user == "" {
			t.Errorf("%q accepts nobody", text)
		}
	})
}
