package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/client"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// again is the bundle of a plant as it is after a change, through a file, signed by a CA.
func again(t *testing.T, p *plant, ca *owner.CA, change func(*client.Bundle)) *client.Bundle {
	t.Helper()
	b := *p.bundle
	b.OwnerCA = ca.Certificate()
	change(&b)
	return Must(client.ParseBundle(Must(b.Sign(ca.Key()))(t)))(t)
}

func TestWhichBundleTakesThePlaceOfWhich(t *testing.T) {
	p := newPlant(t, nil)
	next, stranger := Must(owner.New("Next", time.Now(), time.Hour))(t), Must(owner.New("Stranger", time.Now(), time.Hour))(t)
	none := func(*client.Bundle) {}
	old := again(t, p, p.ca, none)
	announcing := again(t, p, p.ca, func(b *client.Bundle) { b.NextCA, b.Serial = next.Certificate(), 8 })
	for name, test := range map[string]struct {
		old, new *client.Bundle
		want     error
	}{
		"higher serial":                  {old, announcing, nil},
		"the same":                       {old, again(t, p, p.ca, none), nil},
		"lower serial":                   {announcing, old, client.ErrBundleRollback},
		"same serial, another content":   {old, again(t, p, p.ca, func(b *client.Bundle) { b.Addresses = nil }), client.ErrBundleRollback},
		"another service":                {old, again(t, p, p.ca, func(b *client.Bundle) { b.Service, b.Serial = "other.example", 9 }), client.ErrBundleService},
		"announced CA, low serial":       {announcing, again(t, p, next, func(b *client.Bundle) { b.Serial = 1 }), nil},
		"CA that was not announced":      {old, again(t, p, next, func(b *client.Bundle) { b.Serial = 9 }), client.ErrBundleOwner},
		"CA other than the announced":    {announcing, again(t, p, stranger, func(b *client.Bundle) { b.Serial = 9 }), client.ErrBundleOwner},
		"back from the next CA":          {again(t, p, next, none), announcing, client.ErrBundleOwner},
		"the new one announces its past": {old, again(t, p, stranger, func(b *client.Bundle) { b.NextCA, b.Serial = p.ca.Certificate(), 9 }), client.ErrBundleOwner},
	} {
		if err := test.new.Succeeds(test.old); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExpiredBundleIsNotUsed(t *testing.T) {
	p := newPlant(t, nil)
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	b := again(t, p, p.ca, func(b *client.Bundle) { b.NotAfter = end })
	dial := func(at time.Time) error {
		conn, _, err := client.Dial(context.Background(), b, client.Options{Now: func() time.Time { return at }})
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := dial(end.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if err := dial(end); !errors.Is(err, client.ErrBundleExpired) {
		t.Error(err)
	}
	if _, err := client.Inspect(context.Background(), b, client.Options{Now: func() time.Time { return end }}); !errors.Is(err, client.ErrBundleExpired) {
		t.Error(err)
	}
}

// TestAnnouncedCAIsTrusted: once the next CA is announced, the broker may show a certificate of it.
func TestAnnouncedCAIsTrusted(t *testing.T) {
	next := Must(owner.New("Next", time.Now(), time.Hour))(t)
	p := newPlant(t, func(c *atls.ServerConfig) { c.Certificate = issued(t, next) })
	if _, _, err := client.Dial(context.Background(), p.bundle, client.Options{}); !errors.Is(err, attest.ErrTLS) {
		t.Fatal("trusted a CA that nobody announced:", err)
	}
	b := again(t, p, p.ca, func(b *client.Bundle) { b.NextCA = next.Certificate() })
	conn, _, err := client.Dial(context.Background(), b, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if v := b.Reappraise(conn, client.Options{}); !v.Accepted {
		t.Error("trusted for a new connection, and not for one that stands:", v.Err)
	}
	if v := p.bundle.Reappraise(conn, client.Options{}); v.Accepted {
		t.Error("a bundle that does not announce the CA trusts it")
	}
}

func issued(t *testing.T, ca *owner.CA) tls.Certificate {
	key := Must(owner.NewKey())(t)
	leaf := Must(ca.IssueServer(&key.PublicKey, owner.Server{Service: "plant.example", PublicName: "public.example"}, time.Now(), time.Hour))(t)
	return owner.TLSCertificate(leaf, key)
}

func TestOwnerOfABundle(t *testing.T) {
	p := newPlant(t, nil)
	if err := p.bundle.CheckOwner(p.bundle.Fingerprint()); err != nil {
		t.Error(err)
	}
	if err := p.bundle.CheckOwner(attest.Digest{1}); !errors.Is(err, client.ErrBundleOwner) {
		t.Error(err)
	}
}
