package examine

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest/collateral"
	"github.com/vouchmq/vouchmq/internal/samples"
)

func TestPublishedEvidence(t *testing.T) {
	const june, own = "2026-06-01T12:00:00Z", "2025-06-25T12:00:00Z"
	for _, c := range []struct {
		file, time   string
		endorsements string // file
		want         string // beginning of the verdict
		tcb          string
		advisories   string
	}{
		{"sgx/dcap-qvl/sgx_quote", own, "sgx/dcap-qvl/sgx_quote_collateral.json", "GENUINE;", "ConfigurationAndSWHardeningNeeded", "INTEL-SA-00289 INTEL-SA-00615"},
		{"sgx/automata/quotev3.hex", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"sgx/azure/enclave.info.release.json", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"sgx/azure/enclave.info.debug.json", june, "", "NOT VERIFIED, AND IN DEBUG MODE", "", ""},
		{"sgx/azure/enclave.info.prodid.json", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"sgx/azure/enclave.info.securityversion.json", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"sgx/intel-qvl-TESTROOT/quote.dat", june, "", "REFUSED: quote has certification data of type 1", "", ""},
		{"tdx/dcap-qvl/tdx_quote", own, "tdx/dcap-qvl/tdx_quote_collateral.json", "GENUINE;", "UpToDate", ""},
		{"tdx/dcap-qvl/tdx_quote", june, "tdx/dcap-qvl/tdx_quote_collateral.json", "REFUSED: ", "", ""},
		{"tdx/dcap-qvl/tdx_quote_outdated", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"tdx/dcap-qvl/tdx_quote_outdated", "2026-02-23T12:00:00Z", "tdx/dcap-qvl/tdx_quote_outdated_collateral.json", "REFUSED: no TCB level matches", "", ""},
		{"tdx/dcap-qvl/quote-from-tappd.hex", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"tdx/dcap-qvl/quote-from-tappd.hex", own, "tdx/dcap-qvl/tdx_quote_collateral.json", "REFUSED: no TCB level matches", "", ""},
		{"tdx/dcap-qvl/tdx-quote.hex", own, "tdx/dcap-qvl/tdx_quote_collateral.json", "REFUSED: no TCB level matches", "", ""},
		{"tdx/automata/quotev4.hex", own, "", "NOT VERIFIED: it is signed", "", ""},
		{"tdx/automata/quotes_alibaba_quote_5.dat", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"tdx/automata/quotes_alibaba_quote_5.dat", "2026-02-23T12:00:00Z", "tdx/dcap-qvl/tdx_quote_outdated_collateral.json", "GENUINE;", "OutOfDate",
			"INTEL-SA-01036 INTEL-SA-01079 INTEL-SA-01099 INTEL-SA-01103 INTEL-SA-01111"},
		{"tdx/trustee/tdx_quote_4.dat", june, "", "NOT VERIFIED, AND IN DEBUG MODE", "", ""},
		{"azure-vtpm/trustee/tdx/td-quote.bin", june, "", "NOT VERIFIED: it is signed", "", ""},
		{"sev-snp/trustee/test-report.bin", june, "sev-snp/trustee/test-vcek.der", "GENUINE;", "NotApplicable", ""},
		{"sev-snp/trustee/test-report.bin", june, "", "NOT VERIFIED: the certificate of the key that has signed", "", ""},
		{"nitro/evervault/valid-attestation-doc-bytes", "2022-10-13T08:58:02Z", "", "GENUINE;", "NotApplicable", ""},
		{"nitro/evervault/valid-attestation-doc-bytes", "2022-10-14T08:58:02Z", "", "REFUSED: attestation document: its certificates are not valid now", "", ""},
		{"nitro/evervault/debug-mode-attestation-doc-bytes", "2022-10-12T13:50:06Z", "", "GENUINE, BUT IN DEBUG MODE", "NotApplicable", ""},
		{"nitro/evervault/valid-attestation-doc-base64", "2023-09-18T15:03:30Z", "", "GENUINE, BUT IN DEBUG MODE", "NotApplicable", ""},
	} {
		t.Run(c.file+" "+c.time, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.time)
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Now: at}
			if c.endorsements != "" {
				o.Endorsements = samples.Read(t, c.endorsements)
			}
			r, err := Examine(t.Context(), samples.Read(t, c.file), o)
			if err != nil {
				t.Fatal(err)
			}
			if s := r.Sentence(); !strings.HasPrefix(s, c.want) || r.TCB != c.tcb || strings.Join(r.Advisories, " ") != c.advisories {
				t.Errorf("%s, TCB %q, advisories %v; want %s, %q, %s", s, r.TCB, r.Advisories, c.want, c.tcb, c.advisories)
			}
			if accepted := c.want == "GENUINE;"; (r.Refusal() == nil) != accepted {
				t.Errorf("refusal: %v", r.Refusal())
			}
			var text strings.Builder
			if err := r.Write(&text); err != nil || len(r.Fields) == 0 && !strings.Contains(c.want, "type 1") {
				t.Errorf("explained as\n%s%v", &text, err)
			}
		})
	}
}

// Collateral from a store rather than from one file.
func TestPublishedEvidenceWithAStore(t *testing.T) {
	var chains struct {
		TCBInfo string `json:"tcb_info_issuer_chain"`
		PCKCRL  string `json:"pck_crl_issuer_chain"`
		Root    string `json:"root_ca_crl"`
		CRL     string `json:"pck_crl"`
	}
	if err := json.Unmarshal(samples.Read(t, "tdx/dcap-qvl/tdx_quote_collateral.json"), &chains); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 6, 25, 12, 0, 0, 0, time.UTC)
	store, err := collateral.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fmspc, err := collateral.ParseFMSPC("00806F050000")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []collateral.Document{
		{Name: collateral.Name{Kind: collateral.TCBInfo, TEE: collateral.TDX, FMSPC: fmspc}, Body: samples.Read(t, "tdx/automata/0625_tcbinfov3_00806f050000.json"), Chain: []byte(chains.TCBInfo)},
		{Name: collateral.Name{Kind: collateral.QEIdentity, TEE: collateral.TDX}, Body: samples.Read(t, "tdx/automata/0625_qe_td.json"), Chain: []byte(chains.TCBInfo)},
		{Name: collateral.Name{Kind: collateral.PCKCRL, CA: collateral.CAPlatform}, Body: fromHex(t, chains.CRL), Chain: []byte(chains.PCKCRL)},
		{Name: collateral.Name{Kind: collateral.RootCRL}, Body: fromHex(t, chains.Root), Chain: []byte(chains.TCBInfo)},
	} {
		if err := store.Put(d, at); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Examine(t.Context(), samples.Read(t, "tdx/automata/quotev4.hex"), Options{Store: store, Now: at})
	if err != nil {
		t.Fatal(err)
	}
	if r.TCB != "OutOfDate" || strings.Join(r.Advisories, " ") != "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986" || r.Err != nil {
		t.Errorf("TCB %s, advisories %v, %v", r.TCB, r.Advisories, r.Err)
	}
}
