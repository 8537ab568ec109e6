//go:build !windows

package azure

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
)

// paravisor prepares a TPM as that of Azure does: an attestation key at its handle, and an HCL report with it in its NV index. It returns the quote
// of TDX, if that is behind.
func paravisor(t *testing.T, vm *tpmtest.Machine, m *machine) (hcl, tdQuote []byte) {
	t.Helper()
	device := must(linuxudstpm.Open(vm.Socket))
	defer device.Close()
	n := keepKey(t, device)
	m.text = func(data map[string]any) {
		keys := data["keys"].([]any)[:1] // the software's NV indices have 2,048 bytes at most
		keys[0].(map[string]any)["n"], data["keys"] = base64.RawURLEncoding.EncodeToString(n), keys
	}
	hcl, tdQuote = m.hcl()
	store(t, device, hcl)
	return hcl, tdQuote
}

// keepKey makes the attestation key, and returns its modulus.
func keepKey(t *testing.T, device transport.TPM) []byte {
	t.Helper()
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Scheme:  tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits: 2048,
		}),
	})}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: r.ObjectHandle, Name: r.Name}, PersistentHandle: KeyHandle,
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	public := must(r.OutPublic.Contents())
	if _, err := (tpm2.FlushContext{FlushHandle: r.ObjectHandle}).Execute(device); err != nil {
		t.Fatal(err)
	}
	return must(public.Unique.RSA()).Buffer
}

// store defines the NV index and fills it.
func store(t *testing.T, device transport.TPM, data []byte) {
	t.Helper()
	_, _ = tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: ReportIndex, Name: name(device)}}.Execute(device)
	_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: ReportIndex, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true},
	})}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += 512 {
		_, err := tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: ReportIndex, Name: name(device)},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+512, len(data))]}, Offset: uint16(at),
		}.Execute(device)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func name(device transport.TPM) tpm2.TPM2BName {
	r, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(ReportIndex)}.Execute(device)
	if err != nil {
		return tpm2.TPM2BName{}
	}
	return r.NVName
}

// host is a fake of the metadata service.
type host struct {
	vcek, quote []byte
	err         error
	asked       int
}

func (h *host) VCEK(context.Context) ([]byte, error) { h.asked++; return h.vcek, h.err }

func (h *host) Quote(_ context.Context, report []byte) ([]byte, error) {
	if h.asked++; len(report) != tdReport {
		return nil, fmt.Errorf("a TD report of %d bytes", len(report))
	}
	return h.quote, h.err
}

func TestAttester(t *testing.T) {
	for name, intel := range map[string]*dcaptest.World{"SEV-SNP": nil, "TDX": dcaptest.New(t)} {
		t.Run(name, func(t *testing.T) {
			vm, m, h := tpmtest.New(t), newMachine(intel), &host{}
			o := Options{Device: vm.Socket, Host: h}
			if _, err := NewAttester(t.Context(), o); !errors.Is(err, ErrNoAzure) {
				t.Fatalf("an ordinary machine: %v", err)
			}
			_, h.quote = paravisor(t, vm, m)
			h.vcek = m.amd.vcek(m.notAfter)
			a, err := NewAttester(t.Context(), o)
			if err != nil || a.Platform() != attest.Azure {
				t.Fatal(err)
			}
			module, data := attest.Sum([]byte("module")), attest.ReportData{1, 2, 63: 3}
			if err := a.Measure(t.Context(), module); err != nil {
				t.Fatal(err)
			}
			checkFailure(t, a, h, data)
			for range 2 {
				q, err := a.Attest(t.Context(), data)
				if err != nil {
					t.Fatal(err)
				}
				if intel != nil {
					q.Endorsements = intel.Endorsements(dcaptest.Collateral{})
				}
				c, err := judge(m.verifier(), q, now)
				if short := data.Short(); err != nil || !bytes.Equal(c.ReportData, short[:]) {
					t.Fatal(c, err)
				}
				if !bytes.Equal(c.Measurements["pcr14"], tpm.ModuleRegister(crypto.SHA256, module)) {
					t.Errorf("PCR 14 is %x", c.Measurements["pcr14"])
				}
			}
			if h.asked != 2 { // the first one failed
				t.Errorf("the host was asked %d times", h.asked)
			}
			vm.SwitchOff()
			if _, err := a.Attest(t.Context(), data); !errors.Is(err, tpm.ErrNoDevice) {
				t.Errorf("without a device: %v", err)
			}
		})
	}
}

func checkFailure(t *testing.T, a *Attester, h *host, data attest.ReportData) {
	h.err = errors.New("out of order")
	if _, err := a.Attest(t.Context(), data); !errors.Is(err, h.err) {
		t.Errorf("%v", err)
	}
	h.err = nil
}

// What is in the NV index must be an HCL report, and what the host gives must be over it.
func TestAttesterFaults(t *testing.T) {
	vm, intel := tpmtest.New(t), dcaptest.New(t)
	m := newMachine(intel)
	hcl, _ := paravisor(t, vm, m)
	o := Options{Device: vm.Socket, Host: &host{quote: intel.Quote(dcaptest.Quote{Version: 4, ReportData: [64]byte{1}})}}
	a := must(NewAttester(t.Context(), o))
	if _, err := a.Attest(t.Context(), attest.ReportData{1}); err == nil || !strings.Contains(err.Error(), "another report") {
		t.Error(err)
	}
	device := must(linuxudstpm.Open(vm.Socket))
	store(t, device, hcl[:1000])
	if _, err := NewAttester(t.Context(), o); err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Error(err)
	}
	device.Close()
}

func TestMetadata(t *testing.T) {
	status, text := http.StatusOK, ""
	var got *http.Request
	var body map[string]string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, body = r, nil
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}))
	defer server.Close()
	m, ctx := newMetadata(server.URL), t.Context()
	text = string(must(json.Marshal(map[string]string{"vcekCert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")})), "tcbm": "00"})))
	if der, err := m.VCEK(ctx); err != nil || string(der) != "der" || got.Header.Get("Metadata") != "true" || got.URL.Path != "/metadata/THIM/amd/certification" {
		t.Error(der, err, got)
	}
	text = `{"quote":"AQID"}`
	quote, err := m.Quote(ctx, make([]byte, tdReport))
	if err != nil || !bytes.Equal(quote, []byte{1, 2, 3}) || got.URL.Path != "/acc/tdquote" || body["report"] != base64.RawURLEncoding.EncodeToString(make([]byte, tdReport)) {
		t.Error(quote, err, body)
	}
	for _, text = range []string{"", "{}", "[", `{"quote":"!","vcekCert":"!"}`, strings.Repeat(" ", maxAnswer) + "{}"} {
		if _, err := m.Quote(ctx, nil); err == nil {
			t.Errorf("quote: %.20q", text)
		}
		if _, err := m.VCEK(ctx); err == nil {
			t.Errorf("certificate: %.20q", text)
		}
	}
	status = http.StatusTooManyRequests
	if _, err := m.VCEK(ctx); err == nil || !strings.Contains(err.Error(), "429") {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Nanosecond)
	defer cancel()
	if _, err := m.VCEK(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
