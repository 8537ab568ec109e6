package dcap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// sampleQuote reads a raw quote, one in hexadecimal digits, or one within JSON.
func sampleQuote(t testing.TB, name string) []byte {
	t.Helper()
	data := samples.Read(t, name)
	switch filepath.Ext(name) {
	case ".json":
		var w struct{ QuoteHex string }
		if err := json.Unmarshal(data, &w); err != nil {
			t.Fatal(err)
		}
		return digits(t, w.QuoteHex)
	case ".hex":
		return digits(t, string(data))
	}
	return data
}

func digits(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// collateral is a complete set, parts of which other files replace.
type collateral struct {
	base, tcbInfo, qeIdentity, pckCRL string
}

func sampleDocuments(t testing.TB, c collateral) *Documents {
	t.Helper()
	d, err := ParseDocuments(samples.Read(t, c.base))
	if err != nil {
		t.Fatal(err)
	}
	if c.tcbInfo != "" {
		d.TCBInfo = sampleSigned(t, c.tcbInfo, memberTCBInfo, d.TCBInfo.Chain)
	}
	if c.qeIdentity != "" {
		d.QEIdentity = sampleSigned(t, c.qeIdentity, memberQEIdentity, d.QEIdentity.Chain)
	}
	if c.pckCRL != "" {
		platform, err := ParseDocuments(samples.Read(t, "tdx/dcap-qvl/tdx_quote_collateral.json"))
		if err != nil {
			t.Fatal(err)
		}
		d.PCKCRL, d.PCKCRLChain = samples.Read(t, c.pckCRL), platform.PCKCRLChain
	}
	return d
}

func sampleSigned(t testing.TB, name, member string, chain []byte) Signed {
	t.Helper()
	signed, err := splitSigned(samples.Read(t, name), member, chain)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func at(day string) time.Time {
	now, err := time.Parse(time.DateOnly+"T15", day+"T12")
	if err != nil {
		panic(err)
	}
	return now
}

var (
	sgxQvl      = collateral{base: "sgx/dcap-qvl/sgx_quote_collateral.json"}
	sgxAutomata = collateral{
		base: "sgx/dcap-qvl/sgx_quote_collateral.json", tcbInfo: "sgx/automata/0825_sgx_tcbinfov3_00606a000000.json",
		qeIdentity: "sgx/automata/0825_sgx_qeidentity_v4.json", pckCRL: "sgx/automata/0825_platform_crl.der",
	}
	tdxQvl      = collateral{base: "tdx/dcap-qvl/tdx_quote_collateral.json"}
	tdxOutdated = collateral{base: "tdx/dcap-qvl/tdx_quote_outdated_collateral.json"}
	tdx0625     = collateral{
		base: "tdx/dcap-qvl/tdx_quote_collateral.json", tcbInfo: "tdx/automata/0625_tcbinfov3_00806f050000.json",
		qeIdentity: "tdx/automata/0625_qe_td.json",
	}
	tdx0625Alibaba = collateral{
		base: "tdx/dcap-qvl/tdx_quote_collateral.json", tcbInfo: "tdx/automata/0625_tcbinfov3_90C06F000000.json",
		qeIdentity: "tdx/automata/0625_qe_td.json",
	}
	tdx1025 = collateral{
		base: "tdx/dcap-qvl/tdx_quote_collateral.json", tcbInfo: "tdx/automata/1025_tcb_info.json",
		qeIdentity: "tdx/automata/1025_identity.json", pckCRL: "tdx/automata/1025_pck_crl.der",
	}
)

// TestSamples: each published quote with its collateral gives the published result.
func TestSamples(t *testing.T) {
	uptodate, late := attest.TCBUpToDate, attest.TCBOutOfDate
	for _, c := range []struct {
		quote      string
		tee        TEE
		collateral collateral
		day        string
		noCRLs     bool
		tcb        attest.TCBStatus // all, platform, module, QE
		parts      [3]attest.TCBStatus
		advisories string
		debug      bool
		err        error
	}{
		{quote: "sgx/dcap-qvl/sgx_quote", collateral: sgxQvl, day: "2025-06-25", tcb: attest.TCBConfigurationAndSWHardeningNeeded,
			parts: [3]attest.TCBStatus{attest.TCBConfigurationAndSWHardeningNeeded, "", uptodate}, advisories: "INTEL-SA-00289 INTEL-SA-00615"},
		{quote: "sgx/automata/quotev3.hex", collateral: sgxAutomata, day: "2025-08-20", tcb: attest.TCBSWHardeningNeeded,
			parts: [3]attest.TCBStatus{attest.TCBSWHardeningNeeded, "", uptodate}, advisories: "INTEL-SA-00615"},
		{quote: "tdx/dcap-qvl/tdx_quote", tee: TDX, collateral: tdxQvl, day: "2025-06-25", tcb: uptodate, parts: [3]attest.TCBStatus{uptodate, uptodate, uptodate}},
		{quote: "tdx/dcap-qvl/tdx_quote_outdated", tee: TDX, collateral: tdxOutdated, day: "2026-02-23", err: FaultTCBLevel},
		{quote: "tdx/dcap-qvl/quote-from-tappd.hex", tee: TDX, collateral: tdxQvl, day: "2025-06-25", err: FaultTCBLevel},
		{quote: "tdx/dcap-qvl/tdx-quote.hex", tee: TDX, collateral: tdxQvl, day: "2025-06-25", err: FaultTCBLevel},
		{quote: "tdx/automata/quotev4.hex", tee: TDX, collateral: tdx0625, day: "2025-06-25", tcb: late,
			parts: [3]attest.TCBStatus{late, uptodate, uptodate}, advisories: "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986"},
		{quote: "tdx/automata/quotev4.hex", tee: TDX, collateral: tdx0625, day: "2025-06-10", noCRLs: true, tcb: late,
			parts: [3]attest.TCBStatus{late, uptodate, uptodate}, advisories: "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986"},
		{quote: "tdx/automata/quotev4.hex", tee: TDX, collateral: tdx1025, day: "2025-10-25", tcb: late,
			parts: [3]attest.TCBStatus{late, uptodate, uptodate}, advisories: "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986"},
		{quote: "tdx/automata/quotes_alibaba_quote_5.dat", tee: TDX, collateral: tdx0625Alibaba, day: "2025-06-25", tcb: uptodate,
			parts: [3]attest.TCBStatus{uptodate, uptodate, uptodate}},
		{quote: "tdx/automata/quotes_alibaba_quote_5.dat", tee: TDX, collateral: tdx0625Alibaba, day: "2025-06-20", noCRLs: true, tcb: uptodate,
			parts: [3]attest.TCBStatus{uptodate, uptodate, uptodate}},
		{quote: "tdx/automata/quotes_alibaba_quote_5.dat", tee: TDX, collateral: tdxOutdated, day: "2026-02-23", tcb: late,
			parts: [3]attest.TCBStatus{late, late, uptodate}, advisories: "INTEL-SA-01036 INTEL-SA-01079 INTEL-SA-01099 INTEL-SA-01103 INTEL-SA-01111"},
		{quote: "azure-vtpm/trustee/tdx/td-quote.bin", tee: TDX, collateral: tdx0625, day: "2025-06-25", tcb: late,
			parts: [3]attest.TCBStatus{late, late, uptodate}, advisories: "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986"},
		{quote: "azure-vtpm/trustee/tdx/td-quote.bin", tee: TDX, collateral: tdx1025, day: "2025-10-25", tcb: late,
			parts: [3]attest.TCBStatus{late, late, uptodate}, advisories: "INTEL-SA-00960 INTEL-SA-00982 INTEL-SA-00986"},
		// TCB info of version 2.
		{quote: "sgx/automata/quotev3.hex", collateral: collateral{base: sgxQvl.base, tcbInfo: "sgx/automata/0625_tcbinfo.json",
			qeIdentity: "sgx/automata/0625_identity.json"}, day: "2025-06-20", noCRLs: true, err: FaultCollateralMismatch},
	} {
		t.Run(filepath.Base(c.quote)+" "+c.day, func(t *testing.T) {
			endorsements, err := sampleDocuments(t, c.collateral).Encode()
			if err != nil {
				t.Fatal(err)
			}
			v := &Verifier{TEE: c.tee, Root: IntelRoot(), withoutCRLs: c.noCRLs}
			quote := attest.Quote{Platform: c.tee.Platform(), Data: sampleQuote(t, c.quote), Endorsements: endorsements}
			r := v.Appraise(quote, at(c.day))
			if c.err != nil {
				if !errors.Is(r.Err, c.err) {
					t.Errorf("%v, want %v", r.Err, c.err)
				}
				return
			}
			claims, err := r.Claims()
			if err != nil {
				t.Fatal(err)
			}
			if bound := slices.Contains(claims.Conditions, attest.ConditionServiceTD); bound != strings.Contains(c.quote, "alibaba") {
				t.Errorf("conditions %v", claims.Conditions) // one is bound to a service TD
			}
			if claims.TCB != c.tcb || strings.Join(claims.Advisories, " ") != c.advisories || claims.Debug != c.debug {
				t.Errorf("%s %v debug %v", claims.TCB, claims.Advisories, claims.Debug)
			}
			if parts := [3]attest.TCBStatus{statusOf(r.Platform), statusOf(r.Module), statusOf(r.QE)}; parts != c.parts {
				t.Errorf("platform, module and QE are %q, want %q", parts, c.parts)
			}
			if r.CRLs == c.noCRLs || r.Origin != OriginEvidence || claims.HardwareID == "" || !claims.Expiry.After(at(c.day)) {
				t.Errorf("CRLs %v, origin %s, hardware %q, expiry %v", r.CRLs, r.Origin, claims.HardwareID, claims.Expiry)
			}
		})
	}
}

func statusOf(l *Level) attest.TCBStatus {
	if l == nil {
		return ""
	}
	return l.Status
}

// TestSamplesWithoutCollateral: chains and signatures of all published quotes hold, and without collateral that is
// not enough.
func TestSamplesWithoutCollateral(t *testing.T) {
	for _, c := range []struct {
		quote string
		tee   TEE
		debug bool
		prod  uint16
		svn   uint16
	}{
		{quote: "sgx/azure/enclave.info.release.json", prod: 1, svn: 1},
		{quote: "sgx/azure/enclave.info.debug.json", prod: 1, svn: 1, debug: true},
		{quote: "sgx/azure/enclave.info.prodid.json", prod: 9999, svn: 1},
		{quote: "sgx/azure/enclave.info.securityversion.json", prod: 1, svn: 8888},
		{quote: "tdx/dcap-qvl/tdx_quote_outdated", tee: TDX},
		{quote: "tdx/dcap-qvl/quote-from-tappd.hex", tee: TDX},
		{quote: "tdx/dcap-qvl/tdx-quote.hex", tee: TDX},
		{quote: "tdx/trustee/tdx_quote_4.dat", tee: TDX, debug: true},
		{quote: "azure-vtpm/trustee/tdx/td-quote.bin", tee: TDX},
	} {
		t.Run(filepath.Base(c.quote), func(t *testing.T) {
			v := &Verifier{TEE: c.tee, Root: IntelRoot()}
			r := v.Appraise(attest.Quote{Data: sampleQuote(t, c.quote)}, at("2026-06-01"))
			if !errors.Is(r.Err, FaultNoCollateral) {
				t.Fatal(r.Err)
			}
			for _, name := range []string{"PCK certificate chain", "signature of the QE report", "attestation key", "signature of the quote"} {
				if i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == name }); r.Checks[i].Outcome != Passed {
					t.Errorf("%s: %v", name, r.Checks[i])
				}
			}
			if c.tee == TDX {
				if r.Quote.TD.Debug() != c.debug {
					t.Error("debug is", !c.debug)
				}
				return
			}
			if e := r.Quote.Enclave; e.Debug() != c.debug || e.ISVProdID != c.prod || e.ISVSVN != c.svn {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestSampleBits: of a published quote, too, no bit of what is signed can be changed. It is every 11th.
func TestSampleBits(t *testing.T) {
	d, data := sampleDocuments(t, tdxQvl), samples.Read(t, "tdx/dcap-qvl/tdx_quote")
	c, err := d.Open(IntelRoot())
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{TEE: TDX, Root: IntelRoot(), Source: only{c}}
	if r := v.Appraise(attest.Quote{Data: data}, at("2025-06-25")); r.Err != nil {
		t.Fatal(r.Err)
	}
	for i := 0; i < 8*bytes.Index(data, []byte("-----BEGIN")); i += 11 {
		data[i/8] ^= 1 << (i % 8)
		if r := v.Appraise(attest.Quote{Data: data}, at("2025-06-25")); r.Err == nil {
			t.Fatalf("bit %d of byte %d does not count", i%8, i/8)
		}
		data[i/8] ^= 1 << (i % 8)
	}
}

// only is a source of one set.
type only struct{ has *Collateral }

func (o only) Collateral(Need) (*Collateral, error) { return o.has, nil }
func (o only) MinEvaluation(TEE) uint32             { return 0 }

// TestSamplesOfAnotherRoot: Intel's own test data has the right names and another key.
func TestSamplesOfAnotherRoot(t *testing.T) {
	const dir = "sgx/intel-qvl-TESTROOT/"
	if _, err := ParseQuote(samples.Read(t, dir+"quote.dat")); !errors.Is(err, FaultUnsupported) {
		t.Error("quote:", err)
	}
	root := samples.Read(t, dir+"trustedRootCaCert.pem")
	pck := append(samples.Read(t, dir+"pckCert.pem"), samples.Read(t, dir+"pckSignChain.pem")...)
	if _, err := verifyPCK(pck, IntelRoot()); !errors.Is(err, FaultRoot) && !errors.Is(err, FaultChain) {
		t.Error("PCK chain:", err)
	}
	signing := samples.Read(t, dir+"tcbSignChain.pem")
	for name, err := range map[string]error{
		"TCB info": openError(OpenTCBInfo(sampleSigned(t, dir+"tcbInfo.json", memberTCBInfo, signing), IntelRoot())),
		"identity": openError(OpenQEIdentity(sampleSigned(t, dir+"qeIdentity.json", memberQEIdentity, signing), IntelRoot())),
		"root CRL": openError(OpenRootCRL(samples.Read(t, dir+"rootCaCrl.der"), root, IntelRoot())),
		"PCK CRL":  openError(OpenPCKCRL(samples.Read(t, dir+"intermediateCaCrl.der"), samples.Read(t, dir+"pckSignChain.pem"), IntelRoot())),
	} {
		if !errors.Is(err, FaultRoot) && !errors.Is(err, FaultChain) {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(name, err)
	}
}

func openError[T any](_ T, err error) error { return err }
