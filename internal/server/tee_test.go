package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/server"
)

// measured is a broker on a machine with a TPM.
type measured struct {
	machine *tpmtest.Machine
	path    string // of the configuration
	opened  *server.Opened
	broker  *server.Server
}

// openMeasured writes and opens a configuration, tee and tpm as given.
func openMeasured(t *testing.T, tee string) (*server.Opened, string, error) {
	t.Helper()
	path := writeFiles(t, strings.Replace(goodFile, "tee: sim", tee, 1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), ", require_evidence: true", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := openFile(path, server.Opening{Now: time.Now()})
	return opened, path, err
}

func startMeasured(t *testing.T, m *tpmtest.Machine, change func(attest.Attester) attest.Attester) *measured {
	t.Helper()
	opened, path, err := openMeasured(t, "tee: tpm\ntpm: { device: "+m.Socket+" }")
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		opened.Config.Attester = change(opened.Config.Attester)
	}
	r := &measured{machine: m, path: path, opened: opened}
	if r.broker, err = server.Start(t.Context(), opened.Config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.broker.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// dial connects as a client with the policy that a broker must be what entry says.
func (r *measured) dial(t *testing.T, entry map[string][]string) (*client.Verdict, error) {
	t.Helper()
	identity := r.broker.Identity()
	p, err := policy.New([]policy.Identity{{
		Name: "broker", Modules: []attest.Digest{identity.Module}, Configs: []attest.Digest{identity.Config},
		AnyOf: []policy.Requirement{{Platform: attest.TPM, Want: entry}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	state := r.opened.State
	bundle := &client.Bundle{
		Service: state.Service, Addresses: []string{r.broker.Addr("secure").String()}, OwnerCA: state.Owner.Certificate(),
		ECHConfigList: atls.ECHConfigList(state.ECHKeys...), Policy: p, Serial: 1, IssuedAt: time.Now(),
	}
	conn, verdict, err := client.Dial(t.Context(), bundle, client.Options{})
	if err == nil {
		conn.Close()
	}
	return verdict, err
}

// want is what an owner would write of this machine: its key, and the module as the only one in PCR 14.
func (r *measured) want(t *testing.T) map[string][]string {
	t.Helper()
	request, err := tpm.NewRequest(t.Context(), r.machine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ak := tpm.KeyDigest(request.AK)
	register := tpm.ModuleRegister(crypto.SHA256, r.broker.Identity().Module)
	return map[string][]string{"ak": {hex.EncodeToString(ak[:])}, "pcrs": {fmt.Sprintf("%d=%x", tpm.ModulePCR, register)}}
}

func TestBrokerAttestedByTPM(t *testing.T) {
	m := tpmtest.New(t)
	r := startMeasured(t, m, nil)
	want := r.want(t)
	verdict, err := r.dial(t, want)
	if err != nil {
		t.Fatal(err)
	}
	if verdict.Platform != attest.TPM || verdict.Facts.Simulated() || len(verdict.Facts.Measurements) != 1+9 {
		t.Errorf("%+v", verdict.Facts)
	}
	other := strings.Repeat("ab", 32)
	for name, entry := range map[string]map[string][]string{
		"another key":          {"ak": {other}, "pcrs": want["pcrs"]},
		"another module":       {"ak": want["ak"], "pcrs": {"14=" + other}},
		"a PCR without a bank": {"ak": want["ak"], "pcrs": {"14=" + strings.Repeat("ab", 48)}},
		"nobody has certified": {"ak_ca": {strings.Repeat("ab", 48)}},
	} {
		if _, err := r.dial(t, entry); !errors.Is(err, attest.ErrPlatform) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Once another module was measured, no module that comes later can have PCR 14 to itself until the machine starts again.
func TestBrokerAfterAnotherModule(t *testing.T) {
	m := tpmtest.New(t)
	before, err := tpm.NewAttester(t.Context(), tpm.Options{Device: m.Socket})
	if err != nil {
		t.Fatal(err)
	}
	if err := before.Measure(t.Context(), attest.Sum([]byte("a module that listens"))); err != nil {
		t.Fatal(err)
	}
	opened, _, err := openMeasured(t, "tee: tpm\ntpm: { device: "+m.Socket+" }")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // read once the broker is gone
	opened.Config.Log = slog.New(slog.NewTextHandler(&log, nil))
	broker, err := server.Start(t.Context(), opened.Config)
	if err != nil {
		t.Fatal(err)
	}
	r := &measured{machine: m, opened: opened, broker: broker}
	if _, err := r.dial(t, r.want(t)); !errors.Is(err, attest.ErrPlatform) {
		t.Error(err)
	}
	if err := broker.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	held := tpm.ModuleRegister(crypto.SHA256, attest.Sum([]byte("a module that listens")))
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), fmt.Sprintf("PCR 14 held %x", held)) {
		t.Errorf("nobody was told:\n%s", &log)
	}
}

// A broker that is started again with the same module is accepted as before.
func TestBrokerStartedAgain(t *testing.T) {
	m := tpmtest.New(t)
	for range 2 {
		r := startMeasured(t, m, nil)
		if _, err := r.dial(t, r.want(t)); err != nil {
			t.Error(err)
		}
	}
}

// changed is a TPM whose evidence somebody changes on the way.
type changed struct {
	attest.Measurer
	change func(*attest.Quote) error
}

func (c changed) Attest(ctx context.Context, data attest.ReportData) (attest.Quote, error) {
	q, err := c.Measurer.Attest(ctx, data)
	if err != nil {
		return q, err
	}
	return q, c.change(&q)
}

// forge makes the evidence say that PCR 14 is another.
func forge(q *attest.Quote) error {
	var parts map[string]any
	if err := dcbor.Decode(q.Data, &parts); err != nil {
		return err
	}
	pcrs, ok := parts["pcrs"].([]any) // 0 to 7, and 14
	if !ok || len(pcrs) != 9 {
		return fmt.Errorf("PCRs are %v", parts["pcrs"])
	}
	pcrs[8] = bytes.Repeat([]byte{1}, 32)
	var err error
	q.Data, err = dcbor.Encode(parts)
	return err
}

func TestBrokerWithForgedEvidence(t *testing.T) {
	m := tpmtest.New(t)
	var old *attest.Quote
	replay := func(q *attest.Quote) error {
		if old == nil {
			old = q
		}
		*q = *old
		return nil
	}
	for name, test := range map[string]struct {
		change func(*attest.Quote) error
		want   error
	}{
		"another PCR": {forge, attest.ErrSignature},
		"replayed":    {replay, attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			r := startMeasured(t, m, func(a attest.Attester) attest.Attester { return changed{a.(attest.Measurer), test.change} })
			if _, err := r.dial(t, r.want(t)); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

func TestNoTEE(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "tpm")
	for tee, want := range map[string]string{
		"tee: tpm\ntpm: { device: " + missing + " }":  "tee: there is no TPM",
		"tee: auto\ntpm: { device: " + missing + " }": "tee: no TEE was found",
		"tee: tpm\ntpm: { certificate: policy.yaml }": "tpm.certificate: ",
		"tee: nitro":  "tee: there is no /dev/nsm",
		"tee: cca":    "tee: this is no Arm CCA realm",
		"tee: sevsnp": "tee: this is no SEV-SNP guest",
		"tee: tdx":    "tee: this is no TDX guest",
	} {
		if _, _, err := openMeasured(t, tee); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", tee, err, want)
		}
	}
	// One that is there and does not work is not passed over.
	broken := filepath.Join(t.TempDir(), "tpm")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openMeasured(t, "tee: auto\ntpm: { device: "+broken+" }"); err == nil || !strings.Contains(err.Error(), "not a device") {
		t.Error(err)
	}
}

func TestAutoFindsTPM(t *testing.T) {
	m := tpmtest.New(t)
	opened, path, err := openMeasured(t, "tee: auto\ntpm: { device: "+m.Socket+", bank: sha384, pcrs: [14] }")
	if err != nil {
		t.Fatal(err)
	}
	if p := opened.Config.Attester.Platform(); p != attest.TPM {
		t.Fatalf("found %q", p)
	}
	claims := &attest.Claims{}
	claims.Role, claims.Phase, claims.Service = attest.RoleServer, attest.PhaseConnect, "mqtt.example"
	if _, err := attest.Make(t.Context(), opened.Config.Attester, attest.PurposeConnection, claims, rand.Reader); err != nil {
		t.Error(err)
	}
	again, err := readSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	reopened, err := opened.Reopen(again, time.Now())
	if err != nil || reopened.Config.Attester != opened.Config.Attester {
		t.Errorf("a reload took another TEE: %v", err)
	}
	again.TPM.PCRs = append(again.TPM.PCRs, 0)
	if _, err := opened.Reopen(again, time.Now()); !errors.Is(err, server.ErrFixed) {
		t.Errorf("other PCRs at a reload: %v", err)
	}
}

// The simulated TEE takes the time that it is told to, and the log is loud about it.
func TestSimulatedQuoteTime(t *testing.T) {
	const quoteTime = 30 * time.Millisecond
	path := writeFiles(t, strings.Replace(goodFile, "tee: sim", "tee: sim\nsim: { quote_time: 30ms }", 1))
	var log bytes.Buffer
	opened, err := openFile(path, server.Opening{Now: time.Now(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := opened.Config.Attester.Attest(t.Context(), attest.ReportData{}); err != nil || time.Since(begun) < quoteTime {
		t.Errorf("a quote took %v, %v", time.Since(begun), err)
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"SLOW SIMULATED TEE") || !strings.Contains(log.String(), "quote_time=30ms") {
		t.Error(log.String())
	}
}
