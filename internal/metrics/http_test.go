package metrics

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T, o Options) string {
	t.Helper()
	o.Address, o.Now = "127.0.0.1:0", time.Now
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	s, err := Listen(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestScrape(t *testing.T) {
	url := listen(t, Options{Source: &fakeSource{snapshot: sample()}})
	status, body := request(t, http.MethodGet, url+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("status %d: %s", status, body)
	}
	for _, line := range []string{
		`vouchmq_build_info{go_version="go1",version="v1"} 1`,
		`vouchmq_attestation_info{config="c",engine="native",module="sha384:00",runtime="r",tee="sim"} 1`,
		`vouchmq_attestation_simulated 1`,
		`vouchmq_start_time_seconds 1.7e+09`,
		`vouchmq_certificate_expiry_time_seconds 1.7000108e+09`,
		`vouchmq_certificate_renewal_due 1`,
		`vouchmq_collateral_usable{document="tdx-qe"} 1`,
		`vouchmq_collateral_usable{document="root"} 0`,
		`vouchmq_collateral_expiry_time_seconds{document="tdx-qe"} 1.7000036e+09`,
		`vouchmq_core_responding 1`,
		`vouchmq_sessions 5`,
		`vouchmq_messages_dropped_total{reason="backlog"} 8`,
		`vouchmq_messages_dropped_total{reason="expired"} 4`,
		`vouchmq_limits_met_total{limit="connections"} 21`,
		`vouchmq_limits_met_total{limit="memory"} 3`, // of core and host together
		`vouchmq_limits_met_total{limit="queue"} 0`,
		`vouchmq_guard_events_total{event="failures"} 6`,
		`vouchmq_step_duration_seconds_bucket{le="1.6e-05"} 10`, // steps shorter than 8 µs
		`vouchmq_step_duration_seconds_bucket{le="6.4e-05"} 30`,
		`vouchmq_step_duration_seconds_bucket{le="16.777216"} 30`,
		`vouchmq_step_duration_seconds_bucket{le="+Inf"} 31`,
		`vouchmq_step_duration_seconds_sum 3`,
		`vouchmq_received_bytes_total 300`,
	} {
		if !strings.Contains(body, "\n"+line+"\n") {
			t.Errorf("there is no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	source := &fakeSource{snapshot: sample()}
	var notReady error
	url := listen(t, Options{Source: source, Ready: func() error { return notReady }})
	check := func(path string, status int, text string) {
		t.Helper()
		if got, body := request(t, http.MethodGet, url+path); got != status || !strings.Contains(body, text) {
			t.Errorf("%s: %d %q", path, got, body)
		}
	}
	check("/healthz", 200, "ok")
	check("/readyz", 200, "ok")
	notReady = errors.New("the broker drains")
	check("/readyz", 503, "drains")
	check("/healthz", 200, "ok")
	check("/", 404, "")
	check("/metrics/more", 404, "")
}

func TestHealthOfACoreThatHangs(t *testing.T) {
	url := listen(t, Options{Source: &fakeSource{hang: true}})
	began := time.Now()
	status, body := request(t, http.MethodGet, url+"/healthz")
	if status != 503 || !strings.Contains(body, "within a second") {
		t.Errorf("%d %q", status, body)
	}
	if took := time.Since(began); took > 30*time.Second { // it would never answer
		t.Errorf("it took %v", took)
	}
}

func TestOnlyReadingIsAnswered(t *testing.T) {
	url := listen(t, Options{Source: &fakeSource{snapshot: sample()}})
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if status, body := request(t, http.MethodHead, url+path); status != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "TRACE"} {
			if status, _ := request(t, method, url+path); status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	url := listen(t, Options{Source: &fakeSource{}})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)) // the other side may have closed
	}()
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("%q, error %v", answer, err)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"": true, "127.0.0.1:0": true, "[::1]:9464": true, "localhost:1": true, "127.9.9.9:1": true,
		":9464": false, "0.0.0.0:9464": false, "[::]:1": false, "192.0.2.1:1": false, "example.org:1": false,
	} {
		err := Config{Address: address}.Check()
		if (err == nil) != want || err != nil && !errors.Is(err, ErrBeyondLoopback) {
			t.Errorf("%q: %v", address, err)
		}
		if err := (Config{Address: address, Insecure: true}).Check(); err != nil {
			t.Errorf("%q, insecure: %v", address, err)
		}
	}
	if err := (Config{Address: "9464", Insecure: true}).Check(); err == nil || errors.Is(err, ErrBeyondLoopback) {
		t.Errorf("no host:port: %v", err)
	}
	if _, err := Listen(context.Background(), Options{Config: Config{Address: ":0"}}); !errors.Is(err, ErrBeyondLoopback) {
		t.Errorf("listen beyond loopback: %v", err)
	}
}
