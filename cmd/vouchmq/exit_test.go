package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/cmd/vouchmq/internal/pubsub"
)

func TestOutcomes(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: errors.New("refused")}
	for name, c := range map[string]struct {
		err    error
		status int
		hint   bool
	}{
		"anything":              {errors.New("x"), exitGeneral, false},
		"dial":                  {fmt.Errorf("a: %w", dial), exitConnect, true},
		"dial within attested":  {attest.Errorf(attest.ErrTLS, "connect: %w", dial), exitConnect, true},
		"no such host":          {&net.DNSError{Err: "no such host"}, exitConnect, true},
		"lost":                  {fmt.Errorf("%w: %w", pubsub.ErrLost, io.EOF), exitConnect, false},
		"no CONNACK":            {pubsub.ErrNoConnack, exitConnect, false},
		"module":                {attest.Errorf(attest.ErrModule, "x"), exitAttestation, true},
		"binding":               {attest.Errorf(attest.ErrBinding, "x"), exitAttestation, true},
		"zero report data":      {attest.Errorf(attest.ErrZeroReportData, "x"), exitAttestation, true},
		"read of a TLS stream":  {attest.Errorf(attest.ErrTLS, "x: %w", &net.OpError{Op: "read", Err: io.EOF}), exitAttestation, true},
		"refusal by the broker": {&pubsub.Refusal{Reason: 0x87}, exitRefused, true},
		"expired bundle":        {fmt.Errorf("x: %w", client.ErrBundleExpired), exitAttestation, false},
		"tampered bundle":       {fmt.Errorf("x: %w", client.ErrBundleSignature), exitAttestation, false},
		"refused bundle":        {explainBundle(fmt.Errorf("x: %w", client.ErrBundleRollback)), exitAttestation, false},
		"time":                  {errTimeout, exitTimeout, false},
		"own hint":              {withHint(errors.New("x"), "do y"), exitGeneral, true},
	} {
		o := outcomeOf(c.err)
		if o.status != c.status || (o.hint != "") != c.hint {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// TestWrongClock: who meets a certificate out of its time is asked for the clock, not whether this is the right broker.
func TestWrongClock(t *testing.T) {
	early := &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "current time is before"}}
	o := outcomeOf(attest.Errorf(attest.ErrTLS, "TLS handshake: %w", early))
	if o.status != exitAttestation || o.hint != clockHint {
		t.Errorf("%+v", o)
	}
}

// TestCauseOfTheEnd: a broken connection that was broken by the end of the time is no broken connection.
func TestCauseOfTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	lost := errors.New("lost")
	if err := causeOr(ctx, lost); err != lost {
		t.Error(err)
	}
	cancel(errTimeout)
	if err := causeOr(ctx, lost); err != errTimeout {
		t.Error(err)
	}
}

func TestJoinProperties(t *testing.T) {
	got := joinProperties([]string{"pub", "-D", "publish", "content-type", "x", "-t", "a", "-D", "publish", "user-property", "k", "v", "-m", "x"})
	want := fmt.Sprintf("%q", []string{
		"pub", "--property=publish\x00content-type\x00x", "-t", "a", "--property=publish\x00user-property\x00k\x00v", "-m", "x",
	})
	if fmt.Sprintf("%q", got) != want {
		t.Errorf("%q", got)
	}
	if got := joinProperties([]string{"inspect", "-D", "a", "b"}); len(got) != 4 {
		t.Errorf("%q", got)
	}
	if got := joinProperties([]string{"pub", "--", "-D", "a"}); len(got) != 4 {
		t.Errorf("%q", got)
	}
}
