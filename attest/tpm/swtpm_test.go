package tpm_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/tpm"
	"github.com/vouchmq/vouchmq/attest/tpm/tpmtest"
)

// enrolled enrols a machine as its owner does, and returns the certificates of its AK.
func enrolled(t *testing.T, m *tpmtest.Machine, ca *owner.CA) []byte {
	t.Helper()
	asked, err := tpm.NewRequest(t.Context(), m.Socket)
	must(t, err)
	text, err := asked.Encode()
	must(t, err)
	request, err := tpm.ParseRequest(text)
	must(t, err)
	pem, err := os.ReadFile(m.Roots)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	must(t, request.VerifyEK(roots, time.Now()))
	challenge, pending, err := request.Challenge(rand.Reader)
	must(t, err)
	answer, err := tpm.Answer(t.Context(), m.Socket, challenge)
	must(t, err)
	text, _, err = pending.Certify(answer, ca.Certificate(), ca.Key(), time.Now(), time.Hour)
	must(t, err)
	der, err := tpm.DecodeCertificates(text)
	must(t, err)
	return der
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, a *tpm.Attester, data attest.ReportData) attest.PlatformClaims {
	t.Helper()
	q, err := a.Attest(t.Context(), data)
	must(t, err)
	claims, err := tpm.NewVerifier().Verify(t.Context(), q, data, time.Now())
	must(t, err)
	return claims
}

func TestSoftwareTPM(t *testing.T) {
	m := tpmtest.New(t)
	ca, err := owner.New("owner of machines", time.Now(), 24*time.Hour)
	must(t, err)
	certificates := enrolled(t, m, ca)
	module, data := attest.Sum([]byte("a module")), attest.ReportData{1, 2, 3}
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
		a, err := tpm.NewAttester(t.Context(), tpm.Options{Device: m.Socket, Hash: hash, Certificates: certificates})
		must(t, err)
		name := map[crypto.Hash]string{crypto.SHA256: "pcr14", crypto.SHA384: "pcr14_sha384"}[hash]
		must(t, a.Measure(t.Context(), module))
		must(t, a.Measure(t.Context(), module)) // as a broker does that is started again
		claims := verify(t, a, data)
		if short := data.Short(); !bytes.Equal(claims.ReportData, short[:]) {
			t.Errorf("report data %x", claims.ReportData)
		}
		if !bytes.Equal(claims.Measurements[name], tpm.ModuleRegister(hash, module)) {
			t.Errorf("%s is %x", name, claims.Measurements[name])
		}
		registers, err := a.Registers(t.Context())
		if err != nil || len(registers) != 9 || !bytes.Equal(registers[14], claims.Measurements[name]) {
			t.Errorf("registers %x, %v", registers, err)
		}
		if key := a.Key(); !bytes.Equal(claims.Measurements["ak"], key[:]) {
			t.Errorf("ak is %x", claims.Measurements["ak"])
		}
		if want := owner.Fingerprint(ca.Certificate()); !bytes.Equal(claims.Measurements["ak_ca"], want[:]) || claims.HardwareID == "" {
			t.Errorf("ak_ca is %x, hardware %q", claims.Measurements["ak_ca"], claims.HardwareID)
		}
		if claims.Expiry.IsZero() || !a.Expiry().Equal(claims.Expiry) {
			t.Errorf("expires %v, and what verifiers see %v", a.Expiry(), claims.Expiry)
		}
	}
	a, err := tpm.NewAttester(t.Context(), tpm.Options{Device: m.Socket})
	must(t, err)
	if err := a.Measure(t.Context(), attest.Sum([]byte("another module"))); !errors.Is(err, attest.ErrNotAlone) {
		t.Errorf("another module before: %v", err)
	}
	if bytes.Equal(verify(t, a, data).Measurements["pcr14"], tpm.ModuleRegister(crypto.SHA256, module)) {
		t.Error("another module was measured, and PCR 14 is the same")
	}
	m.SwitchOff()
	if _, err := a.Attest(t.Context(), data); !errors.Is(err, tpm.ErrNoDevice) {
		t.Errorf("without a device: %v", err)
	}
	m.SwitchOn()
	if claims := verify(t, a, data); !bytes.Equal(claims.Measurements["pcr14"], make([]byte, 32)) {
		t.Errorf("after a start PCR 14 is %x", claims.Measurements["pcr14"])
	}
}
