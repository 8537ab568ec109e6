package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
)

// spy is the verifier of the simulated TEE, and keeps what it verified.
type spy struct {
	sim.Verifier
	want  attest.ReportData
	quote []byte
}

func (s *spy) registry() *attest.Registry { return attest.NewRegistry(s) }

// Verify keeps the quote and has it verified.
func (s *spy) Verify(ctx context.Context, q attest.Quote, want attest.ReportData, now time.Time) (attest.PlatformClaims, error) {
	s.want, s.quote = want, q.Data
	return s.Verifier.Verify(ctx, q, want, now)
}

// recorder keeps what randomness it gave out: first the nonce.
type recorder struct{ got []byte }

// Read reads randomness.
func (r *recorder) Read(b []byte) (int, error) {
	n, err := rand.Read(b)
	r.got = append(r.got, b[:n]...)
	return n, err
}
