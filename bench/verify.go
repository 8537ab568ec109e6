package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/vouchmq/vouchmq/attest/attesttest"
)

// VerifyPlan says what [Verifications] measures.
type VerifyPlan struct {
	Evidence []attesttest.Evidence
	Rounds   int
	Window   time.Duration // of one measurement
	Progress func(round int, name string, each time.Duration)
}

// VerifyRow is the median of a kind of evidence.
type VerifyRow struct {
	Evidence  string        `json:"evidence"`
	PerSecond float64       `json:"verifications_per_second"` // of processor time
	Each      time.Duration `json:"each_ns"`                  // processor time of one
	// Signatures is the share of that time which checks of signatures take, as a profile of all rounds says.
	Signatures float64 `json:"signatures"`
}

// VerifyReport is what was measured.
type VerifyReport struct {
	Rows    []VerifyRow    `json:"rows"`
	Samples []VerifySample `json:"samples"`
}

// VerifySample is one measurement.
type VerifySample struct {
	Evidence string        `json:"evidence"`
	Round    int           `json:"round"`   // from 1
	Each     time.Duration `json:"each_ns"` // processor time of one verification
}

// verifySamples are what was measured of a kind of evidence.
type verifySamples struct {
	each    []time.Duration
	profile profileCount
}

// Verifications measures on one core what it costs to verify evidence with collateral at hand, over all kinds in turn. No quote is remembered. What counts is
// the processor time of the process, garbage collection included. The caller must not profile the process itself.
func Verifications(ctx context.Context, p VerifyPlan) (VerifyReport, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var r VerifyReport
	samples := make([]verifySamples, len(p.Evidence))
	for round := range p.Rounds {
		for i, e := range p.Evidence {
			if err := samples[i].measure(ctx, e, p.Window); err != nil {
				return VerifyReport{}, fmt.Errorf("%s: %w", e.Name, err)
			}
			r.Samples = append(r.Samples, VerifySample{e.Name, round + 1, samples[i].each[round]})
			p.Progress(round+1, e.Name, samples[i].each[round])
		}
	}
	for i, e := range p.Evidence {
		slices.Sort(samples[i].each)
		each := samples[i].each[len(samples[i].each)/2]
		r.Rows = append(r.Rows, VerifyRow{e.Name, float64(time.Second) / float64(each), each, samples[i].profile.share()})
	}
	return r, nil
}

// measure verifies evidence again and again, in one thread, until as much time is over.
func (s *verifySamples) measure(ctx context.Context, e attesttest.Evidence, window time.Duration) error {
	if _, err := e.Verifier.Verify(ctx, e.Quote, e.Data, e.Now); err != nil { // the first reads certificates that are in the program
		return err
	}
	runtime.GC() // what others have left is not of this measurement
	n := 0
	var used time.Duration
	count, err := profiled(signatureChecks, func() error {
		before, err := ownProcessorTime()
		if err != nil {
			return err
		}
		for end := time.Now().Add(window); time.Now().Before(end); n++ {
			if _, err := e.Verifier.Verify(ctx, e.Quote, e.Data, e.Now); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		after, err := ownProcessorTime()
		used = after - before
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 || used <= 0 {
		return errors.New("nothing was verified in the time of a measurement")
	}
	s.each = append(s.each, used/time.Duration(n))
	s.profile.add(count)
	return nil
}

// signatureChecks are the functions of the standard library that check signatures.
var signatureChecks = []string{
	"crypto/ecdsa.Verify", "crypto/ecdsa.VerifyASN1", "crypto/rsa.VerifyPKCS1v15", "crypto/rsa.VerifyPSS", "crypto/ed25519.Verify",
}

// WriteTable writes the medians for people.
func (r VerifyReport) WriteTable(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "evidence\tverifications/s\tµs each\tof it signatures\t")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f %%\t\n", row.Evidence, row.PerSecond, float64(row.Each)/float64(time.Microsecond), 100*row.Signatures)
	}
	return w.Flush()
}
