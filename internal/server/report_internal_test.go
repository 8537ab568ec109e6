package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
)

// certified is an attester with a certificate, uncertified one without.
type (
	uncertified struct{ attest.Attester }
	certified   struct {
		uncertified
		until time.Time
	}
)

func (uncertified) Platform() attest.Platform { return attest.TPM }
func (c certified) Expiry() time.Time         { return c.until }

func TestCertificateOfTheAttestationKeyIsWarnedOf(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		attester attest.Attester
		want     int
	}{
		{uncertified{}, 0}, {certified{}, 0}, {certified{until: now.Add(warnAhead + time.Hour)}, 0},
		{certified{until: now.Add(warnAhead - time.Hour)}, 1}, {certified{until: now.Add(-time.Hour)}, 1},
	} {
		var log bytes.Buffer
		n := warnAttester(slog.New(slog.NewTextHandler(&log, nil)), test.attester, now)
		if n != test.want || strings.Contains(log.String(), "ATTESTATION KEY EXPIRES SOON") != (test.want == 1) {
			t.Errorf("%+v: %d warnings, %s", test.attester, n, &log)
		}
	}
}
