package bench

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// TestFailedVariantsAreNamed has a variant that nobody reaches, and one that fails in some rounds only.
func TestFailedVariantsAreNamed(t *testing.T) {
	nobody := func(context.Context) (net.Conn, error) { return nil, errors.New("nobody is there") }
	variants := []Variant{{Name: NativeTLS, Dial: nobody}}
	reports, err := Throughput(t.Context(), Plan{Shapes: Shapes[:1], QoS: []byte{1}, Payloads: []int{64}, Variants: variants, Rounds: 2, Window: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	names(t, reports.Failed(), "native-tls failed in every round (p2p, QoS 1, 64 bytes): subscriber 0: nobody is there")
	reports[0].Samples[0].Error, reports[0].Rows[0].Failed = "", 1
	names(t, reports.Failed(), "")

	paced, err := Paced(t.Context(), PacedPlan{Case: RateCase([]float64{10}, 64, 0), Variants: variants, Rounds: 2, Window: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const late = "native-tls failed in every round (rate, 10 messages per second, QoS 0, 64 bytes): subscriber 0: nobody is there"
	names(t, PacedReports{paced}.Failed(), late)
	names(t, (&Evaluation{Paced: []PacedReport{paced}, Throughput: reports}).Failed(), late)
	paced.Rows[0].Failed = 1
	names(t, PacedReports{paced}.Failed(), "")

	shut := ConnectReport{Rows: []ConnectRow{{ConnectSetting: ConnectSetting{Way: MosquittoTLS}, ConnectTimes: ConnectTimes{Error: "shut"}}}}
	names(t, (&Evaluation{Connect: &shut}).Failed(), "no client got in (mosquitto-tls")
}

// names checks that an error begins with words; none is that there is no error.
func names(t *testing.T, err error, words string) {
	t.Helper()
	if words == "" && err != nil || words != "" && (err == nil || !strings.HasPrefix(err.Error(), words)) {
		t.Errorf("error %v, want %q", err, words)
	}
}
