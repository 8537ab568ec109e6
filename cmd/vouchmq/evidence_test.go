package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/ear"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// command runs one command in this process, and returns its exit status and all that it prints.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	c, err := root.ExecuteContextC(t.Context())
	if err == nil {
		return exitOK, out.String()
	}
	return report(c, err), out.String()
}

// expect runs a command and checks its status, and that it prints all the parts.
func expect(t *testing.T, status int, args []string, parts ...string) string {
	t.Helper()
	got, out := command(t, args...)
	if got != status {
		t.Errorf("%v: status %d, want %d\n%s", args, got, status, out)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("%v: no %q in\n%s", args, part, out)
		}
	}
	return out
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func simulatedEvidence(t *testing.T, dir string) string {
	t.Helper()
	key, err := sim.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &attest.Claims{Binding: attest.Binding{Role: attest.RoleServer, Phase: attest.PhaseConnect, Service: "plant"}, IssuedAt: time.Now().Unix()}
	c.Module = attest.Sum([]byte("module"))
	data, err := attest.Make(context.Background(), sim.NewAttester(key, attest.Sum(nil)), attest.PurposeConnection, c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, dir, "evidence.hex", []byte(hex.EncodeToString(data)+"\n"))
}

func ecKey(t *testing.T, dir string) (key *ecdsa.PrivateKey, private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})),
		write(t, dir, "public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
}

// From evidence to a policy that accepts it, to a CoRIM and back, to a result for others.
func TestFromEvidenceToPolicyAndOn(t *testing.T) {
	dir := t.TempDir()
	evidence := simulatedEvidence(t, dir)
	expect(t, exitOK, []string{"verify", evidence}, "SIMULATED", "VouchMQ evidence (CMW collection)", "hexadecimal digits", "NOT CHECKED", `to service "plant"`)

	draft := expect(t, exitOK, []string{"policy", "from-evidence", evidence, "--identity", "broker"}, "simulated: allow # PROTECTS NOTHING", "# instances:")
	file := write(t, dir, "policy.yaml", []byte(draft))
	expect(t, exitOK, []string{"policy", "check", file}, `identity "broker" holds`)
	expect(t, exitOK, []string{"policy", "test", file, evidence}, "ACCEPTED as broker")
	expect(t, exitGeneral, []string{"policy", "test", file, evidence, "--identity", "sensor"}, `no identity "sensor"; it has: broker`)

	other := write(t, dir, "other.yaml", []byte(strings.Replace(draft, attest.Sum([]byte("module")).String(), attest.Sum(nil).String(), 1)))
	expect(t, exitAttestation, []string{"policy", "test", other, evidence}, "REFUSED: module", "not broker")
	expect(t, exitAttestation, []string{"verify", evidence, "--policy", other, "--json"}, `"accepted": false`)

	key, private, public := ecKey(t, dir)
	manifest := expect(t, exitOK, []string{"policy", "to-corim", file, "--key", private})
	corim := write(t, dir, "policy.corim", []byte(manifest))
	again := expect(t, exitOK, []string{"policy", "from-corim", corim, "--key", public})
	expect(t, exitOK, []string{"policy", "test", write(t, dir, "again.yaml", []byte(again)), evidence}, "ACCEPTED as broker")
	expect(t, exitGeneral, []string{"policy", "from-corim", corim}, "needs --key")
	_, _, stranger := ecKey(t, t.TempDir())
	expect(t, exitAttestation, []string{"policy", "from-corim", corim, "--key", stranger}, "signature")

	result := filepath.Join(dir, "result.cbor")
	expect(t, exitOK, []string{"verify", evidence, "--policy", file, "--ear", result, "--ear-key", private, "--ear-nonce", "0102030405060708"}, "ACCEPTED as broker, in a simulated TEE")
	data, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ear.Parse(data, &key.PublicKey)
	if err != nil || r.Submodules["sim"].Status != ear.Contraindicated || len(r.Nonce) != 8 || len(r.Submodules["sim"].Policies) != 1 {
		t.Errorf("result %+v, %v", r, err)
	}
}

func TestWrongUseOfVerify(t *testing.T) {
	dir := t.TempDir()
	evidence := simulatedEvidence(t, dir)
	expect(t, exitGeneral, []string{"verify", write(t, dir, "text", []byte("hello, world"))}, "known are: VouchMQ evidence", "AMD SEV-SNP")
	expect(t, exitGeneral, []string{"verify", filepath.Join(dir, "none")}, "no such file")
	expect(t, exitGeneral, []string{"verify", evidence, "--time", "today"}, "2026-01-31T12:00:00Z")
	expect(t, exitGeneral, []string{"verify", evidence, "--report-data", "xyz"}, "hexadecimal")
	expect(t, exitGeneral, []string{"verify", evidence, "--identity", "x"}, "--policy")
	expect(t, exitGeneral, []string{"verify", evidence, "--ear", "x"}, "ear-key")
	expect(t, exitGeneral, []string{"verify", evidence, "--ear", filepath.Join(dir, "x"), "--ear-key", evidence}, "--ear needs --policy")
	expect(t, exitGeneral, []string{"verify", evidence, "--collateral", filepath.Join(dir, "none")}, "--collateral")
	expect(t, exitAttestation, []string{"verify", evidence, "--report-data", "01"}, "NOT BOUND")
}

func TestPublishedToken(t *testing.T) {
	token, key := samples.Path(t, "cca/trustee/cca-example-token.cbor"), samples.Path(t, "cca/trustee/cpak-pub.json")
	expect(t, exitOK, []string{"verify", token, "--certificate", key}, "SIGNED by the platform key that came with it", "secured")
	expect(t, exitAttestation, []string{"verify", token}, "NOT VERIFIED: the platform's key (CPAK) is missing", "name it with --certificate")
	draft := expect(t, exitOK, []string{"policy", "from-evidence", token, "--certificate", key, "--identity", "realm", "--module", attest.Sum(nil).String()}, "cpak", "rim")
	file := write(t, t.TempDir(), "policy.yaml", []byte(draft))
	expect(t, exitOK, []string{"verify", token, "--certificate", key, "--policy", file}, "ACCEPTED as realm, as far as platform and hardware go")
}

// Each platform's evidence gives a draft that accepts it.
func TestDraftsOfPublishedEvidence(t *testing.T) {
	for _, args := range [][]string{
		{samples.Path(t, "sgx/dcap-qvl/sgx_quote"), "--collateral", samples.Path(t, "sgx/dcap-qvl/sgx_quote_collateral.json"), "--time", "2025-06-25T12:00:00Z"},
		{samples.Path(t, "tdx/dcap-qvl/tdx_quote"), "--collateral", samples.Path(t, "tdx/dcap-qvl/tdx_quote_collateral.json"), "--time", "2025-06-25T12:00:00Z"},
		{samples.Path(t, "sev-snp/trustee/test-report.bin"), "--certificate", samples.Path(t, "sev-snp/trustee/test-vcek.der"), "--time", "2026-06-01T12:00:00Z"},
		{samples.Path(t, "nitro/evervault/valid-attestation-doc-bytes"), "--time", "2022-10-13T08:58:02Z"},
	} {
		draft := expect(t, exitOK, append([]string{"policy", "from-evidence", "--identity", "x", "--module", attest.Sum(nil).String()}, args...))
		file := write(t, t.TempDir(), "policy.yaml", []byte(draft))
		expect(t, exitOK, append([]string{"verify", "--policy", file}, args...), "ACCEPTED as x")
		expectTier(t, file, args)
	}
	expect(t, exitAttestation, []string{"verify", samples.Path(t, "nitro/evervault/valid-attestation-doc-bytes")}, "not valid now", "say with --time when it was made")
	bound := []string{samples.Path(t, "tdx/automata/quotes_alibaba_quote_5.dat"), "--collateral", samples.Path(t, "tdx/dcap-qvl/tdx_quote_outdated_collateral.json"), "--time", "2026-02-23T12:00:00Z"}
	draft := expect(t, exitOK, append([]string{"policy", "from-evidence", "--identity", "td", "--module", attest.Sum(nil).String()}, bound...), "service_tds:", "BOUND TO A SERVICE TD")
	file := write(t, t.TempDir(), "policy.yaml", []byte(draft))
	expect(t, exitOK, append([]string{"verify", "--policy", file}, bound...), "ACCEPTED as td", "bound to a service TD")
	file = write(t, t.TempDir(), "policy.yaml", []byte(strings.Replace(draft, "service_tds:", "# service_tds:", 1)))
	expect(t, exitAttestation, append([]string{"verify", "--policy", file}, bound...), "REFUSED: the TD is bound to service TD", "(service_tds)")
	expect(t, exitAttestation, []string{"policy", "from-evidence", samples.Path(t, "nitro/evervault/debug-mode-attestation-doc-bytes"), "--time", "2022-10-12T13:50:06Z", "--identity", "x"}, "debug mode")
}

// expectTier checks that a bare quote that a policy accepts is not affirmed as a whole, for nobody has seen its module.
func expectTier(t *testing.T, policy string, args []string) {
	t.Helper()
	dir := t.TempDir()
	key, private, _ := ecKey(t, dir)
	result := filepath.Join(dir, "result.cbor")
	expect(t, exitOK, append([]string{"verify", "--policy", policy, "--ear", result, "--ear-key", private}, args...))
	data, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ear.Parse(data, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for platform, a := range r.Submodules {
		if a.Status != ear.Warning || a.Vector.Executables != ear.Warning {
			t.Errorf("%s: %v, %+v", platform, a.Status, a.Vector)
		}
	}
}

// service is Intel's as far as one kind of platform goes, with what has been published of it.
type service struct {
	body, chain map[string][]byte // by path and query
}

func newService(t *testing.T) *service {
	t.Helper()
	data, err := os.ReadFile(samples.Path(t, "tdx/dcap-qvl/tdx_quote_collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	var w map[string]string
	if err := json.Unmarshal(data, &w); err != nil {
		t.Fatal(err)
	}
	crl, err1 := hex.DecodeString(w["pck_crl"])
	root, err2 := hex.DecodeString(w["root_ca_crl"])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	signed := func(member, document, signature string) []byte {
		return []byte(`{"` + member + `":` + w[document] + `,"signature":"` + w[signature] + `"}`)
	}
	const tcb, qe, pck = "/tdx/certification/v4/tcb?fmspc=B0C06F000000", "/tdx/certification/v4/qe/identity", "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
	tcbInfo := signed("tcbInfo", "tcb_info", "tcb_info_signature")
	return &service{
		body: map[string][]byte{
			tcb: tcbInfo, tcb + "&update=early": tcbInfo, qe: signed("enclaveIdentity", "qe_identity", "qe_identity_signature"), pck: crl, "/root": root,
		},
		chain: map[string][]byte{
			tcb: []byte(w["tcb_info_issuer_chain"]), tcb + "&update=early": []byte(w["tcb_info_issuer_chain"]),
			qe: []byte(w["qe_identity_issuer_chain"]), pck: []byte(w["pck_crl_issuer_chain"]),
		},
	}
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := s.body[r.URL.RequestURI()]
	if !ok {
		http.NotFound(w, r)
		return
	}
	for _, header := range []string{"TCB-Info-Issuer-Chain", "SGX-Enclave-Identity-Issuer-Chain", "SGX-PCK-CRL-Issuer-Chain"} {
		w.Header().Set(header, url.PathEscape(string(s.chain[r.URL.RequestURI()])))
	}
	w.Write(body)
}

func TestCollateral(t *testing.T) {
	server := httptest.NewServer(newService(t))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "store")
	quote := samples.Path(t, "tdx/dcap-qvl/tdx_quote")
	store := []string{"--dir", dir, "--time", "2025-06-25T12:00:00Z"}
	fetch := append([]string{"collateral", "fetch", quote, "--pcs", server.URL, "--root-crl", server.URL + "/root"}, store...)

	expect(t, exitGeneral, append([]string{"collateral", "show"}, store...), "vouchmq collateral fetch")
	expect(t, exitOK, fetch, "tdx-tcb-B0C06F000000", "2025-07-19", "17", "44", "good")
	expect(t, exitOK, append([]string{"collateral", "verify"}, store...), "good")
	expect(t, exitOK, append([]string{"collateral", "show", "--ask", "--pcs", server.URL}, store...), "tdx-qe")
	server.Close() // from here on offline
	expect(t, exitOK, []string{"verify", quote, "--collateral", dir, "--time", "2025-06-25T12:00:00Z"}, "GENUINE", "UpToDate", "own store")
	expect(t, exitAttestation, []string{"verify", quote, "--collateral", dir, "--time", "2025-08-25T12:00:00Z"}, "REFUSED", "2025-07-19")
	expect(t, exitAttestation, []string{"collateral", "verify", "--dir", dir, "--time", "2025-08-25T12:00:00Z"}, "UNUSABLE", "2025-07-19")
	expect(t, exitConnect, fetch, "refused")

	write(t, dir, "seen.json", []byte(`{"tdx-tcb-B0C06F000000": 18}`))
	expect(t, exitAttestation, append([]string{"collateral", "verify"}, store...), "evaluation 17", "18 has been seen")
}

// A TCB recovery: the assessment announced is of a higher number than the one in force.
func TestAnnouncedRecovery(t *testing.T) {
	s := newService(t)
	var later map[string]string
	data, err := os.ReadFile(samples.Path(t, "tdx/dcap-qvl/tdx_quote_outdated_collateral.json"))
	if err == nil {
		err = json.Unmarshal(data, &later)
	}
	current, err2 := os.ReadFile(samples.Path(t, "tdx/automata/0625_tcbinfov3_90C06F000000.json"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	const tcb = "/tdx/certification/v4/tcb?fmspc=90C06F000000"
	s.body[tcb], s.chain[tcb] = current, s.chain["/tdx/certification/v4/qe/identity"]
	s.body[tcb+"&update=early"] = []byte(`{"tcbInfo":` + later["tcb_info"] + `,"signature":"` + later["tcb_info_signature"] + `"}`)
	s.chain[tcb+"&update=early"] = []byte(later["tcb_info_issuer_chain"])
	server := httptest.NewServer(s)
	defer server.Close()
	store := []string{"--dir", filepath.Join(t.TempDir(), "store"), "--time", "2025-06-25T12:00:00Z", "--pcs", server.URL, "--root-crl", server.URL + "/root"}
	expect(t, exitOK, append([]string{"collateral", "fetch", "--fmspc", "90C06F000000", "--tee", "tdx"}, store...), "tdx-tcb-90C06F000000")
	expect(t, exitOK, append([]string{"collateral", "show", "--ask"}, store...), "WARNING: a TCB recovery is announced for tdx-tcb-90C06F000000: evaluation 18, now 17")
}

func TestCollateralOfAServiceThatKnowsNothing(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	dir := t.TempDir()
	expect(t, exitGeneral, []string{"collateral", "fetch", "--fmspc", "90C06F000000", "--tee", "tdx", "--pcs", server.URL, "--root-crl", server.URL, "--dir", dir}, "does not know it")
	expect(t, exitGeneral, []string{"collateral", "fetch", "--fmspc", "90C06F", "--dir", dir}, "--fmspc")
	expect(t, exitGeneral, []string{"collateral", "fetch", "--fmspc", "90C06F000000", "--tee", "snp", "--dir", dir}, "neither sgx nor tdx")
	expect(t, exitGeneral, []string{"collateral", "verify", "--dir", dir}, "empty")
}
