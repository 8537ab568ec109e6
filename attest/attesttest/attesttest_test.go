package attesttest

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
)

var all = sync.OnceValues(All)

func evidence(t testing.TB) []Evidence {
	t.Helper()
	list, err := all()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestAll: each quote verifies by its own verifier, and by no other of its platform; a change of it does not.
func TestAll(t *testing.T) {
	var names []string
	for _, e := range evidence(t) {
		names = append(names, e.Name)
		claims, err := e.Verifier.Verify(t.Context(), e.Quote, e.Data, e.Now)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		short := e.Data.Short()
		if !bytes.Equal(claims.ReportData, e.Data[:]) && !bytes.Equal(claims.ReportData, short[:]) || claims.Platform != e.Quote.Platform {
			t.Errorf("%s: %+v", e.Name, claims)
		}
		bad := e.Quote
		bad.Data = slices.Clone(bad.Data)
		bad.Data[len(bad.Data)/4] ^= 1
		if _, err := e.Verifier.Verify(t.Context(), bad, e.Data, e.Now); err == nil {
			t.Errorf("%s: a change was accepted", e.Name)
		}
	}
	if want := []string{"SGX", "TDX v4", "TDX v5", "SEV-SNP Milan", "SEV-SNP Genoa", "SEV-SNP Turin", "TPM", "Nitro", "simulated"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

// BenchmarkVerify is what `vouchmq bench verify` measures.
func BenchmarkVerify(b *testing.B) {
	for _, e := range evidence(b) {
		b.Run(e.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Verifier.Verify(b.Context(), e.Quote, attest.ReportData{}, e.Now); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verifications/s")
		})
	}
}
