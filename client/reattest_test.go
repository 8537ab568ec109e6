package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/client"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

// A newer bundle judges the broker of a connection that stands.
func TestBundleReappraises(t *testing.T) {
	p, stranger := newPlant(t, nil), newPlant(t, nil)
	conn, _, err := client.Dial(context.Background(), p.bundle, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if v := p.bundle.Reappraise(conn, client.Options{}); !v.Accepted {
		t.Error("the same bundle:", v.Err)
	}
	changed := func(change func(*client.Bundle)) *client.Bundle {
		b := *p.bundle
		change(&b)
		return &b
	}
	for name, test := range map[string]struct {
		bundle *client.Bundle
		now    time.Time
		want   attest.Kind
	}{
		"other module": {changed(func(b *client.Bundle) {
			ids := b.Policy.Identities()
			ids[0].Modules = []attest.Digest{{1}}
			b.Policy = Must(policy.New(ids, nil))(t)
		}), time.Now(), attest.ErrModule},
		"other TEE":           {changed(func(b *client.Bundle) { b.Policy = stranger.bundle.Policy }), time.Now(), attest.ErrPlatform},
		"other service":       {changed(func(b *client.Bundle) { b.Service = "other.example" }), time.Now(), attest.ErrPolicy},
		"other owner":         {changed(func(b *client.Bundle) { b.OwnerCA = stranger.ca.Certificate() }), time.Now(), attest.ErrTLS},
		"expired bundle":      {changed(func(b *client.Bundle) { b.NotAfter = time.Now() }), time.Now(), attest.ErrPolicy},
		"expired certificate": {p.bundle, time.Now().Add(2 * time.Hour), attest.ErrTLS},
	} {
		v := test.bundle.Reappraise(conn, client.Options{Now: func() time.Time { return test.now }})
		if v.Accepted || !errors.Is(v.Err, test.want) {
			t.Errorf("%s: %v, want %v", name, v.Err, test.want)
		}
	}
}

// Keep begins rounds when they are due, and ends with the first that fails.
func TestKeep(t *testing.T) {
	p := newPlant(t, nil)
	conn, _, err := client.Dial(context.Background(), p.bundle, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	re, ctx := client.NewReattester(conn), context.Background()
	if err := re.Keep(ctx, "", nil); err != nil {
		t.Error("nothing is demanded:", err)
	}
	rounds, failure := 0, errors.New("no")
	err = re.Keep(ctx, "0", func(_ context.Context, data []byte) (string, error) {
		if rounds++; rounds == 3 {
			return "", failure
		}
		if len(data) == 0 {
			t.Error("a round without a request")
		}
		return "0", nil
	})
	if !errors.Is(err, failure) || rounds != 3 {
		t.Errorf("%d rounds, %v", rounds, err)
	}
	for _, bad := range []string{"x", "-1", "1.5", "99999999999"} {
		if err := re.Keep(ctx, bad, nil); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	re.Hurry()
	if err := re.Keep(ctx, "900", func(context.Context, []byte) (string, error) { return "", nil }); err != nil {
		t.Error("in a hurry:", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := re.Keep(over, "900", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// A challenge that nobody has asked for ends the connection.
	if _, err := client.NewReattester(conn).Answer(ctx, []byte("x")); err == nil {
		t.Error("it is answered")
	}
	if _, err := conn.Write([]byte("x")); err == nil {
		t.Error("the connection is open")
	}
}
