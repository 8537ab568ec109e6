package azure

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/samples"
)

// sampled is when the certificates of all recorded evidence are valid; intelSampled when Intel's collateral is.
var (
	sampled      = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	intelSampled = time.Date(2025, 6, 25, 12, 0, 0, 0, time.UTC)
)

// recorded is a quote as the recordings have it, in hexadecimal digits. The signature is bare.
type recorded struct {
	Message   string   `json:"message"`
	Signature string   `json:"signature"`
	PCRs      []string `json:"pcrs"`
}

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

func (r recorded) into(e *evidence) {
	e.Attested, e.Signature, e.PCRs = unhex(r.Message), signature(unhex(r.Signature)), nil
	for _, v := range r.PCRs {
		e.PCRs = append(e.PCRs, unhex(v))
	}
}

// binaryQuote reads the form with lengths (u64, little-endian).
func binaryQuote(b []byte) (r recorded) {
	take := func() []byte {
		n := int(b[0]) | int(b[1])<<8
		part := b[8 : 8+n]
		b = b[8+n:]
		return part
	}
	r.Signature, r.Message = hex.EncodeToString(take()), hex.EncodeToString(take())
	n := int(b[0])
	for b = b[8:]; n > 0; n-- {
		r.PCRs = append(r.PCRs, hex.EncodeToString(b[:32]))
		b = b[32:]
	}
	return r
}

func readJSON[T any](t *testing.T, name string) (v T) {
	t.Helper()
	if err := json.Unmarshal(samples.Read(t, name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

type whole struct {
	HCL   string   `json:"hcl_report"`
	Quote recorded `json:"tpm_quote"`
	VCEK  string   `json:"vcek"`
	TD    string   `json:"td_quote"`
}

const folder = "azure-vtpm/trustee/"

// recordings are all recordings that are whole: evidence, and what endorses it.
func recordings(t *testing.T) map[string]attest.Quote {
	block, _ := pem.Decode(samples.Read(t, folder+"snp/vcek.pem"))
	quotes := map[string]attest.Quote{}
	add := func(name string, e evidence, q recorded, endorsements []byte) {
		q.into(&e)
		e.Version = version
		quotes[name] = attest.Quote{Platform: attest.Azure, Data: must(dcbor.Encode(e)), Endorsements: endorsements}
	}
	collateral := intelCollateral(t)
	for _, of := range []struct {
		dir          string
		td           []byte
		endorsements []byte
	}{{"snp/", nil, block.Bytes}, {"tdx/", samples.Read(t, folder+"tdx/td-quote.bin"), collateral}} {
		e := evidence{HCL: samples.Read(t, folder+of.dir+"hcl-report.bin"), TDQuote: of.td}
		add(of.dir+"quote.bin", e, binaryQuote(samples.Read(t, folder+of.dir+"quote.bin")), of.endorsements)
		add(of.dir+"tpm-quote-v1.json", e, readJSON[recorded](t, folder+of.dir+"tpm-quote-v1.json"), of.endorsements)
	}
	for _, name := range []string{"snp/evidence-v1.json", "snp/evidence-v2.json", "tdx/evidence-v1.json"} {
		w := readJSON[whole](t, folder+name)
		endorsements := collateral
		if w.VCEK != "" {
			endorsements = must(base64.URLEncoding.DecodeString(w.VCEK))
		}
		e := evidence{HCL: must(base64.URLEncoding.DecodeString(w.HCL)), TDQuote: must(base64.URLEncoding.DecodeString(w.TD))}
		add(name, e, w.Quote, endorsements)
	}
	return quotes
}

// intelCollateral is that of the TD quote.
func intelCollateral(t *testing.T) []byte {
	all := readJSON[map[string]any](t, "tdx/dcap-qvl/tdx_quote_collateral.json")
	for member, file := range map[string]string{"tcb_info": "0625_tcbinfov3_00806f050000.json", "qe_identity": "0625_qe_td.json"} {
		parts := readJSON[map[string]json.RawMessage](t, "tdx/automata/"+file)
		for name, raw := range parts {
			if name == "signature" {
				all[member+"_signature"] = strings.Trim(string(raw), `"`)
			} else {
				all[member] = string(raw)
			}
		}
	}
	return must(json.Marshal(all))
}

func TestSamples(t *testing.T) {
	v := NewVerifier(nil)
	conditions := map[string]string{
		"snp/quote.bin": "smt provisional_firmware", "snp/tpm-quote-v1.json": "smt provisional_firmware",
		"snp/evidence-v1.json": "smt", "snp/evidence-v2.json": "smt",
	}
	quotes := recordings(t)
	if len(quotes) != 7 {
		t.Errorf("%d samples", len(quotes))
	}
	for name, q := range quotes {
		at, tcb := sampled, attest.TCBNotApplicable
		if strings.HasPrefix(name, "tdx") {
			at, tcb = intelSampled, attest.TCBOutOfDate
		}
		c, err := judge(v, q, at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		nonce := []byte("challenge")
		if name == "snp/evidence-v2.json" {
			nonce = userData(t, q)[:48]
		}
		if !bytes.Equal(c.ReportData, nonce) || c.TCB != tcb || c.Debug || strings.Join(c.Conditions, " ") != conditions[name] || len(c.Measurements["pcr23"]) != 32 {
			t.Errorf("%s: %+v", name, c)
		}
		if tcb == attest.TCBOutOfDate && !slices.Equal(c.Advisories, []string{"INTEL-SA-00960", "INTEL-SA-00982", "INTEL-SA-00986"}) {
			t.Errorf("%s: %v", name, c.Advisories)
		}
		if _, err := judge(v, q, sampled.AddDate(7, 0, 0)); !errors.Is(err, attest.ErrFreshness) {
			t.Errorf("%s, seven years later: %v", name, err)
		}
		checkFlips(t, v, name, q, at)
	}
}

// checkFlips flips bits of what is signed: quote, PCRs, runtime data.
func checkFlips(t *testing.T, v *Verifier, name string, q attest.Quote, at time.Time) {
	e, r, err := parse(q.Data)
	if err != nil {
		t.Fatal(err)
	}
	for part, b := range map[string][]byte{"quote": e.Attested, "signature": e.Signature, "PCR 5": e.PCRs[5], "runtime data": r.text} {
		for i := 0; i < len(b); i += 1 + len(b)/16 {
			b[i] ^= 4
			bad := q
			bad.Data = must(dcbor.Encode(e))
			if _, err := judge(v, bad, at); err == nil {
				t.Errorf("%s: accepted with byte %d of the %s changed", name, i, part)
			}
			b[i] ^= 4
		}
	}
}

func userData(t *testing.T, q attest.Quote) []byte {
	_, r, err := parse(q.Data)
	if err != nil {
		t.Fatal(err)
	}
	var data struct {
		User string `json:"user-data"`
	}
	if err := json.Unmarshal(r.text, &data); err != nil {
		t.Fatal(err)
	}
	return unhex(data.User)
}

// A quote by a vTPM that is not among the recordings is refused under the key of each of them.
func TestSampleOfAnotherTPM(t *testing.T) {
	message, bare := samples.Read(t, folder+"snp/tpm-quote.msg"), samples.Read(t, folder+"snp/tpm-quote.sig")
	v := NewVerifier(nil)
	for name, q := range recordings(t) {
		e, _, err := parse(q.Data)
		if err != nil {
			t.Fatal(err)
		}
		e.Attested, e.Signature = message, signature(bare)
		e.PCRs = append(slices.Clone(e.PCRs[:8]), e.PCRs[14])
		q.Data = must(dcbor.Encode(e))
		at := sampled
		if strings.HasPrefix(name, "tdx") {
			at = intelSampled
		}
		if _, err := judge(v, q, at); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
