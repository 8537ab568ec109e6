package client_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vouchmq/vouchmq/atls"
	"github.com/vouchmq/vouchmq/atls/owner"
	"github.com/vouchmq/vouchmq/attest"
	"github.com/vouchmq/vouchmq/attest/policy"
	"github.com/vouchmq/vouchmq/attest/sim"
	"github.com/vouchmq/vouchmq/client"
	"github.com/vouchmq/vouchmq/internal/dcbor"
	"github.com/vouchmq/vouchmq/internal/fuzzbound"
	"github.com/vouchmq/vouchmq/internal/leaktest"
	"github.com/vouchmq/vouchmq/internal/sign1"
	. "github.com/vouchmq/vouchmq/internal/testkit"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var module = attest.Sum([]byte("module"))

// plant is an owner with one broker, which echoes.
type plant struct {
	ca     *owner.CA
	bundle *client.Bundle
	addr   string
}

func newPlant(t testing.TB, change func(*atls.ServerConfig)) *plant {
	t.Helper()
	p := &plant{ca: Must(owner.New("Owner of the plant", time.Now(), time.Hour))(t)}
	key, ech, tee := Must(owner.NewKey())(t), Must(atls.NewECHKey("public.example", 1))(t), Must(sim.NewKey())(t)
	leaf := Must(p.ca.IssueServer(&key.PublicKey, owner.Server{Service: "plant.example", PublicName: "public.example"}, time.Now(), time.Hour))(t)
	config := atls.ServerConfig{
		Service: "plant.example", Certificate: owner.TLSCertificate(leaf, key), ECHKeys: []*atls.ECHKey{ech},
		Attester: sim.NewAttester(tee, attest.Digest{1}), Identity: attest.Identity{Module: module, Instance: "broker-1"},
	}
	if change != nil {
		change(&config)
	}
	p.addr = echo(t, Must(atls.NewServer(context.Background(), config))(t))
	p.bundle = &client.Bundle{
		Service: "plant.example", Addresses: []string{p.addr}, OwnerCA: p.ca.Certificate(),
		ECHConfigList: atls.ECHConfigList(ech), Serial: 7, IssuedAt: time.Unix(1_800_000_000, 0).UTC(),
		Policy: Must(policy.New([]policy.Identity{policy.Simulated("broker", module, attest.Digest{}, tee.Digest())}, nil))(t),
	}
	return p
}

func echo(t testing.TB, server *atls.Server) string {
	t.Helper()
	l := Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				if conn, err := server.Handshake(context.Background(), raw); err == nil {
					io.Copy(conn, conn)
					conn.Close()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func (p *plant) file(t testing.TB) []byte {
	t.Helper()
	return Must(p.bundle.Sign(p.ca.Key()))(t)
}

func TestDial(t *testing.T) {
	p := newPlant(t, nil)
	bundle := Must(client.ParseBundle(p.file(t)))(t)
	conn, verdict, err := client.Dial(context.Background(), bundle, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !verdict.Accepted || verdict.Facts.Module != module || verdict.Identities[0] != "broker" {
		t.Errorf("%+v", verdict)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDialRefuses(t *testing.T) {
	p := newPlant(t, func(c *atls.ServerConfig) { c.Identity.Module[0] ^= 1 })
	conn, verdict, err := client.Dial(context.Background(), p.bundle, client.Options{})
	if conn != nil || !errors.Is(err, attest.ErrModule) || verdict == nil || verdict.Accepted || verdict.Facts == nil {
		t.Errorf("%v, %+v, %v", conn, verdict, err)
	}
}

// TestAddresses: unreachable ones are passed over, a refusal ends the search.
func TestAddresses(t *testing.T) {
	wrong := newPlant(t, func(c *atls.ServerConfig) { c.Identity.Module[0] ^= 1 })
	right := newPlant(t, nil)
	right.bundle.Addresses = []string{Nobody(t), right.addr}
	conn, _, err := client.Dial(context.Background(), right.bundle, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()

	wrong.bundle.Addresses = append(wrong.bundle.Addresses, right.addr)
	if _, _, err := client.Dial(context.Background(), wrong.bundle, client.Options{}); !errors.Is(err, attest.ErrModule) {
		t.Errorf("%v", err)
	}

	right.bundle.Addresses = nil
	if _, _, err := client.Dial(context.Background(), right.bundle, client.Options{}); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("%v", err)
	}
	conn, _, err = client.Dial(context.Background(), right.bundle, client.Options{Address: right.addr})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestCarrier: the broker is asked in the way that was chosen, and shown the certificate that it wants.
func TestCarrier(t *testing.T) {
	for _, carrier := range []atls.Carrier{"", atls.N1, atls.P1} {
		p := newPlant(t, nil)
		conn, verdict, err := client.Dial(context.Background(), p.bundle, client.Options{Carrier: carrier})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		want := cmp.Or(carrier, atls.N1)
		report, err := client.Inspect(context.Background(), p.bundle, client.Options{Carrier: carrier})
		if err != nil || !verdict.Accepted || !report.Verdict.Accepted || conn.Peer().Carrier != want || report.Carrier != want {
			t.Errorf("%q: %v, %+v", carrier, err, report)
		}
	}
	key := Must(owner.NewKey())(t)
	device := Must(owner.New("Device", time.Now(), time.Hour))(t) // a CA can be a client as well
	p := newPlant(t, func(c *atls.ServerConfig) { c.Reveal, c.ClientCAs = atls.RevealAuthenticated, device.Pool() })
	for name, certificate := range map[string]*tls.Certificate{
		"":       {Certificate: [][]byte{device.Certificate().Raw}, PrivateKey: device.Key()},
		"no key": {Certificate: [][]byte{device.Certificate().Raw}, PrivateKey: key},
		"none":   nil,
	} {
		report, err := client.Inspect(context.Background(), p.bundle, client.Options{Certificate: certificate})
		if err != nil || report.Verdict.Accepted != (name == "") {
			t.Errorf("%q: %v, %v", name, err, report.Verdict.Err)
		}
	}
}

func TestUnattested(t *testing.T) {
	p := newPlant(t, nil)
	conn, verdict, err := client.Dial(context.Background(), p.bundle, client.Options{Unattested: true})
	if err != nil || verdict != nil {
		t.Fatal(verdict, err)
	}
	conn.Close()
}

func TestInspect(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(*atls.ServerConfig)
		kind     attest.Kind
		verified bool
	}{
		"accepted":     {nil, 0, true},
		"wrong module": {func(c *atls.ServerConfig) { c.Identity.Module[0] ^= 1 }, attest.ErrModule, true},
		"no attester":  {func(c *atls.ServerConfig) { c.Attester = nil }, attest.ErrMissing, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t, test.change)
			report, err := client.Inspect(context.Background(), p.bundle, client.Options{})
			if err != nil {
				t.Fatal(err)
			}
			v := report.Verdict
			if v.Accepted != (test.kind == 0) || policy.KindOf(v.Err) != test.kind || (v.Facts != nil) != test.verified || report.Address != p.addr {
				t.Errorf("%+v: %+v", report, v)
			}
			if kept, err := attest.DecodeEvidence(report.Evidence); (err == nil) != test.verified || test.verified && kept.Quote.Platform != attest.Sim {
				t.Errorf("evidence of %d bytes: %v", len(report.Evidence), err)
			}
			if test.verified && (report.Certificate == nil || v.Facts.Instance != "broker-1") {
				t.Errorf("%+v", report)
			}
		})
	}
	p := newPlant(t, nil)
	if report, err := client.Inspect(context.Background(), p.bundle, client.Options{Address: Nobody(t)}); err == nil || report != nil {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestBundleRoundTrip(t *testing.T) {
	p := newPlant(t, nil)
	file := p.file(t)
	got := Must(client.ParseBundle(append([]byte("\n"), file...)))(t)
	if got.Service != p.bundle.Service || got.Serial != 7 || !got.IssuedAt.Equal(p.bundle.IssuedAt) || got.Policy.Digest() != p.bundle.Policy.Digest() ||
		got.Fingerprint() != owner.Fingerprint(p.ca.Certificate()) || !bytes.Equal(got.ECHConfigList, p.bundle.ECHConfigList) || got.Addresses[0] != p.addr {
		t.Errorf("%+v", got)
	}
}

// seal signs any payload as a bundle.
func seal(t testing.TB, key *ecdsa.PrivateKey, payload any) []byte {
	t.Helper()
	signed := Must(sign1.Sign(key, "vouchmq/bundle/v2", Must(dcbor.Encode(payload))(t)))(t)
	return pem.EncodeToMemory(&pem.Block{Type: "VOUCHMQ BUNDLE", Bytes: signed})
}

func TestBundleRefused(t *testing.T) {
	p, other := newPlant(t, nil), newPlant(t, nil)
	file := p.file(t)
	payload := func(change func(map[string]any)) []byte {
		m := map[string]any{
			"version": 2, "service": p.bundle.Service, "addresses": p.bundle.Addresses, "owner_ca": p.bundle.OwnerCA.Raw,
			"ech": p.bundle.ECHConfigList, "policy": p.bundle.Policy.Canonical(), "serial": 7, "issued_at": 0, "not_after": 0, "next_ca": []byte{},
		}
		change(m)
		return seal(t, p.ca.Key(), m)
	}
	if _, err := client.ParseBundle(payload(func(map[string]any) {})); err != nil {
		t.Fatal("control:", err)
	}
	block, _ := pem.Decode(file)
	tampered := bytes.Replace(block.Bytes, []byte("plant.example"), []byte("plant.evil.io"), 1)
	rules := Must(policy.New(p.bundle.Policy.Identities(), []policy.Rule{{Who: []policy.Who{{User: "x"}}}}))(t)
	for name, test := range map[string]struct {
		file []byte
		want error
	}{
		"empty":              {nil, client.ErrBundleFormat},
		"not PEM":            {[]byte("hello"), client.ErrBundleFormat},
		"other PEM":          {p.ca.CertificatePEM(), client.ErrBundleFormat},
		"cut short":          {file[:len(file)/2], client.ErrBundleFormat},
		"content cut short":  {pem.EncodeToMemory(&pem.Block{Type: "VOUCHMQ BUNDLE", Bytes: block.Bytes[:200]}), client.ErrBundleFormat},
		"two":                {append(bytes.Clone(file), file...), client.ErrBundleFormat},
		"too large":          {bytes.Repeat([]byte("x"), 1<<20+1), client.ErrBundleFormat},
		"tampered":           {pem.EncodeToMemory(&pem.Block{Type: "VOUCHMQ BUNDLE", Bytes: tampered}), client.ErrBundleSignature},
		"signed by another":  {seal(t, other.ca.Key(), map[string]any{"version": 2, "service": "s", "addresses": []string{}, "owner_ca": p.bundle.OwnerCA.Raw, "ech": []byte{}, "policy": []byte{}, "serial": 0, "issued_at": 0, "not_after": 0, "next_ca": []byte{}}), client.ErrBundleSignature},
		"newer version":      {payload(func(m map[string]any) { m["version"] = 3; m["more"] = "x" }), client.ErrBundleVersion},
		"unknown key":        {payload(func(m map[string]any) { m["more"] = "x" }), client.ErrBundleFormat},
		"missing key":        {payload(func(m map[string]any) { delete(m, "serial") }), client.ErrBundleFormat},
		"bad service":        {payload(func(m map[string]any) { m["service"] = "Plant!" }), client.ErrBundleContent},
		"bad address":        {payload(func(m map[string]any) { m["addresses"] = []string{"plant"} }), client.ErrBundleContent},
		"address that acts":  {payload(func(m map[string]any) { m["addresses"] = []string{"plant\u009b31m:1883"} }), client.ErrBundleContent},
		"address turned":     {payload(func(m map[string]any) { m["addresses"] = []string{"plant\u202eelpmaxe:1883"} }), client.ErrBundleContent},
		"bad ECH":            {payload(func(m map[string]any) { m["ech"] = []byte{0, 1, 2} }), client.ErrBundleContent},
		"bad policy":         {payload(func(m map[string]any) { m["policy"] = []byte{0xa0} }), client.ErrBundleContent},
		"policy with rules":  {payload(func(m map[string]any) { m["policy"] = rules.Canonical() }), client.ErrBundleContent},
		"CA not CA":          {payload(func(m map[string]any) { m["owner_ca"] = leafOf(t, p) }), client.ErrBundleContent},
		"older version":      {payload(func(m map[string]any) { m["version"] = 1; delete(m, "next_ca"); delete(m, "not_after") }), client.ErrBundleVersion},
		"next CA not CA":     {payload(func(m map[string]any) { m["next_ca"] = leafOf(t, p) }), client.ErrBundleContent},
		"next CA damaged":    {payload(func(m map[string]any) { m["next_ca"] = []byte("x") }), client.ErrBundleFormat},
		"CA not certificate": {payload(func(m map[string]any) { m["owner_ca"] = []byte("x") }), client.ErrBundleFormat},
	} {
		if _, err := client.ParseBundle(test.file); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.bundle.Sign(other.ca.Key()); !errors.Is(err, client.ErrBundleSignature) {
		t.Error("signed with another key:", err)
	}
}

func leafOf(t *testing.T, p *plant) []byte {
	key := Must(owner.NewKey())(t)
	return Must(p.ca.IssueServer(&key.PublicKey, owner.Server{Service: "plant.example"}, time.Now(), time.Hour))(t).Raw
}

func FuzzBundle(f *testing.F) {
	p := &plant{ca: Must(owner.New("Owner", time.Now(), time.Hour))(f)}
	ech := Must(atls.NewECHKey("public.example", 1))(f)
	p.bundle = &client.Bundle{
		Service: "plant.example", OwnerCA: p.ca.Certificate(), ECHConfigList: atls.ECHConfigList(ech), IssuedAt: time.Unix(0, 0),
		Policy: Must(policy.New([]policy.Identity{policy.Simulated("broker", module, attest.Digest{}, attest.Digest{})}, nil))(f),
	}
	block, _ := pem.Decode(p.file(f))
	f.Add(block.Bytes)
	f.Fuzz(fuzzbound.Of(func(t *testing.T, content []byte) {
		// The armour is put on here, so that the fuzzer works on what is in it.
		b, err := client.ParseBundle(pem.EncodeToMemory(&pem.Block{Type: "VOUCHMQ BUNDLE", Bytes: content}))
		if err == nil && (b.Policy == nil || b.OwnerCA == nil) {
			t.Error("accepted an incomplete bundle")
		}
	}))
}
