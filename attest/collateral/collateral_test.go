package collateral_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	. "github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
)

var need = collateral.Need{TEE: collateral.TDX, FMSPC: FMSPC, CA: collateral.CAPlatform}

// service is Intel's service: the answers by path and query.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]answer
	asked   []string
}

type answer struct {
	status        int
	header, chain string
	body          []byte
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.RequestURI())
	a, ok := s.answers[r.URL.RequestURI()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if a.header != "" {
		w.Header().Set(a.header, url.PathEscape(a.chain))
	}
	w.WriteHeader(max(a.status, http.StatusOK))
	_, _ = w.Write(a.body) // the client may have gone
}

const (
	tcbPath     = "/tdx/certification/v4/tcb?fmspc=B0C06F000000"
	qePath      = "/tdx/certification/v4/qe/identity"
	pckPath     = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
	rootPath    = "/root.der"
	earlySuffix = "&update=early"
)

func newService(t *testing.T, w *World, c Collateral) (*service, *collateral.Client) {
	t.Helper()
	s := &service{answers: map[string]answer{}}
	s.serve(w, c)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s, &collateral.Client{HTTP: s.Client(), PCS: s.URL, RootCRL: s.URL + rootPath}
}

func (s *service) serve(w *World, c Collateral) {
	d := w.Documents(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[tcbPath] = answer{header: "TCB-Info-Issuer-Chain", chain: string(d.TCBInfo.Chain), body: d.TCBInfo.JoinTCBInfo()}
	s.answers[qePath] = answer{header: "SGX-Enclave-Identity-Issuer-Chain", chain: string(d.QEIdentity.Chain), body: d.QEIdentity.JoinQEIdentity()}
	s.answers[pckPath] = answer{header: "SGX-PCK-CRL-Issuer-Chain", chain: string(d.PCKCRLChain), body: d.PCKCRL}
	s.answers[rootPath] = answer{body: d.RootCRL}
}

func open(t *testing.T, dir string, w *World) *collateral.Store {
	t.Helper()
	s, err := collateral.OpenUnder(dir, w.Trust())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fetch(t *testing.T, s *collateral.Store, c *collateral.Client) {
	t.Helper()
	if err := s.Fetch(context.Background(), c, need, Now); err != nil {
		t.Fatal(err)
	}
}

func appraise(w *World, s *collateral.Store, q attest.Quote, now time.Time) *dcap.Report {
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust(), Source: s}
	return v.Appraise(q, now)
}

// TestOffline: what was fetched once verifies quotes from the directory alone, and travels in evidence.
func TestOffline(t *testing.T) {
	w, dir := New(t), t.TempDir()
	service, client := newService(t, w, Collateral{})
	fetch(t, open(t, dir, w), client)
	service.Close()
	s := open(t, dir, w)
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	if r := appraise(w, s, q, Now); r.Err != nil || r.Origin != dcap.OriginStore || !r.CRLs {
		t.Error(r.Err, r.Origin)
	}
	if r := appraise(w, s, q, Now.AddDate(0, 0, 20)); !errors.Is(r.Err, dcap.FaultExpired) || !strings.Contains(r.Err.Error(), "2026-02-04") {
		t.Error("stale:", r.Err)
	}
	endorsements, err := s.Endorsements(need)
	if err != nil {
		t.Fatal(err)
	}
	v := &dcap.Verifier{TEE: dcap.TDX, Root: w.Trust()}
	if r := v.Appraise(attest.Quote{Data: q.Data, Endorsements: endorsements}, Now); r.Err != nil || r.Origin != dcap.OriginEvidence {
		t.Error(r.Err)
	}
	list, err := s.List(Now)
	if err != nil || len(list) != 4 || s.MinEvaluation(dcap.TDX) != Evaluation || s.MinEvaluation(dcap.SGX) != 0 {
		t.Error(list, err)
	}
	for _, e := range list {
		if e.Err != nil || !e.Expires.Equal(Now.AddDate(0, 0, 20)) {
			t.Errorf("%+v", e)
		}
	}
}

// TestNothing: a store that knows nothing of a platform leaves the word to the evidence; one that lacks a part says which.
func TestNothing(t *testing.T) {
	w, dir := New(t), t.TempDir()
	_, client := newService(t, w, Collateral{})
	s := open(t, dir, w)
	q := attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: w.Endorsements(Collateral{})}
	if r := appraise(w, s, q, Now); r.Err != nil || r.Origin != dcap.OriginEvidence {
		t.Error(r.Err)
	}
	if e, err := s.Endorsements(need); e != nil || err != nil {
		t.Error(err)
	}
	fetch(t, s, client)
	for _, file := range []string{"tdx-qe.json", "pck-platform.crl", "root.crl"} {
		fetch(t, s, client)
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if r := appraise(w, s, q, Now); !errors.Is(r.Err, dcap.FaultNoCollateral) {
			t.Errorf("without %s: %v", file, r.Err)
		}
	}
}

// TestRollback: the highest number is remembered, also by another process, and whatever becomes of the files.
func TestRollback(t *testing.T) {
	w, dir := New(t), t.TempDir()
	s := open(t, dir, w)
	service, client := newService(t, w, Collateral{TCBInfo: Set("tcbEvaluationDataNumber", 18)})
	fetch(t, s, client)
	service.serve(w, Collateral{}) // 17
	again := open(t, dir, w)
	for name, s := range map[string]*collateral.Store{"same": s, "reopened": again} {
		if err := s.Fetch(context.Background(), client, need, Now); !errors.Is(err, dcap.FaultRollback) || !errors.Is(err, attest.ErrFreshness) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// By hand.
	if err := os.WriteFile(filepath.Join(dir, "tdx-tcb-B0C06F000000.json"), w.Documents(Collateral{}).TCBInfo.JoinTCBInfo(), 0o644); err != nil {
		t.Fatal(err)
	}
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	if r := appraise(w, again, q, Now); !errors.Is(r.Err, dcap.FaultRollback) {
		t.Error(r.Err)
	}
	// In evidence, where the store has nothing.
	if err := os.Remove(filepath.Join(dir, "tdx-tcb-B0C06F000000.json")); err != nil {
		t.Fatal(err)
	}
	q.Endorsements = w.Endorsements(Collateral{})
	if r := appraise(w, open(t, dir, w), q, Now); !errors.Is(r.Err, dcap.FaultRollback) || r.Origin != dcap.OriginEvidence {
		t.Error(r.Err)
	}
}

// TestRollbackOfRevocationLists: a list that was issued before one that has been seen is refused, though it is valid: it may name fewer.
func TestRollbackOfRevocationLists(t *testing.T) {
	newer := func(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(time.Second) }
	older := func(l *x509.RevocationList) { l.Number = big.NewInt(9) } // which counts for nothing
	for name, lists := range map[string]struct {
		file         string
		newer, older Collateral
	}{
		"PCK":  {"pck-platform.crl", Collateral{PCKCRL: newer}, Collateral{PCKCRL: older}},
		"root": {"root.crl", Collateral{RootCRL: newer}, Collateral{RootCRL: older}},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := New(t), t.TempDir()
			service, client := newService(t, w, lists.newer)
			s := open(t, dir, w)
			fetch(t, s, client)
			fetch(t, s, client) // the same again is none that is older
			kept := content(t, filepath.Join(dir, lists.file))
			service.serve(w, lists.older)
			for _, s := range []*collateral.Store{s, open(t, dir, w)} {
				if err := s.Fetch(context.Background(), client, need, Now); !errors.Is(err, dcap.FaultRollback) || !errors.Is(err, attest.ErrFreshness) {
					t.Error(err)
				}
			}
			if now := content(t, filepath.Join(dir, lists.file)); !bytes.Equal(now, kept) {
				t.Error("the older list has replaced the newer one")
			}
			d := w.Documents(lists.older)
			copied := map[string][]byte{"pck-platform.crl": d.PCKCRL, "root.crl": d.RootCRL}[lists.file]
			if err := os.WriteFile(filepath.Join(dir, lists.file), copied, 0o644); err != nil {
				t.Fatal(err)
			}
			if r := appraise(w, open(t, dir, w), attest.Quote{Data: w.Quote(Quote{Version: 4})}, Now); !errors.Is(r.Err, dcap.FaultRollback) {
				t.Error("copied by hand:", r.Err)
			}
		})
	}
}

// TestRollbackOfCopiedFiles: of documents that somebody else puts into the directory the highest number is kept there, too.
func TestRollbackOfCopiedFiles(t *testing.T) {
	w, dir := New(t), t.TempDir()
	from := t.TempDir()
	_, client := newService(t, w, Collateral{})
	fetch(t, open(t, from, w), client)
	if err := os.Remove(filepath.Join(from, "seen.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	if r := appraise(w, open(t, dir, w), q, Now); r.Err != nil {
		t.Fatal(r.Err)
	}
	older := w.Documents(Collateral{TCBInfo: Set("tcbEvaluationDataNumber", 16)}).TCBInfo.JoinTCBInfo()
	for _, dir := range []string{dir, from} {
		if err := os.WriteFile(filepath.Join(dir, "tdx-tcb-B0C06F000000.json"), older, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r := appraise(w, open(t, dir, w), q, Now); !errors.Is(r.Err, dcap.FaultRollback) {
		t.Error("after another start:", r.Err)
	}
	if r := appraise(w, open(t, from, w), q, Now); r.Err != nil {
		t.Error("where nothing newer was seen:", r.Err)
	}
}

// TestAnotherProcess: what another process has fetched is used, and what it has seen counts, without opening the store anew.
func TestAnotherProcess(t *testing.T) {
	w, dir := New(t), t.TempDir()
	verifying, fetching := open(t, dir, w), open(t, dir, w)
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	if r := appraise(w, verifying, q, Now); !errors.Is(r.Err, dcap.FaultNoCollateral) {
		t.Error(r.Err)
	}
	service, client := newService(t, w, Collateral{})
	fetch(t, fetching, client)
	if r := appraise(w, verifying, q, Now); r.Err != nil || r.Origin != dcap.OriginStore {
		t.Error(r.Err)
	}
	service.serve(w, Collateral{QEIdentity: Set("tcbEvaluationDataNumber", 19)})
	fetch(t, fetching, client)
	for range 20 { // whatever the order of the names
		if verifying.MinEvaluation(dcap.TDX) != 19 {
			t.Fatal("what another process has seen does not count")
		}
	}
}

// TestTogether: verifying goes on while documents are replaced.
func TestTogether(t *testing.T) {
	w := New(t)
	s := open(t, t.TempDir(), w)
	_, client := newService(t, w, Collateral{})
	fetch(t, s, client)
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 10 {
				if i == 0 {
					if err := s.Fetch(context.Background(), client, need, Now); err != nil {
						t.Error(err)
					}
				} else if r := appraise(w, s, q, Now); r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	all.Wait()
}

// TestPeersDoNotRaiseTheMark: else whoever brings an assessment of the future shuts out everybody else.
func TestPeersDoNotRaiseTheMark(t *testing.T) {
	w := New(t)
	s := open(t, t.TempDir(), w)
	q := attest.Quote{Data: w.Quote(Quote{Version: 4})}
	for _, number := range []int{99, 17} {
		set := Set("tcbEvaluationDataNumber", number)
		q.Endorsements = w.Endorsements(Collateral{TCBInfo: set, QEIdentity: set})
		if r := appraise(w, s, q, Now); r.Err != nil {
			t.Errorf("evaluation %d: %v", number, r.Err)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	w, other := New(t), New(t)
	dir := t.TempDir()
	s := open(t, dir, w)
	name := collateral.Name{Kind: collateral.TCBInfo, TEE: collateral.TDX, FMSPC: FMSPC}
	document := func(w *World, c Collateral) collateral.Document {
		d := w.Documents(c).TCBInfo
		return collateral.Document{Name: name, Body: d.JoinTCBInfo(), Chain: d.Chain}
	}
	for what, c := range map[string]struct {
		document collateral.Document
		want     error
	}{
		"of another root":   {document(other, Collateral{}), dcap.FaultRoot},
		"of SGX":            {document(w, Collateral{SGX: true}), dcap.FaultCollateralMismatch},
		"of another FMSPC":  {document(w, Collateral{TCBInfo: Set("fmspc", "00806F050000")}), dcap.FaultCollateralMismatch},
		"expired":           {document(w, Collateral{TCBInfo: Set("nextUpdate", Stamp(-1))}), dcap.FaultExpired},
		"of the future":     {document(w, Collateral{TCBInfo: Set("issueDate", Stamp(1))}), dcap.FaultFuture},
		"empty":             {collateral.Document{Name: name}, dcap.FaultFormat},
		"without signature": {collateral.Document{Name: name, Body: []byte(`{"tcbInfo":{}}`)}, dcap.FaultFormat},
	} {
		if err := s.Put(c.document, Now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Error("something was kept:", files, err)
	}
}

// TestSpoiled: files that have been changed are told, and do not spoil others.
func TestSpoiled(t *testing.T) {
	w, dir := New(t), t.TempDir()
	_, client := newService(t, w, Collateral{})
	s := open(t, dir, w)
	fetch(t, s, client)
	if err := os.WriteFile(filepath.Join(dir, "tdx-qe.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := appraise(w, s, attest.Quote{Data: w.Quote(Quote{Version: 4})}, Now); !errors.Is(r.Err, dcap.FaultFormat) {
		t.Error(r.Err)
	}
	list, err := s.List(Now)
	bad := 0
	for _, e := range list {
		if e.Err != nil {
			bad++
		}
	}
	if err != nil || bad != 1 {
		t.Error(list, err)
	}
	if names, err := s.Refresh(context.Background(), client, Now, 0); err != nil || len(names) != 1 || names[0].Kind != collateral.QEIdentity {
		t.Error(names, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seen.json"), []byte("?"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := collateral.OpenUnder(dir, w.Trust()); err == nil {
		t.Error("opened a store whose memory is spoiled")
	}
}

// A document whose certificates were not copied along is no absent one: what is missing is named.
func TestChainIsMissing(t *testing.T) {
	w := New(t)
	_, client := newService(t, w, Collateral{})
	for _, name := range collateral.Names(need) {
		s := open(t, t.TempDir(), w)
		fetch(t, s, client)
		missing := name.String() + ".pem"
		if err := os.Remove(filepath.Join(s.Dir(), missing)); err != nil {
			t.Fatal(err)
		}
		endorsed := attest.Quote{Data: w.Quote(Quote{Version: 4}), Endorsements: w.Endorsements(Collateral{})}
		r := appraise(w, s, endorsed, Now)
		if !errors.Is(r.Err, dcap.FaultNoCollateral) || !strings.Contains(r.Err.Error(), missing) {
			t.Errorf("without %s: %v", missing, r.Err)
		}
		list, err := s.List(Now)
		named := slices.ContainsFunc(list, func(e collateral.Entry) bool {
			return e.Name == name && e.Err != nil && strings.Contains(e.Err.Error(), missing)
		})
		if err != nil || !named {
			t.Errorf("without %s: %v, %v", missing, list, err)
		}
		if names, err := s.Refresh(t.Context(), client, Now, 0); err != nil || len(names) != 1 || names[0] != name {
			t.Errorf("%s is refreshed: %v, %v", missing, names, err)
		}
	}
}

func TestRefresh(t *testing.T) {
	w := New(t)
	s := open(t, t.TempDir(), w)
	service, client := newService(t, w, Collateral{QEIdentity: Set("nextUpdate", Stamp(3))})
	fetch(t, s, client)
	service.asked = nil
	names, err := s.Refresh(context.Background(), client, Now, 7*24*time.Hour)
	if err != nil || len(names) != 1 || !slices.Equal(service.asked, []string{qePath}) {
		t.Error(names, err, service.asked)
	}
	if names, err = s.Refresh(context.Background(), client, Now, 30*24*time.Hour); err != nil || len(names) != 4 || names[3].Kind != collateral.RootCRL {
		t.Error(names, err)
	}
}

func TestKeeper(t *testing.T) {
	w := New(t)
	s := open(t, t.TempDir(), w)
	service, client := newService(t, w, Collateral{QEIdentity: Set("nextUpdate", Stamp(3))})
	fetch(t, s, client)
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it looks once
	k := collateral.Keeper{Store: s, Client: client, Now: func() time.Time { return Now }, Log: slog.New(slog.NewTextHandler(&log, nil))}
	k.Run(ctx)
	if !strings.Contains(log.String(), "could not be refreshed") { // since the context is done
		t.Error(log.String())
	}
	log.Reset()
	early := w.Documents(Collateral{TCBInfo: Set("tcbEvaluationDataNumber", 20)}).TCBInfo
	service.answers[tcbPath+earlySuffix] = answer{header: "TCB-Info-Issuer-Chain", chain: string(early.Chain), body: early.JoinTCBInfo()}
	service.serve(w, Collateral{})
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	k.Now = func() time.Time { defer cancel(); return Now }
	k.Client = &collateral.Client{HTTP: detached{service.Client()}, PCS: client.PCS, RootCRL: client.RootCRL}
	k.Run(ctx)
	if !strings.Contains(log.String(), "collateral refreshed") || !strings.Contains(log.String(), "announced=20") {
		t.Error(log.String())
	}
}

// detached makes requests that outlive their context.
type detached struct{ *http.Client }

func (d detached) Do(r *http.Request) (*http.Response, error) {
	return d.Client.Do(r.WithContext(context.Background()))
}

func TestAnnounced(t *testing.T) {
	w := New(t)
	s := open(t, t.TempDir(), w)
	service, client := newService(t, w, Collateral{})
	fetch(t, s, client)
	service.answers[tcbPath+earlySuffix] = service.answers[tcbPath]
	if a, err := s.Announced(context.Background(), client, need); a != nil || err != nil {
		t.Error(a, err)
	}
	d := w.Documents(Collateral{TCBInfo: Set("tcbEvaluationDataNumber", 20)}).TCBInfo
	service.answers[tcbPath+earlySuffix] = answer{header: "TCB-Info-Issuer-Chain", chain: string(d.Chain), body: d.JoinTCBInfo()}
	a, err := s.Announced(context.Background(), client, need)
	if err != nil || a == nil || a.Current != 17 || a.Next != 20 {
		t.Error(a, err)
	}
	if s.MinEvaluation(dcap.TDX) != 17 {
		t.Error("what is only announced counts as seen")
	}
}

func TestServiceFails(t *testing.T) {
	w := New(t)
	for what, c := range map[string]struct {
		change func(answer) answer
		want   string
	}{
		"404":               {func(a answer) answer { a.status = 404; return a }, "does not know it"},
		"500":               {func(a answer) answer { a.status = 500; return a }, "500"},
		"no chain":          {func(a answer) answer { a.header = ""; return a }, "no TCB-Info-Issuer-Chain"},
		"too much":          {func(a answer) answer { a.body = make([]byte, 1<<20+1); return a }, "more than"},
		"something else":    {func(a answer) answer { a.body = []byte("<html>"); return a }, "not a JSON object"},
		"chain of PCK's CA": {func(a answer) answer { a.chain = string(w.Chain(w.CA)); return a }, "TCB Signing"},
	} {
		service, client := newService(t, w, Collateral{})
		service.answers[tcbPath] = c.change(service.answers[tcbPath])
		s := open(t, t.TempDir(), w)
		err := s.Fetch(context.Background(), client, need, Now)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if list, _ := s.List(Now); len(list) != 3 {
			t.Errorf("%s: kept %d of the 3 others", what, len(list))
		}
	}
	service, client := newService(t, w, Collateral{})
	service.Close()
	if err := open(t, t.TempDir(), w).Fetch(context.Background(), client, need, Now); err == nil {
		t.Error("fetched from nobody")
	}
}

func TestIntelsStore(t *testing.T) {
	w, dir := New(t), t.TempDir()
	_, client := newService(t, w, Collateral{})
	s, err := collateral.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(context.Background(), client, need, Now); !errors.Is(err, dcap.FaultRoot) {
		t.Error("Intel's store took statements of somebody else:", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := collateral.Open(filepath.Join(dir, "x")); !errors.Is(err, fs.ErrExist) && err == nil {
		t.Error("opened a file")
	}
	if _, err := collateral.Needed(w.Quote(Quote{Version: 4})); !errors.Is(err, dcap.FaultRoot) {
		t.Error(err)
	}
	if n, err := dcap.NeedOf(w.Quote(Quote{Version: 4}), w.Trust()); err != nil || n != need {
		t.Error(n, err)
	}
}

// content returns what is in a file.
func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
