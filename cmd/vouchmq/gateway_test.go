package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
)

// TestGatewayReload: a newer bundle of the same owner is taken over, and nothing else.
func TestGatewayReload(t *testing.T) {
	ca, other := newOwner(t), newOwner(t)
	path := filepath.Join(t.TempDir(), "b")
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(bundleOf(t, ca, "plant.example", 2))
	b, err := (&gatewayFlags{bundle: path, connections: 1}).broker(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	third := bundleOf(t, ca, "plant.example", 3)
	for _, step := range []struct {
		content []byte
		says    string
		serial  uint64
	}{
		{third, "bundle read anew", 3},
		{third, "bundle read anew", 3},
		{bundleOf(t, ca, "plant.example", 3), "both have the serial number 3, and they differ", 3},
		{bundleOf(t, ca, "plant.example", 2), "serial number 2 of", 3},
		{bundleOf(t, other, "plant.example", 4), "signed by an owner that you do not know", 3},
		{bundleOf(t, ca, "other.example", 4), "bundle is for another service", 3},
		{[]byte("no bundle"), "not a VouchMQ bundle", 3},
		{bundleOf(t, ca, "plant.example", 4), "bundle read anew", 4},
	} {
		write(step.content)
		var log bytes.Buffer
		b.reload(slog.New(slog.NewTextHandler(&log, nil)))
		if got := b.bundle.Load().Serial; got != step.serial || !strings.Contains(log.String(), step.says) {
			t.Errorf("serial %d, log %s; want %d and %q", got, &log, step.serial, step.says)
		}
	}
}

// TestGatewayExpiredBundle: a gateway does not start with a bundle by which it would serve nobody, and does not take one over.
func TestGatewayExpiredBundle(t *testing.T) {
	ca, path := newOwner(t), filepath.Join(t.TempDir(), "b")
	expired := bundleOf(t, ca, "plant.example", 2, func(b *client.Bundle) { b.NotAfter = time.Now().Add(-time.Minute).Truncate(time.Second) })
	write := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(expired)
	f := &gatewayFlags{bundle: path, connections: 1}
	if _, err := f.broker(t.Context(), slog.New(slog.DiscardHandler)); !errors.Is(err, client.ErrBundleExpired) || outcomeOf(err).status != exitAttestation {
		t.Error(err)
	}
	write(bundleOf(t, ca, "plant.example", 1))
	b, err := f.broker(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	write(expired)
	var log bytes.Buffer
	if b.reload(slog.New(slog.NewTextHandler(&log, nil))) || !strings.Contains(log.String(), "expired") {
		t.Error(&log)
	}
}

func newOwner(t *testing.T) *owner.CA {
	ca, err := owner.New("Owner", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func bundleOf(t *testing.T, ca *owner.CA, service string, serial uint64, changes ...func(*client.Bundle)) []byte {
	t.Helper()
	ech, err := atls.NewECHKey("public.example", 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.New([]policy.Identity{policy.Simulated("broker", attest.Digest{1}, attest.Digest{}, attest.Digest{2})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := client.Bundle{Service: service, OwnerCA: ca.Certificate(), ECHConfigList: atls.ECHConfigList(ech), Policy: p, Serial: serial, IssuedAt: time.Unix(1_800_000_000, 0)}
	for _, change := range changes {
		change(&b)
	}
	file, err := b.Sign(ca.Key())
	if err != nil {
		t.Fatal(err)
	}
	return file
}
