package server_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/internal/metrics"
	"github.com/vouchmq/vouchmq/internal/samples"
	"github.com/vouchmq/vouchmq/internal/server"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// spoiledStore returns a store with a document that cannot be used, so that it is asked for at once.
func spoiledStore(t *testing.T) *collateral.Store {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sgx-qe.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	store, err := collateral.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

const qeIdentityPath = "/sgx/certification/v4/qe/identity"

// startKeeping starts a broker that refreshes store from a service.
func startKeeping(t *testing.T, store *collateral.Store, refresh time.Duration, now time.Time, service http.HandlerFunc) *rig {
	t.Helper()
	pcs := httptest.NewServer(service)
	t.Cleanup(pcs.Close)
	return startConfigured(t, server.Native,
		func(o *server.DevelopmentOptions) { o.Sight.Metrics = metrics.Config{Address: "127.0.0.1:0"} },
		func(c *server.Config) {
			c.Clock = func() time.Time { return now }
			c.Collateral = server.Collateral{
				Store: store, Refresh: refresh, Every: 10 * time.Millisecond,
				Client: &collateral.Client{HTTP: pcs.Client(), PCS: pcs.URL, RootCRL: pcs.URL + "/root.der"},
			}
		})
}

// TestCollateralIsRefreshed: the broker asks the service for what it cannot use, takes nothing that Intel has not signed, and says so.
func TestCollateralIsRefreshed(t *testing.T) {
	asked := make(chan string, 1024)
	store := spoiledStore(t)
	r := startKeeping(t, store, time.Hour, time.Now(), func(w http.ResponseWriter, q *http.Request) {
		select {
		case asked <- q.URL.Path:
		default:
		}
		w.Header().Set("SGX-Enclave-Identity-Issuer-Chain", "none")
		fmt.Fprint(w, `{"enclaveIdentity":{},"signature":"00"}`)
	})
	Await(t, "two requests", func() bool { return len(asked) > 1 })
	if path := <-asked; path != qeIdentityPath {
		t.Error("asked for", path)
	}
	Await(t, "a warning", func() bool { return strings.Contains(r.log.String(), "collateral could not be refreshed") })
	_, body := get(t, "http://"+r.MetricsAddr()+"/metrics")
	if !strings.Contains(body, `vouchmq_collateral_usable{document="sgx-qe"} 0`) || strings.Contains(body, "collateral_expiry_time_seconds{") {
		t.Error(body)
	}
	if r.WarnExpiring(time.Now()) == 0 || !strings.Contains(r.log.String(), "COLLATERAL EXPIRES SOON") {
		t.Error("no warning of a document that cannot be used")
	}
}

// TestCollateralThatOthersFill: without refresh nothing is asked, and what comes into the directory is seen.
func TestCollateralThatOthersFill(t *testing.T) {
	store := spoiledStore(t)
	r := startKeeping(t, store, 0, time.Now(), func(http.ResponseWriter, *http.Request) { t.Error("the service was asked") })
	if err := os.Rename(filepath.Join(store.Dir(), "sgx-qe.json"), filepath.Join(store.Dir(), "tdx-qe.json")); err != nil {
		t.Fatal(err)
	}
	Await(t, "the other file in the metrics", func() bool {
		_, body := get(t, "http://"+r.MetricsAddr()+"/metrics")
		return strings.Contains(body, `vouchmq_collateral_usable{document="tdx-qe"} 0`)
	})
}

// TestPublishedCollateral: what Intel has signed is taken.
func TestPublishedCollateral(t *testing.T) {
	data := samples.Read(t, "sgx/dcap-qvl/sgx_quote_collateral.json")
	var published map[string]string
	if err := json.Unmarshal(data, &published); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2025, 6, 25, 0, 0, 0, 0, time.UTC)
	r := startKeeping(t, spoiledStore(t), time.Hour, now, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("SGX-Enclave-Identity-Issuer-Chain", url.PathEscape(published["qe_identity_issuer_chain"]))
		fmt.Fprintf(w, `{"enclaveIdentity":%s,"signature":"%s"}`, published["qe_identity"], published["qe_identity_signature"])
	})
	Await(t, "a document that can be used", func() bool {
		_, body := get(t, "http://"+r.MetricsAddr()+"/metrics")
		return strings.Contains(body, `vouchmq_collateral_usable{document="sgx-qe"} 1`) &&
			strings.Contains(body, `vouchmq_collateral_expiry_time_seconds{document="sgx-qe"} 1.752919278e+09`)
	})
	if n := r.WarnExpiring(now); strings.Contains(r.log.String(), "COLLATERAL EXPIRES") {
		t.Error("warned of what is good", n)
	}
}

const collateralSettings = goodFile + `
attestation: { collateral: { directory: collateral, refresh: 0s } }
`

// TestCollateralOfAFile: the directory is made and its store used; a reload keeps it, and refuses another.
func TestCollateralOfAFile(t *testing.T) {
	path := writeFiles(t, collateralSettings)
	opened, err := openFile(path, server.Opening{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(path), "collateral")
	if c := opened.Config.Collateral; c.Store == nil || c.Store.Dir() != dir || c.Refresh != 0 {
		t.Fatalf("%+v", c)
	}
	s, err := readSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := opened.Reopen(s, time.Now())
	if err != nil || again.Config.Collateral != opened.Config.Collateral || again.Config.Registry != opened.Config.Registry {
		t.Error("a reload has another store:", err)
	}
	s.Attestation.Collateral.Refresh = time.Hour
	if _, err := opened.Reopen(s, time.Now()); err == nil || !strings.Contains(err.Error(), "attestation.collateral") {
		t.Error(err)
	}
	s.Attestation.Collateral.Refresh = 0
	if problems := server.Check(s, server.Opening{Now: time.Now(), Dir: filepath.Dir(path)}); len(problems) != 0 {
		t.Error(problems)
	}
	if err := os.WriteFile(filepath.Join(dir, "tdx-qe.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if problems := server.Check(s, server.Opening{Now: time.Now(), Dir: filepath.Dir(path)}); len(problems) != 1 || !strings.Contains(problems.Error(), "tdx-qe") {
		t.Error(problems)
	}
	if err := os.WriteFile(filepath.Join(dir, "seen.json"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFile(path, server.Opening{Now: time.Now()}); err == nil || !strings.Contains(err.Error(), "attestation.collateral.directory") {
		t.Error(err)
	}
}

// recorded is an attester that shows a quote of before.
type recorded []byte

func (recorded) Platform() attest.Platform { return attest.SGX }

func (r recorded) Attest(context.Context, attest.ReportData) (attest.Quote, error) {
	return attest.Quote{Platform: attest.SGX, Data: r}, nil
}

// TestVerifiersUseTheStore: what the store has for a quote's platform counts, here something that cannot be used.
func TestVerifiersUseTheStore(t *testing.T) {
	quote := samples.Read(t, "sgx/dcap-qvl/sgx_quote")
	path := writeFiles(t, collateralSettings)
	opened, err := openFile(path, server.Opening{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for _, ending := range []string{".json", ".pem"} {
		if err := os.WriteFile(filepath.Join(opened.Config.Collateral.Store.Dir(), "sgx-tcb-00A067110000"+ending), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	purpose, claims := attest.PurposeConnection, &attest.Claims{Binding: attest.Binding{Role: attest.RoleServer, Service: "plant.example"}}
	encoded, err := attest.Make(t.Context(), recorded(quote), purpose, claims, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := attest.DecodeEvidence(encoded)
	if err != nil {
		t.Fatal(err)
	}
	_, err = opened.Config.Registry.Verify(t.Context(), evidence, purpose, claims.Binding, time.Date(2025, 6, 25, 0, 0, 0, 0, time.UTC))
	if err == nil || !strings.Contains(err.Error(), "sgx-tcb-00A067110000") {
		t.Error("the store was not asked:", err)
	}
}
