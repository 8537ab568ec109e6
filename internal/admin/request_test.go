package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func do(t *testing.T, h http.Handler, method, target, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	h := NewHandler(Options{Broker: newFake(), Log: quiet()})
	long := strings.Repeat("x", 70_000)
	for _, c := range []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/v1/status?colour=red", "", 400},
		{"GET", "/v1/clients?limit=1&limit=2", "", 400},
		{"GET", "/v1/clients?limit=1001", "", 400},
		{"GET", "/v1/clients?limit=-1", "", 400},
		{"GET", "/v1/clients?cursor=4294967296", "", 400},
		{"GET", "/v1/clients?name=%ff", "", 400},
		{"GET", "/v1/clients?%zz", "", 400},
		{"GET", "/v1/clients?name=" + long, "", 400},
		{"GET", "/v1/clients?limit=0", "", 200},
		{"GET", "/v1/retained?filter=a%23", "", 400},
		{"GET", "/v1/client", "", 400},
		{"GET", "/", "", 404},
		{"GET", "/v1/client/pump-0", "", 404},
		{"GET", "/v1/reload", "", 405},
		{"POST", "/v1/status", "", 405},
		{"DELETE", "/v1/clients", "", 405},
		{"POST", "/v1/client/disconnect", "", 400},
		{"POST", "/v1/client/disconnect", "[]", 400},
		{"POST", "/v1/client/disconnect", "{}", 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"pump-0","colour":1}`, 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"pump-0"} {}`, 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"pump-0","reason":256}`, 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"` + long + `"}`, 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"` + strings.Repeat(long, 4) + `"}`, 400},
		{"POST", "/v1/client/disconnect", `{"client_id":"pump-0"}`, 200},
		{"POST", "/v1/reload", `{"file":"x"}`, 400},
		{"POST", "/v1/reload", ``, 200},
		{"POST", "/v1/unlock", "", 400},
		{"POST", "/v1/unlock", `{"address":"203.0.113.0/24"}`, 400},
		{"POST", "/v1/unlock", `{"address":"203.0.113.8"}`, 422},
		{"POST", "/v1/unlock", `{"address":"203.0.113.7"}`, 200},
		{"POST", "/v1/log-level", `{"level":"info"}`, 501},
		{"POST", "/v1/retained/clear", `{"filter":""}`, 400},
	} {
		status, body := do(t, h, c.method, c.target, c.body)
		if status != c.status {
			t.Errorf("%s %.60s %.60s: %d %s", c.method, c.target, c.body, status, body)
		}
		if len(body) > 2000 && status != 200 {
			t.Errorf("%s %.60s: an error of %d bytes", c.method, c.target, len(body))
		}
	}
}

// FuzzRequest sends arbitrary requests: each has an answer in JSON, and none reaches what it does not name.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"status", "clients", "client", "subscriptions", "retained", "log-level"} {
		f.Add(false, "/v1/"+path, "limit=3&cursor=1&name=*1*&state=offline&filter=a/%23&id=x&client=y", "")
	}
	for _, path := range []string{"client/disconnect", "client/forget", "retained/clear", "reload", "log-level", "drain", "stop"} {
		f.Add(true, "/v1/"+path, "", `{"client_id":"x","reason":152,"filter":"#","level":"debug","server_reference":"b"}`)
	}
	h := NewHandler(Options{Broker: newFake(), Log: quiet()})
	f.Fuzz(func(t *testing.T, post bool, path, query, body string) {
		method := http.MethodGet
		if post {
			method = http.MethodPost
		}
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		status, answer := do(t, h, method, path+"?"+query, body)
		if status >= 300 && status < 400 { // to the clean form of the path
			return
		}
		if !json.Valid([]byte(answer)) || status != 200 && !strings.HasPrefix(answer, `{"error":{"code":"`) {
			t.Errorf("%s %q ? %q %q: %d %s", method, path, query, body, status, answer)
		}
	})
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "x", true}, {"", "", true}, {"", "x", false}, {"a*c", "abc", true}, {"a*c", "ac", true},
		{"a*c", "abcd", false}, {"?", "ä", true}, {"?", "", false}, {"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false},
		{"a**b", "ab", true}, {"a/*", "a/b/c", true}, {"*aab", "aaaaab", true}, {"[a]", "a", false}, {"[a]", "[a]", true},
	} {
		if got := matches(c.pattern, c.name); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.name, got)
		}
	}
	matches(strings.Repeat("*a", 1000)+"b", strings.Repeat("a", 10_000)) // ends in good time
}
