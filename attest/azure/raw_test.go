package azure

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/internal/dcap"
	"github.com/vouchmq/vouchmq/attest/internal/dcap/dcaptest"
	"github.com/vouchmq/vouchmq/attest/tpm"
)

// The report alone: the hardware vouches for the key, and nothing says what has booted.
func TestVerifyHCL(t *testing.T) {
	for name, intel := range map[string]*dcaptest.World{"SEV-SNP": nil, "TDX": dcaptest.New(t)} {
		m := newMachine(intel)
		hcl, td := m.hcl()
		if IsTDX(hcl) != (intel != nil) {
			t.Errorf("%s: it is taken for another kind", name)
		}
		c, err := m.verifier().VerifyHCL(t.Context(), hcl, td, m.endorse(), now)
		if err != nil || c.Platform != attest.Azure || c.Measurements["pcr0"] != nil {
			t.Errorf("%s: %v, %+v", name, err, c)
		}
		changed := bytes.Replace(hcl, []byte(`"secure-boot":true`), []byte(`"secure-boot":1   `), 1)
		if _, err := m.verifier().VerifyHCL(t.Context(), changed, td, m.endorse(), now); !errors.Is(err, attest.ErrSignature) {
			t.Errorf("%s, other runtime data: %v", name, err)
		}
		want := map[string]error{"SEV-SNP": attest.ErrFormat, "TDX": dcap.FaultNoCollateral}[name]
		if _, err := m.verifier().VerifyHCL(t.Context(), hcl, td, nil, now); !errors.Is(err, want) {
			t.Errorf("%s, nothing beside it: %v", name, err)
		}
		if _, err := m.verifier().VerifyHCL(t.Context(), hcl[:1200], td, m.endorse(), now); !errors.Is(err, attest.ErrFormat) {
			t.Errorf("%s, cut short: %v", name, err)
		}
	}
	m := newMachine(dcaptest.New(t))
	hcl, _ := m.hcl()
	if _, err := m.verifier().VerifyHCL(t.Context(), hcl, nil, m.endorse(), now); !errors.Is(err, attest.ErrMissing) {
		t.Errorf("no TD quote: %v", err)
	}
}

// Parts put together are evidence as the attester makes it.
func TestEvidenceOfParts(t *testing.T) {
	m := newMachine(nil)
	hcl, _ := m.hcl()
	pcrs := [][]byte{slices.Repeat([]byte{0x10}, 32), slices.Repeat([]byte{0x14}, 32)}
	message := m.attested(pcrs)
	digest := sha256.Sum256(message)
	sign := func(k *rsa.PrivateKey) []byte {
		return must(rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, digest[:]))
	}
	key := must(Key(hcl))
	for name, c := range map[string]struct {
		signature []byte
		want      error
	}{
		"bare": {sign(m.amd.ak), nil}, "structured": {signature(sign(m.amd.ak)), nil}, "another vTPM": {sign(m.amd.otherAK), attest.ErrSignature},
	} {
		q := must(Evidence(hcl, nil, must(tpm.ReadQuote(message, c.signature, pcrs, key))))
		q.Endorsements = m.endorse()
		claims, err := m.verifier().Verify(t.Context(), q, attest.ReportData{}, now)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && !bytes.Equal(claims.Measurements["pcr14"], pcrs[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Key(hcl[:100]); !errors.Is(err, attest.ErrFormat) {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	for name, intel := range map[string]*dcaptest.World{"SEV-SNP": nil, "TDX": dcaptest.New(t)} {
		m := newMachine(intel)
		m.text = func(data map[string]any) { data["user-data"], data["odd\x1b"] = "0000", []int{1} }
		q := m.quote(t)
		fields, err := Describe(q)
		if err != nil {
			t.Fatal(err)
		}
		said := map[string]string{}
		for _, f := range fields {
			said[f.Name] = f.Value
		}
		for field, want := range map[string]string{
			"key HCLAkPub": "RSA, 2048 bits", "secure-boot": "true", "user-data": "2 bytes of zeros", `"odd\x1b"`: "[1]", "PCRs of the bank SHA-256": "0 14",
		} {
			if said[field] != want {
				t.Errorf("%s: %s is %q, want %q; there are %v", name, field, said[field], want, slices.Sorted(maps.Keys(said)))
			}
		}
		if (said["measurement"] != "") != (intel == nil) || (TDQuote(q) != nil) != (intel != nil) {
			t.Errorf("%s: %v", name, said)
		}
	}
	for _, data := range [][]byte{nil, []byte("no evidence")} {
		if _, err := Describe(attest.Quote{Data: data}); !errors.Is(err, attest.ErrFormat) {
			t.Error(err)
		}
		if _, err := DescribeHCL(data, nil); !errors.Is(err, attest.ErrFormat) {
			t.Error(err)
		}
	}
}
