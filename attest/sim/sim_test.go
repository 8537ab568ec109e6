package sim_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/testkit"
)

func newKey(t testing.TB) *sim.Key {
	t.Helper()
	return testkit.Must(sim.NewKey())(t)
}

func quote(t testing.TB, a *sim.Attester, data attest.ReportData) attest.Quote {
	t.Helper()
	q, err := a.Attest(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func verify(q attest.Quote) (attest.PlatformClaims, error) {
	return sim.NewVerifier().Verify(context.Background(), q, attest.ReportData{}, time.Now())
}

func TestQuote(t *testing.T) {
	key := newKey(t)
	data := attest.ReportData{1, 2, 3}
	c, err := verify(quote(t, sim.NewAttester(key, attest.Digest{9}), data))
	if err != nil {
		t.Fatal(err)
	}
	digest := key.Digest()
	if !bytes.Equal(c.ReportData, data[:]) || !bytes.Equal(c.Measurements["key"], digest[:]) || c.Measurements["measurement"][0] != 9 ||
		c.TCB != attest.TCBSimulated || c.Debug || !c.Expiry.IsZero() {
		t.Errorf("%+v", c)
	}
}

// TestEveryBitIsCovered: no bit of a quote can be changed.
func TestEveryBitIsCovered(t *testing.T) {
	q := quote(t, sim.NewAttester(newKey(t), attest.Digest{9}), attest.ReportData{1})
	for i := range 8 * len(q.Data) {
		bad := attest.Quote{Platform: attest.Sim, Data: bytes.Clone(q.Data)}
		bad.Data[i/8] ^= 1 << (i % 8)
		_, err := verify(bad)
		if !errors.Is(err, attest.ErrFormat) && !errors.Is(err, attest.ErrSignature) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
}

func TestSaysInsecure(t *testing.T) {
	key := newKey(t)
	file, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	q := quote(t, sim.NewAttester(key, attest.Digest{}), attest.ReportData{1})
	if !bytes.Contains(q.Data, []byte("INSECURE")) || !bytes.Contains(file, []byte("INSECURE")) {
		t.Error("quote and key file must say what they are")
	}
}

func TestKeyFile(t *testing.T) {
	key := newKey(t)
	file, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := sim.ParseKey(file)
	if err != nil || again.Digest() != key.Digest() {
		t.Fatal("key changed on its way through a file:", err)
	}
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(p384)
	block, _ := pem.Decode(file)
	for name, bad := range map[string][]byte{
		"empty": nil, "trailing": append(bytes.Clone(file), 'x'),
		"other type":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes}),
		"other curve": pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}),
		"garbage":     pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: []byte("x")}),
	} {
		if _, err := sim.ParseKey(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDelayHonoursContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := sim.NewAttester(newKey(t), attest.Digest{}).WithFaults(sim.Faults{Delay: time.Hour}).Attest(ctx, attest.ReportData{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A device makes one quote after the other: three at the same time take three times as long as one.
func TestQuoteTimeIsOfOneDevice(t *testing.T) {
	const each, n = 20 * time.Millisecond, 3
	a := sim.NewAttester(newKey(t), attest.Digest{}).WithQuoteTime(each)
	begun := time.Now()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := a.Attest(t.Context(), attest.ReportData{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took < n*each {
		t.Errorf("%d quotes took %v", n, took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Attest(ctx, attest.ReportData{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := a.WithQuoteTime(time.Hour).WithQuoteTime(0).Attest(t.Context(), attest.ReportData{}); err != nil {
		t.Error(err)
	}
}

func FuzzQuote(f *testing.F) {
	f.Add(quote(f, sim.NewAttester(newKey(f), attest.Digest{9}), attest.ReportData{1}).Data)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, data []byte) {
		c, err := verify(attest.Quote{Platform: attest.Sim, Data: data})
		if err == nil && len(c.ReportData) != attest.ReportDataSize {
			t.Errorf("%+v", c)
		}
	}))
}
